"""Bits per byte count every target's bits and the bytes of the text, by hand."""

import math
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.data.corpus.batches import CorpusBatches
from mlx_suite.data.corpus.mixture import MixturePart
from mlx_suite.data.corpus.tokenize import tokenize_corpus
from mlx_suite.evaluate.passages import text_passage
from mlx_suite.evaluate.perplexity import measure
from mlx_suite.loading import load
from mlx_suite.pretrain.bits_per_byte import TargetBytes, target_bytes
from mlx_suite.text import Tokenizer, load_tokenizer
from mlx_suite.training.loop import TrainSettings, make_optimizer
from mlx_suite.training.train_step import TrainStep

TEXTS = ["a cat", "Ωμέγα is long", "🦙"]


def batches(tokenizer: Tokenizer, folder: Path, texts: list[str], length: int, isolate: bool = False) -> CorpusBatches:
    (folder / "texts.txt").write_text("\n\n".join(texts), encoding="utf-8")
    file = tokenize_corpus(folder / "texts.txt", tokenizer, folder / "tokens", separator="\n\n")
    return CorpusBatches([MixturePart(name="a", file=file, weight=1.0)], length=length, size=2, isolate=isolate)


def test_a_nat_per_token_at_four_bytes_per_token_is_a_quarter_of_a_nat_in_bits() -> None:
    assert TargetBytes(targets=10, text_bytes=40).bits_per_byte(1.0) == pytest.approx(0.25 / math.log(2))


@pytest.mark.parametrize("length", [4, 7, 100])
@pytest.mark.parametrize("isolate", [False, True])
def test_the_bytes_are_those_of_the_texts_whatever_the_rows(
    letters: Path, tmp_path: Path, length: int, isolate: bool
) -> None:
    tokenizer = load_tokenizer(letters)
    counted = target_bytes(batches(tokenizer, tmp_path, TEXTS, length, isolate), tokenizer)
    tokens = sum(len(tokenizer.encode(text)) + 2 for text in TEXTS)
    assert counted.text_bytes == sum(len(text.encode()) for text in TEXTS) == 5 + 18 + 4
    # Every token but the first, or the first of every document, is a target.
    assert counted.targets == tokens - (len(TEXTS) if isolate else 1)


def test_without_a_byte_spelling_the_decoded_text_is_counted(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(letters)
    rows = batches(tokenizer, tmp_path, ["a cat", "a rat"], 100)
    monkeypatch.setattr(type(tokenizer.backend), "token_bytes", None)
    monkeypatch.setattr(type(tokenizer.backend), "decode", lambda self, ids: "xy" * len(ids))
    # Two documents of five letters, with an EOS and a BOS between them that have no text.
    assert target_bytes(rows, tokenizer).text_bytes == 20


def test_bits_per_byte_agree_with_perplexity_up_to_the_end_of_the_document(letters: Path, tmp_path: Path) -> None:
    model, tokenizer = load(letters)
    text = "a cat saw a rat"
    rows = batches(tokenizer, tmp_path, [text], 100)
    step = TrainStep(model, make_optimizer(TrainSettings(steps=1)), clip=0.0)
    loss = step.mean_loss(rows.take(chosen) for chosen in rows.order(0, 0))
    ours = target_bytes(rows, tokenizer).bits_per_byte(loss)

    theirs = measure(model, tokenizer, [text_passage(tokenizer, text)], context=100).bits_per_byte
    ids = tokenizer.encode_prompt(text)
    last = np.array(model(mx.array([ids]))[0, -1])
    end = math.log(np.exp(last - last.max()).sum()) + last.max() - last[tokenizer.eos_id]
    assert theirs is not None
    assert ours == pytest.approx(theirs + end / math.log(2) / len(text), rel=1e-4)
