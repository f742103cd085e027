"""Small tokenizers of the model families with different formats, created once per session."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Library

from mlx_suite.text import ChatTemplate, Tokenizer, load_chat_template, load_tokenizer
from mlx_suite.text.training import train_gemma2_tokenizer, train_llama3_tokenizer

TEMPLATES = Path(__file__).parent / "templates"

LINES = [
    "user\n\nWhat is the capital of France? assistant\n\nThe capital of France is Paris.\n\n",
    "user\nWho wrote the letter to the mayor of the town? model\nThe user and the assistant did.\n",
    "system You are a helpful assistant. The quick brown fox jumps over the lazy dog: 0123456789.",
    "def total(numbers):\n    return sum(numbers)  # it's the sum, isn't it?\n",
] * 20


@dataclass(frozen=True, kw_only=True)
class Family:
    """A tokenizer and a chat template, with their folder."""

    folder: Path
    tokenizer: Tokenizer
    template: ChatTemplate


@pytest.fixture(scope="session")
def llama3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama3")
    train_llama3_tokenizer(LINES, folder, vocab_size=384)
    return folder


@pytest.fixture(scope="session")
def gemma2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gemma2")
    train_gemma2_tokenizer(LINES, folder, vocab_size=560)
    return folder


@pytest.fixture(scope="session")
def gemma2_model_folder(gemma2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Gemma 2 tokenizer without tokenizer.json, so that SentencePiece is used."""
    folder = tmp_path_factory.mktemp("gemma2_model")
    for path in gemma2_folder.iterdir():
        if path.name != "tokenizer.json":
            shutil.copy(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def byte_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama 3 tokenizer without a single merge: printable ASCII is `ord(letter) - 33`."""
    folder = tmp_path_factory.mktemp("bytes")
    train_llama3_tokenizer([], folder, vocab_size=256 + 16)
    return folder


@pytest.fixture(scope="session")
def family(
    llama3_folder: Path, gemma2_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Family]:
    """Create a family by the name of its template; cached."""
    made: dict[str, Family] = {}

    def make(name: str) -> Family:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            if name.startswith("llama3"):
                shutil.copytree(llama3_folder, folder, dirs_exist_ok=True)
            elif name.startswith("gemma"):
                shutil.copytree(gemma2_folder, folder, dirs_exist_ok=True)
            elif name.startswith("qwen"):
                _write_qwen(folder)
            elif name == "r1":
                _write_r1(folder)
            elif name.startswith("mistral"):
                _write_mistral(folder)
            else:
                _write_phi3(folder)
            shutil.copy(TEMPLATES / f"{name}.jinja", folder / "chat_template.jinja")
            made[name] = Family(
                folder=folder,
                tokenizer=load_tokenizer(folder),
                template=load_chat_template(folder),
            )
        return made[name]

    return make


def _special(*names: str, eats_right: bool = False) -> list[AddedToken]:
    return [AddedToken(n, special=True, normalized=False, rstrip=eats_right) for n in names]


def _write_qwen(folder: Path) -> None:
    """Byte-level BPE with NFC normalization and without a BOS token."""
    library = Library(models.BPE())
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(LINES, trainer)
    library.add_special_tokens(_special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    library.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>")])
    _write(folder, library, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _write_r1(folder: Path) -> None:
    """Byte-level BPE with the markers of DeepSeek R1's distilled models."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library.train_from_iterator(LINES, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    library.add_special_tokens(
        _special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
    )
    library.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>")])
    _write(folder, library, bos_token="<｜begin▁of▁sentence｜>", eos_token="<｜end▁of▁sentence｜>", add_bos_token=True)


def _write_mistral(folder: Path) -> None:
    """SentencePiece's behaviour in a tokenizer.json: the first text of a sequence gets a leading space."""
    library = _with_bytes(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    library.add_special_tokens(_special("<unk>", "<s>", "</s>", "[INST]", "[/INST]"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    _write(folder, library, add_bos_token=True, **roles)


def _write_phi3(folder: Path) -> None:
    """Llama 2's behaviour: every text gets a leading space; turn markers absorb the newline after them."""
    markers = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
    library = _with_bytes(["<unk>", "<s>", "</s>"])
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    library.add_special_tokens(_special("<unk>", "<s>", "</s>"))
    library.add_special_tokens(_special(*markers, eats_right=True))
    roles = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"}
    _write(folder, library, add_bos_token=False, **roles)


def _with_bytes(specials: list[str]) -> Library:
    """A BPE tokenizer with `▁` for spaces and 256 byte pieces."""
    library = Library(models.BPE(unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trainer = trainers.BpeTrainer(vocab_size=160, show_progress=False)
    library.train_from_iterator(LINES, trainer)
    state = json.loads(library.to_str())["model"]
    pieces = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    learned = sorted(state["vocab"], key=state["vocab"].__getitem__)
    vocab = {piece: index for index, piece in enumerate([*pieces, *learned])}
    merges = [tuple(pair) for pair in state["merges"]]
    return Library(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))


def _write(folder: Path, library: Library, **config: Any) -> None:
    library.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **config,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
