"""Tokenizers for the format: of a shipped model, without merges, and one that treats spaces as Mistral 7B v0.1 does."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as Library

from mlx_suite.hub.resolve import resolve
from mlx_suite.text import Tokenizer, load_tokenizer
from mlx_suite.text.training import train_llama3_tokenizer


@pytest.fixture(scope="session")
def gemma2() -> Tokenizer:
    """SentencePiece's pieces without a leading space."""
    return load_tokenizer(resolve("tiny-gemma2"))


@pytest.fixture(scope="session")
def gemma2_pieces(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The same without tokenizer.json, so that the SentencePiece library is used."""
    folder = tmp_path_factory.mktemp("gemma2")
    for path in resolve("tiny-gemma2").iterdir():
        if path.name != "tokenizer.json" and "token" in path.name:
            shutil.copy(path, folder / path.name)
    return load_tokenizer(folder)


@pytest.fixture(scope="session")
def letters_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer in which every ASCII letter is a token."""
    folder = tmp_path_factory.mktemp("letters")
    train_llama3_tokenizer([], folder, vocab_size=256 + 16)
    return folder


@pytest.fixture(scope="session")
def letters(letters_folder: Path) -> Tokenizer:
    return load_tokenizer(letters_folder)


@pytest.fixture(scope="session")
def mistral_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral 7B v0.1's way with spaces: each stretch between special tokens gets a `▁`; newlines are byte pieces.

    Two spaces merge before a space and a bracket do, as in Mistral's vocabulary.
    """
    folder = tmp_path_factory.mktemp("mistral")
    learned = ["▁", "<", ">", "/", "?", ".", *"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "▁▁", "▁<"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "▁"), ("▁", "<")]
    library = Library(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    library.decoder = decoders.Sequence(steps)
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in pieces[:3]])
    library.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": True}))
    return folder


@pytest.fixture(scope="session")
def mistral(mistral_folder: Path) -> Tokenizer:
    return load_tokenizer(mistral_folder)
