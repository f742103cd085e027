"""Distillation across vocabularies: spans of equal text, hybrid divergence, and runs with a teacher of other tokens."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.data.batch.batches import Batch
from mlx_suite.data.batch.rows import Document
from mlx_suite.modeling.head import Head, Matrix
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer
from mlx_suite.text.training import train_llama3_tokenizer
from mlx_suite.training.distillation_head import Objective
from mlx_suite.transfer.distill.aligned import (
    AlignedBatch,
    AlignedLoss,
    aligned_batches,
    hybrid_divergence,
    token_log_probs,
)
from mlx_suite.transfer.distill.spans import END, SharedVocabulary, align, shared_vocabulary
from mlx_suite.transfer.distill.teacher import LoadedTeacher
from tests.magpie.random_checkpoint import write_checkpoint
from tests.modeling.tiny import tiny_model
from tests.transfer.distill.story import run_distill

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher whose vocabulary has "10", "11" and "12" as one token each, and so other ids for special tokens."""
    folder = write_checkpoint(tmp_path_factory.mktemp("models") / "merged", letters="0123456789", end=0.5, rows=280)
    train_llama3_tokenizer(["10 11 12 10 11 12"] * 20, folder, vocab_size=275)
    tokenizer = load_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text())
    stops = [tokenizer.id_of(name) for name in ("<|eot_id|>", "<|end_of_text|>")]
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": stops}))
    return folder


# ---- spans


def test_spans_are_cut_wherever_both_tokenizations_are() -> None:
    ours, theirs = [b"mar", b"vel", b"lous", b" day", END], [b"marvel", b"lous", b" d", b"ay", END]
    assert align(ours, theirs) == [((0, 1), (0,)), ((2,), (1,)), ((3,), (2, 3)), ((4,), (4,))]


def test_a_space_that_one_tokenizer_adds_is_no_difference() -> None:
    assert align([b" Hi", b"!"], [b"Hi", b"!"]) == [((0,), (0,)), ((1,), (1,))]
    assert align([b"Hi"], [b" Hi"]) == [((0,), (0,))]


def test_other_texts_are_not_aligned() -> None:
    assert align([b"Hi"], [b"Ho"]) is None
    assert align([b"Hi", END], [b"Hi"]) is None


@given(text=st.text("abc ", min_size=1, max_size=12), data=st.data())
def test_spans_cover_every_token_once_in_order_and_hold_equal_texts(text: str, data: st.DataObject) -> None:
    def tokens() -> list[bytes]:
        cuts = data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=6))
        ends = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
        return [text[a:b].encode() for a, b in zip(ends, ends[1:], strict=False)]

    ours, theirs = tokens(), tokens()
    spans = align(ours, theirs)
    assert spans is not None
    for side, pieces in enumerate((ours, theirs)):
        assert [at for span in spans for at in span[side]] == list(range(len(pieces)))
    for left, right in spans:
        assert b"".join(ours[at] for at in left) == b"".join(theirs[at] for at in right)


# ---- vocabularies


def test_tokens_are_shared_by_their_bytes(student: Path, merged: Path) -> None:
    ours, theirs = load_tokenizer(student), load_tokenizer(merged)
    ends = ours.id_of("<|eot_id|>"), theirs.id_of("<|eot_id|>")
    assert ends[0] is not None and ends[1] is not None
    shared = shared_vocabulary(ours, theirs, (272, 280), (ends[0], ends[1]))
    assert len(shared.student) == 257  # the bytes, and the end
    assert ends in set(zip(shared.student.tolist(), shared.teacher.tolist(), strict=True))
    assert len(shared.only_student) == 0
    assert {theirs.bytes_of(token) for token in shared.only_teacher.tolist()} == {b"10", b"11", b"12"}


def shared(student: list[int], teacher: list[int], only: tuple[list[int], list[int]]) -> SharedVocabulary:
    arrays = [np.array(each, np.int32) for each in (student, teacher, *only)]
    return SharedVocabulary(student=arrays[0], teacher=arrays[1], only_student=arrays[2], only_teacher=arrays[3])


def test_equal_vocabularies_give_the_forward_kl() -> None:
    p, q = mx.array([[0.5, 0.25, 0.25]]), mx.array([[0.25, 0.25, 0.5]])
    found = hybrid_divergence(q, p, shared([0, 1, 2], [0, 1, 2], ([], [])))
    assert found.item() == pytest.approx(0.25 * np.log(2), abs=1e-5)


def test_tokens_of_one_vocabulary_are_compared_by_their_ranks() -> None:
    """Both give 0.5 to the shared token; the others are 0.4 and 0.1 on one side, 0.3, 0.15 and 0.05 on the other."""
    q, p = mx.array([[0.1, 0.5, 0.4]]), mx.array([[0.5, 0.15, 0.05, 0.3]])
    found = hybrid_divergence(q, p, shared([1], [0], ([0, 2], [1, 2, 3])))
    assert found.item() == pytest.approx(0.1 + 0.05 + 0.05, abs=1e-5)


