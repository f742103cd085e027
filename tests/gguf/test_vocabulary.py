"""The tokenizers of GGUF files, rebuilt."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from mlx_suite.export.gguf import export_gguf
from mlx_suite.gguf.file import open_gguf
from mlx_suite.gguf.vocabulary import write_tokenizer
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer, load_chat_template, load_tokenizer
from tests.export.checkpoints import (
    FIRST,
    PREPEND,
    TINY_GEMMA2,
    TINY_LLAMA3,
    random_checkpoint,
    spaced_checkpoint,
    without_template,
)
from tests.gguf.converted import assert_same, metadata_of
from tests.gguf.tricky_texts import TRICKY_TEXTS

NO_TEMPLATE = (
    "The file has no chat template: for chats put the template of the model's family into chat_template.jinja."
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
)


def exported(folder: Path) -> dict[str, Any]:
    """Metadata of the checkpoint as our own export writes it."""
    path = folder.parent / "exported.gguf"
    export_gguf(folder, path, type="f16")
    return dict(open_gguf(path).metadata)


def rebuilt(metadata: dict[str, Any], folder: Path) -> Tokenizer:
    folder.mkdir()
    write_tokenizer(metadata, folder)
    return load_tokenizer(folder)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def tiny(source: Path, **changes: Any) -> dict[str, Any]:
    """Metadata of a shipped tokenizer as llama.cpp's converter writes it."""
    config = read(source, "tokenizer_config.json")
    config.pop("chat_template", None)
    family = {"architecture": "llama", "pre": "llama-bpe"} if source == TINY_LLAMA3 else {"architecture": "gemma2"}
    return metadata_of(read(source, "tokenizer.json"), config, 2048, **family) | changes  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "source"), [("llama", TINY_LLAMA3), ("gemma2", TINY_GEMMA2)])
def test_an_exported_tokenizer_comes_back_with_equal_ids_and_text(family: str, source: Path, tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", family, source)
    ours, theirs = rebuilt(exported(tmp_path / "model"), tmp_path / "out"), load_tokenizer(source)
    assert_same(ours, theirs)
    assert (ours.stop_ids, ours.adds_bos) == (theirs.stop_ids, theirs.adds_bos)
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (theirs.bos_id, theirs.eos_id, theirs.pad_id)
    assert ours.special_ids == theirs.special_ids
    assert load_chat_template(tmp_path / "out").source == load_chat_template(source).source


def test_an_exported_tokenizer_with_nfc_comes_back_as_qwens(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "llama")
    file = read(tmp_path / "model", "tokenizer.json")
    file["normalizer"] = {"type": "NFC"}
    file["model"]["ignore_merges"] = False
    pattern = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace("{1,3}", "")
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    metadata = exported(tmp_path / "model")
    assert metadata["tokenizer.ggml.pre"] == "qwen2"
    ours = rebuilt(metadata, tmp_path / "out")
    assert ours.encode("cafe\u0301") == ours.encode("caf\u00e9")
    assert_same(ours, load_tokenizer(tmp_path / "model"))


@pytest.mark.parametrize("source", [TINY_LLAMA3, TINY_GEMMA2])
def test_a_file_of_llama_cpps_converter_gives_equal_ids_and_text(source: Path, tmp_path: Path) -> None:
    assert_same(rebuilt(tiny(source), tmp_path / "out"), load_tokenizer(source))


@pytest.mark.parametrize("spaces", [PREPEND, FIRST])
def test_a_space_before_texts_comes_back(spaces: dict[str, Any], tmp_path: Path) -> None:
    spaced_checkpoint(tmp_path / "model", spaces)
    without_template(tmp_path / "model")
    ours, theirs = rebuilt(exported(tmp_path / "model"), tmp_path / "out"), load_tokenizer(tmp_path / "model")
    # With `first`, the library adds no space to a text that begins with one, nor after a token cut out of the text.
    cut = re.compile(r"^[ ▁]|[\n\t]|<.+>|\[.+\]")
    texts = [text for text in TRICKY_TEXTS if spaces is PREPEND or not cut.search(text)]
    assert [ours.encode(text) for text in texts] == [theirs.encode(text) for text in texts]
    assert ours.decode(ours.encode("two  words")) == "two  words"


def test_a_sentencepiece_model_gives_the_ids_of_sentencepiece(tmp_path: Path) -> None:
    library = sentencepiece_model()
    kinds = [
        2 if library.is_unknown(i) else 3 if library.is_control(i) else 6 if library.is_byte(i) else 1
        for i in range(len(library))
    ]
    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [library.id_to_piece(i) for i in range(len(library))],
        "tokenizer.ggml.scores": np.array([library.get_score(i) for i in range(len(library))], np.float32),
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
    }
    ours = rebuilt(metadata, tmp_path / "out")
    ids = [library.encode(text) for text in TRICKY_TEXTS]
    assert [ours.encode(text) for text in TRICKY_TEXTS] == ids
    assert [ours.decode(each) for each in ids] == [library.decode(each) for each in ids]
    assert (ours.bos_id, ours.eos_id, ours.adds_bos, ours.stop_ids) == (1, 2, True, {2})


