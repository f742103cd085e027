"""Tokenizers as GGUF metadata."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.export.gguf_vocabulary import CONTROL, pretokenizer_name, read_vocabulary
from mlx_suite.runtime.errors import UserError
from tests.export.checkpoints import FIRST, PREPEND, TINY_GEMMA2, TINY_LLAMA3, spaced_checkpoint, without_template

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def tokenizer(*steps: dict[str, Any], whole_words: bool = False, **more: Any) -> dict[str, Any]:
    pre = {"type": "Sequence", "pretokenizers": list(steps)} if len(steps) > 1 else steps[0]
    return {"pre_tokenizer": pre, "model": {"type": "BPE", "ignore_merges": whole_words}, **more}


def without(folder: Path, *names: str, source: Path = TINY_GEMMA2) -> Path:
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*names))
    return folder


def test_llama_3_has_a_byte_level_vocabulary_with_merges() -> None:
    found = read_vocabulary(TINY_LLAMA3, 2048)
    assert (found.model, found.pre, found.adds_bos, found.adds_space) == ("gpt2", "llama-bpe", True, False)
    assert found.ids == {"bos": 2032, "padding": 2036, "eos": 2041, "eom": 2040, "eot": 2041}
    assert found.merges[:3] == ("Ċ Ċ", "Ġ t", "Ġ a")
    assert found.scores == ()
    assert found.tokens[0] == "!" and found.tokens[2041] == "<|eot_id|>"
    assert found.types[0] == 1 and set(found.types[2032:]) == {CONTROL}


def test_gemma_2_has_a_sentencepiece_vocabulary_with_scores() -> None:
    found = read_vocabulary(TINY_GEMMA2, 2048)
    assert (found.model, found.pre, found.adds_bos, found.adds_space) == ("llama", "default", True, False)
    assert found.ids == {"bos": 2, "unknown": 3, "padding": 0, "eos": 1, "eot": 107}
    assert found.merges == ()
    kinds = dict(zip(found.tokens, found.types, strict=True))
    assert kinds["<unk>"] == 2
    assert kinds["<bos>"] == kinds["<start_of_turn>"] == 3
    assert kinds["<unused0>"] == kinds["\n\n"] == 4
    assert kinds["<0x0A>"] == 6
    assert kinds["▁the"] == 1


def test_embedding_rows_without_a_token_get_placeholders() -> None:
    found = read_vocabulary(TINY_LLAMA3, 2050)
    assert found.tokens[2047:] == ("<|reserved_special_token_7|>", "[PAD2048]", "[PAD2049]")
    assert found.types[2047:] == (3, 5, 5)


def test_more_tokens_than_embedding_rows_are_refused() -> None:
    with pytest.raises(UserError, match="the tokenizer has 2,048 tokens, the model's embedding 2,000 rows"):
        read_vocabulary(TINY_LLAMA3, 2000)


def test_without_tokenizer_model_the_merges_give_the_same_order(tmp_path: Path) -> None:
    theirs = read_vocabulary(TINY_GEMMA2, 2048)
    found = read_vocabulary(without(tmp_path / "json", "tokenizer.model"), 2048)
    assert (found.tokens, found.types) == (theirs.tokens, theirs.types)
    merged = [place for place, kind in enumerate(found.types) if kind == 1 and len(found.tokens[place]) > 1]
    assert len(merged) > 1000
    assert sorted(merged, key=found.scores.__getitem__) == sorted(merged, key=theirs.scores.__getitem__)


def test_without_tokenizer_json_tokenizer_model_is_sufficient(tmp_path: Path) -> None:
    theirs = read_vocabulary(TINY_GEMMA2, 2048)
    found = read_vocabulary(without(tmp_path / "model", "tokenizer.json"), 2048)
    assert (found.tokens, found.types, found.scores) == (theirs.tokens, theirs.types, theirs.scores)
    assert (found.ids, found.adds_space) == (theirs.ids, False)


@pytest.mark.parametrize(
    ("spaces", "chat", "base"), [(PREPEND, (True, False), (True, False)), (FIRST, (False, True), (True, False))]
)
def test_a_space_before_the_first_text_is_kept_only_without_a_chat_template(
    spaces: dict[str, Any], chat: tuple[bool, bool], base: tuple[bool, bool], tmp_path: Path
) -> None:
    spaced_checkpoint(tmp_path / "model", spaces)
    found = read_vocabulary(tmp_path / "model", 2048)
    assert (found.adds_space, found.loses_first_space) == chat
    without_template(tmp_path / "model")
    found = read_vocabulary(tmp_path / "model", 2048)
    assert (found.adds_space, found.loses_first_space) == base


def test_stop_tokens_of_the_model_are_written_as_eos_and_eot(tmp_path: Path) -> None:
    folder = without(tmp_path / "own", source=TINY_LLAMA3)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2040, 2045]}))
    assert read_vocabulary(folder, 2048).ids == {"bos": 2032, "padding": 2036, "eos": 2040, "eom": 2040, "eot": 2045}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (tokenizer(split(LLAMA3_PATTERN), BYTES, whole_words=True), "llama-bpe"),
        (tokenizer(split(LLAMA3_PATTERN), BYTES), "smaug-bpe"),
        (tokenizer(split(TEKKEN_PATTERN), BYTES, whole_words=True), "tekken"),
        (tokenizer(split(QWEN2_PATTERN), BYTES, normalizer={"type": "NFC"}), "qwen2"),
        (tokenizer(GPT2), "gpt-2"),
        (tokenizer({"type": "Digits", "individual_digits": True}, GPT2), "smollm"),
    ],
)
def test_a_known_pre_tokenizer_has_its_name(file: dict[str, Any], name: str) -> None:
    assert pretokenizer_name(file, "tokenizer.json") == name


@pytest.mark.parametrize(
    ("file", "step"),
    [
        (tokenizer(split(r"\w+|\s"), BYTES), r"it splits by \w+|\s"),
        (tokenizer({"type": "Whitespace"}), "it splits by a step of type 'Whitespace'"),
        (tokenizer(GPT2, normalizer={"type": "NFC"}), "it splits by ByteLevel"),
        (tokenizer(GPT2, normalizer={"type": "Lowercase"}), "it splits by ByteLevel"),
    ],
)
def test_an_unknown_pre_tokenizer_is_refused(file: dict[str, Any], step: str) -> None:
    with pytest.raises(UserError, match="no known counterpart") as caught:
        pretokenizer_name(file, "tokenizer.json")
    assert caught.value.details == (step,)


def test_a_unigram_model_is_refused(tmp_path: Path) -> None:
    folder = without(tmp_path / "unigram", "tokenizer.model")
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    whole["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]], "byte_fallback": False}
    whole["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(UserError, match="only BPE tokenizers"):
        read_vocabulary(folder, 2048)
