"""Verdicts on a quantized model follow from its perplexity and its choices; mixed bits go where they help."""

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.utils import load_model as load_model_by_mlx_lm

from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.quantization import quantized_layers
from mlx_suite.checkpoints.save import save_model
from mlx_suite.export.known_text import PROMPTS, file_text, own_text
from mlx_suite.export.mixed_bits import within_budget
from mlx_suite.export.quantize import quantize_checkpoint
from mlx_suite.export.text_loss import TextLoss
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer
from tests.export.checkpoints import TINY_GEMMA2, TINY_LLAMA3, random_checkpoint
from tests.modeling.tiny import largest_difference, tokens


def verdict(before: float, after: float, agreement: float) -> str:
    return TextLoss(tokens=1000, before=before, after=after, agreement=agreement).verdict


def test_the_verdict_says_in_words_what_the_figures_mean() -> None:
    assert verdict(18.64, 18.74, 0.97) == "nothing lost"
    assert verdict(18.64, 18.60, 1.0) == "nothing lost"
    assert verdict(18.64, 19.50, 0.92) == "a small loss"
    assert verdict(18.64, 22.00, 0.85) == "a loss"
    assert verdict(18.64, 36.80, 0.85) == "a large loss"


def test_equal_perplexity_does_not_hide_that_the_model_writes_something_else() -> None:
    assert verdict(1.05, 1.05, 0.93) == "a small loss"
    assert verdict(1.05, 1.05, 0.5) == "a large loss"


def test_text_of_its_own_is_what_the_model_would_choose_at_every_position() -> None:
    model, tokenizer = load_model(TINY_LLAMA3), load_tokenizer(TINY_LLAMA3)
    text = own_text(model, tokenizer)
    assert text == own_text(model, tokenizer)
    assert len(text.windows) <= len(PROMPTS)
    window = text.windows[0]
    logits = model(mx.array([window.fed]))
    assert logits.argmax(axis=-1)[0].tolist()[-len(window.targets) :] == list(window.targets)


def test_a_file_is_scored_up_to_1024_tokens_each_once(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(TINY_LLAMA3)
    file = tmp_path / "notes.txt"
    file.write_text("a quick brown fox jumps over the lazy dog. " * 400)
    text = file_text(file, tokenizer, 256)
    assert text.tokens == 1024
    assert max(len(window.fed) for window in text.windows) <= 256
    assert {len(row) for row in text.rows(128)} == {128}


def test_an_empty_or_binary_file_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(TINY_LLAMA3)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UserError, match="no token to predict"):
        file_text(tmp_path / "empty.txt", tokenizer, 256)
    with pytest.raises(UserError, match="not UTF-8"):
        file_text(tmp_path / "image.png", tokenizer, 256)
    with pytest.raises(UserError, match="cannot be read"):
        file_text(tmp_path / "missing.txt", tokenizer, 256)


def test_the_most_sensitive_layers_that_fit_get_more_bits() -> None:
    sizes = {"head": 100, "up": 10, "down": 10, "gate": 10}
    ranks = {"head": 9.0, "up": 1.0, "down": 3.0, "gate": -1.0}
    assert within_budget(sizes, ranks, 15) == {"down"}
    assert within_budget(sizes, ranks, 115) == {"head", "down"}
    assert within_budget(sizes, ranks, 1000) == {"head", "up", "down"}


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_mixed_bits_keep_below_the_target_and_mlx_lm_reads_them(family: str, tmp_path: Path) -> None:
    source = TINY_GEMMA2 if family == "gemma2" else TINY_LLAMA3
    model = random_checkpoint(tmp_path / "base", family, source, intermediate_size=64)
    save_model(tmp_path / "half", model, dtype="bfloat16", tokenizer_from=source)
    mixed = quantize_checkpoint(tmp_path / "half", tmp_path / "out", bits=4, group_size=32, target_bpw=6.5, high_bits=8)
    assert 5.0 < mixed.bits_per_weight <= 6.5
    ours = load_model(tmp_path / "out", dtype="bfloat16", dequantize=False)
    bits = {path: layer.bits for path, layer in quantized_layers(ours).items()}
    assert {path for path, count in bits.items() if count == 8} == set(mixed.high) != set()
    assert set(bits.values()) == {4, 8}
    theirs, _ = load_model_by_mlx_lm(tmp_path / "out")
    assert quantized_layers(theirs) == quantized_layers(ours)
    within = tokens(4)  # mlx-lm's Gemma 2 has no window
    assert largest_difference(ours(within), theirs(within)) <= 0.25


def test_a_target_that_no_choice_reaches_is_refused_with_the_two_ends(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "base", "llama", intermediate_size=64)
    with pytest.raises(UserError, match="--target-bpw is 3, but 4 bits are") as caught:
        quantize_checkpoint(tmp_path / "base", tmp_path / "out", bits=4, group_size=32, target_bpw=3)
    assert caught.value.fix == "choose a number between these"
    assert not (tmp_path / "out").exists()