def test_the_hybrid_divergence_has_the_gradient_of_finite_differences() -> None:
    p, matched = mx.array([[0.5, 0.15, 0.05, 0.3]]), shared([1], [0], ([0, 2], [1, 2, 3]))

    def loss(logits: mx.array) -> mx.array:
        return hybrid_divergence(mx.softmax(logits, axis=-1), p, matched).sum()

    logits = mx.array([[0.6, 0.9, -0.9]])  # no two ranks are nearly equal, where the gradient jumps
    slope = mx.grad(loss)(logits)
    for token in range(3):
        step = mx.zeros((1, 3)).at[0, token].add(1e-2)
        expected = (loss(logits + step) - loss(logits - step)).item() / 2e-2
        assert slope[0, token].item() == pytest.approx(expected, abs=1e-3)


def test_log_probabilities_of_tokens_are_those_of_the_softmax() -> None:
    hidden, weight = mx.random.normal((5, 4), key=mx.random.key(0)), mx.random.normal((7, 4), key=mx.random.key(1))
    tokens = mx.array([0, 3, 6, 6, 2])
    expected = mx.take_along_axis(mx.log(mx.softmax(hidden @ weight.T, axis=-1)), tokens[:, None], axis=-1)[:, 0]
    found = token_log_probs(hidden, Head(matrices=(Matrix(weight=weight),)), tokens)
    assert mx.abs(found - expected).max().item() < 1e-5


def aligned_batch() -> AlignedBatch:
    """Eight targets of the student beside seven of the teacher, with single tokens and longer spans on both sides."""

    def fields(vocabulary: int, count: int) -> dict[str, Any]:
        tokens = np.random.default_rng(vocabulary).integers(0, vocabulary, (1, count + 1))
        return {
            "tokens": tokens[:, :-1].astype(np.uint32),
            "document": None,
            "index": np.arange(count, dtype=np.int32),
            "targets": tokens[0, 1:].astype(np.int32),
            "weights": np.ones(count, np.float32),
        }

    return AlignedBatch(
        **fields(50, 8),
        teacher=Batch(**fields(60, 7)),
        span=np.array([0, 1, 1, 2, 3, 4, 5, 5], np.int32),
        teacher_span=np.array([0, 1, 2, 2, 3, 4, 5], np.int32),
        partner=np.array([0, -1, -1, -1, 4, 5, -1, -1], np.int32),
    )


def test_the_loss_over_spans_has_the_gradient_of_finite_differences(student: Path) -> None:
    model = tiny_model("llama", tie_word_embeddings=True)
    teacher = tiny_model("gemma2", seed=3, vocab_size=60, final_logit_softcapping=3.0, tie_word_embeddings=True)
    half = shared(list(range(30)), list(range(10, 40)), (list(range(30, 50)), [*range(10), *range(40, 60)]))
    loss = AlignedLoss(LoadedTeacher(teacher, load_tokenizer(student)), half, Objective())
    arrays = loss.arrays(aligned_batch())
    _, gradients = nn.value_and_grad(model, loss.summed)(model, *arrays)
    layer = model.model.layers[0].mlp.down_proj
    slope = gradients["model"]["layers"][0]["mlp"]["down_proj"]["weight"]
    weight = layer.weight
    model.train(False)
    for row, column in ((0, 0), (3, 5), (7, 2)):
        ends = []
        for sign in (1, -1):
            layer.weight = weight.at[row, column].add(sign * 2e-2)
            ends.append(loss.summed(model, *arrays).item())
        assert slope[row, column].item() == pytest.approx((ends[0] - ends[1]) / 4e-2, rel=0.01)


# ---- runs


def test_a_teacher_of_another_vocabulary_is_learned_from(student: Path, merged: Path, tmp_path: Path) -> None:
    data = tmp_path / "sums.jsonl"
    rows = [{"instruction": f"{i % 7} + {i % 5}", "output": f"{10 + i % 3} {11 + i % 2}"} for i in range(24)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="different vocabularies"):
        run_distill(student, merged, tmp_path)
    finished = run_distill(student, merged, tmp_path, align=True, steps=12)
    assert finished.valid_before is not None and finished.state.best_loss is not None
    assert finished.state.best_loss < 0.8 * finished.valid_before


def test_batches_say_which_targets_belong_together(student: Path, merged: Path) -> None:
    tokenizers = load_tokenizer(student), load_tokenizer(merged)

    def document(side: int, text: str) -> Document:
        end = tokenizers[side].id_of("<|eot_id|>")
        tokens = [*tokenizers[side].encode("?"), *tokenizers[side].encode(text), end]
        return Document(tokens, [0.0] + [1.0] * (len(tokens) - 1), place="a:1")  # type: ignore[arg-type]

    batches = aligned_batches([document(0, "10")], [document(1, "10")], tokenizers, 2)
    assert batches is not None
    batch = batches.take(np.array([-1, 0]))
    # "1" "0" end beside "10" end: the digits are one span, the ends another.
    assert batch.span[:4].tolist() == [0, 0, 1, len(batch.span)]
    assert batch.teacher_span[:3].tolist() == [0, 1, len(batch.span)]
    assert batch.partner[:4].tolist() == [-1, -1, 1, -1]


def test_rows_whose_responses_differ_are_refused_if_there_are_no_others(student: Path) -> None:
    tokenizer = load_tokenizer(student)
    one = Document([65, 66], [0.0, 1.0], place="a:1")
    other = Document([65, 67], [0.0, 1.0], place="a:1")
    with pytest.raises(UserError, match="No row has the same response"):
        aligned_batches([one], [other], (tokenizer, tokenizer), 2)