def sentencepiece_model() -> sentencepiece.SentencePieceProcessor:
    """Like Llama 2's: a space before each text, bytes for unknown characters."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TRICKY_TEXTS if text.strip() and "\0" not in text] * 3),
        model_writer=stream,
        model_type="bpe",
        vocab_size=1200,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        byte_fallback=True,
        character_coverage=0.98,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())


def test_with_inst_as_a_token_only_the_first_text_gets_a_space(tmp_path: Path) -> None:
    metadata = tiny(TINY_GEMMA2) | {"general.architecture": "llama", "tokenizer.ggml.add_space_prefix": True}
    rebuilt(metadata, tmp_path / "older")
    assert read(tmp_path / "older", "tokenizer.json")["normalizer"]["normalizers"][0] == {
        "type": "Prepend",
        "prepend": "▁",
    }
    tokens = ["[INST]" if text == "<start_of_turn>" else text for text in metadata["tokenizer.ggml.tokens"]]
    rebuilt(metadata | {"tokenizer.ggml.tokens": tokens}, tmp_path / "newer")
    assert read(tmp_path / "newer", "tokenizer.json")["pre_tokenizer"]["prepend_scheme"] == "first"


def test_embedding_rows_without_a_token_are_left_out(tmp_path: Path) -> None:
    config = read(TINY_LLAMA3, "tokenizer_config.json")
    file = read(TINY_LLAMA3, "tokenizer.json")
    metadata = metadata_of(file, config, 2100, architecture="llama", pre="llama-bpe")
    assert metadata["tokenizer.ggml.tokens"][-1] == "[PAD2099]"
    assert rebuilt(metadata, tmp_path / "out").vocab_size == 2048


def test_stop_tokens_are_the_files_own_the_well_known_and_the_templates(tmp_path: Path) -> None:
    metadata = tiny(TINY_LLAMA3)
    tokens = metadata["tokenizer.ggml.tokens"]
    plain = rebuilt(metadata, tmp_path / "plain")
    names = {"<|eom_id|>", "<|eot_id|>", "<|end_of_text|>"}
    assert {plain.token_of(index) for index in plain.stop_ids} == names
    last = tokens.index("<|reserved_special_token_7|>")
    template = "{% for m in messages %}{{ m.content }}<|reserved_special_token_7|>{% endfor %}"
    told = metadata | {"tokenizer.chat_template": template, "tokenizer.ggml.eot_token_id": 2046}
    assert rebuilt(told, tmp_path / "told").stop_ids == plain.stop_ids | {last, 2046}


def test_turn_markers_are_special_tokens_even_if_the_file_marks_them_as_text(tmp_path: Path) -> None:
    metadata = tiny(TINY_GEMMA2)
    for index in (106, 107):
        metadata["tokenizer.ggml.token_type"][index] = 4
    ours = rebuilt(metadata, tmp_path / "out")
    assert {106, 107} <= ours.special_ids
    assert ours.stop_ids == {1, 107}


def test_generation_settings_that_are_there_are_kept(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.6}', encoding="utf-8")
    assert write_tokenizer(tiny(TINY_GEMMA2), tmp_path) == [NO_TEMPLATE]
    assert read(tmp_path, "generation_config.json") == {
        "temperature": 0.6,
        "bos_token_id": 2,
        "pad_token_id": 0,
        "eos_token_id": [1, 107],
    }


def test_named_templates_come_along(tmp_path: Path) -> None:
    named = {
        "tokenizer.chat_template": CHATML,
        "tokenizer.chat_templates": ["tool_use"],
        "tokenizer.chat_template.tool_use": "{{ tools }}",
    }
    assert write_tokenizer(tiny(TINY_LLAMA3) | named, tmp_path) == []
    assert read(tmp_path, "tokenizer_config.json")["chat_template"] == [
        {"name": "default", "template": CHATML},
        {"name": "tool_use", "template": "{{ tools }}"},
    ]
    assert load_chat_template(tmp_path).source == CHATML


def test_a_bos_that_nothing_uses_is_none(tmp_path: Path) -> None:
    unused = {"tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": CHATML}
    assert rebuilt(tiny(TINY_LLAMA3) | unused, tmp_path / "out").bos_id is None


def test_what_the_file_lacks_is_said(tmp_path: Path) -> None:
    metadata = tiny(TINY_LLAMA3)
    for key in ("pre", "eos_token_id", "token_type"):
        metadata.pop(f"tokenizer.ggml.{key}")
    assert write_tokenizer(metadata, tmp_path) == [
        "The file has no token types: only BOS, EOS and padding are special tokens.",
        "The file does not name its pre-tokenizer: llama-bpe is assumed; a newer file would say.",
        NO_TEMPLATE,
        "The file names no stop token: generation ends only at the length limit.",
    ]


def test_a_template_that_fails_is_said(tmp_path: Path) -> None:
    broken = {"tokenizer.chat_template": "{% for %}"}
    [sentence] = write_tokenizer(tiny(TINY_GEMMA2) | broken, tmp_path)
    assert sentence.startswith("The file's chat template cannot be used: the chat template is not valid Jinja: ")


def test_equal_scores_leave_the_order_of_the_ids(tmp_path: Path) -> None:
    metadata = tiny(TINY_GEMMA2) | {"tokenizer.ggml.scores": [-1000.0] * 2048}
    (tmp_path / "out").mkdir()
    assert write_tokenizer(metadata, tmp_path / "out") == [
        "All scores in the file are equal: tokens are merged in the order of their ids.",
        NO_TEMPLATE,
    ]
    assert_same(load_tokenizer(tmp_path / "out"), load_tokenizer(TINY_GEMMA2))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tokenizer.ggml.model": "bert"}, "the file's tokenizer is of kind 'bert'"),
        ({"tokenizer.ggml.model": None}, "the file has no tokenizer"),
        ({"tokenizer.ggml.scores": [1.0]}, "tokenizer.ggml.scores has 1 entries for 2,048 tokens"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "tokenizer.ggml.token_type has 2 entries for 2,048 tokens"),
        ({"tokenizer.ggml.tokens": ["a"] * 2048}, "several tokens are spelled 'a'"),
    ],
)
def test_a_vocabulary_that_cannot_be_right_is_refused(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        write_tokenizer(tiny(TINY_GEMMA2) | change, tmp_path)
    assert problem in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_pre_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        write_tokenizer(tiny(TINY_LLAMA3) | {"tokenizer.ggml.pre": "kimi-k2"}, tmp_path)
    assert str(caught.value) == (
        "error: the file's pre-tokenizer 'kimi-k2' is not supported; with another one the model would read other "
        "tokens\n"
        "where: tokenizer.ggml.pre\n"
        "fix:   use the model's Hugging Face folder, which holds its tokenizer.json"
    )
