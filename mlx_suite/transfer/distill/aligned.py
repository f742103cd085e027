"""Distillation across vocabularies, over spans of equal text (as in TRL's GOLD, after Universal Logit Distillation).

A response is encoded by both tokenizers and cut into the smallest spans that both begin and end in the same place.

* One token on each side: the distributions of the next token are compared. Tokens that both vocabularies have, and one
  bucket for all others, give a forward KL; the others are compared by their sorted probabilities, whatever they are
  (arXiv 2402.12030), as an absolute difference.
* Several tokens on a side: by the chain rule their probabilities multiply to the probability of the span's text, P for
  the teacher and Q for the student, and KL over the two outcomes "this text" and "another" is minimized.

Shapes: M targets of the student, R of the teacher, T rows of a chunk, V vocabulary, K shared tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.batches import EMPTY, Batch, BucketedBatches, Order
from mlx_suite.data.batch.rows import Document
from mlx_suite.modeling.fast_math import softmax
from mlx_suite.modeling.head import Head, head_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer
from mlx_suite.training.chunked_head import Exponentials, LogitRows, row_chunks, vocabulary_chunks
from mlx_suite.training.cut_cross_entropy import head_loss
from mlx_suite.training.distillation_head import Objective, Targets, distillation_loss
from mlx_suite.training.divergences import SMALLEST, Divergence, Softmax
from mlx_suite.training.train_step import batch_arrays, target_states
from mlx_suite.transfer.distill.spans import SharedVocabulary, Span, aligned_targets
from mlx_suite.transfer.distill.teacher import LoadedTeacher

NOT_CERTAIN = 1e-4
"""Smallest probability of another text that is divided by."""


@dataclass(frozen=True, kw_only=True)
class AlignedBatch(Batch):
    """A batch of the student's, the same rows in the teacher's tokens, and what corresponds to what."""

    teacher: Batch
    span: npt.NDArray[np.int32]
    """(M,) number of the span of each target; M if it is in none."""
    teacher_span: npt.NDArray[np.int32]
    """(R,) the same of the teacher's targets."""
    partner: npt.NDArray[np.int32]
    """(M,) the teacher's target of a span of one token on each side; −1 for any other."""


@dataclass(frozen=True, kw_only=True)
class AlignedBatches:
    """Rows in the tokens of both models, in batches of similar length."""

    student: BucketedBatches
    teacher: BucketedBatches
    spans: tuple[Sequence[Span], ...]
    """Spans of each row."""

    @property
    def per_epoch(self) -> int:
        return self.student.per_epoch

    def order(self, seed: int, epoch: int) -> list[Order]:
        return self.student.order(seed, epoch)

    def take(self, chosen: Order) -> AlignedBatch:
        batch, teacher = self.student.take(chosen), self.teacher.take(chosen)
        count = len(batch.index)
        span, partner = np.full(count, count, np.int32), np.full(count, -1, np.int32)
        teacher_span = np.full(len(teacher.index), count, np.int32)
        at = other = number = 0
        for row in chosen:
            if row == EMPTY:
                continue
            for ours, theirs in self.spans[row]:
                span[[at + each for each in ours]] = number
                teacher_span[[other + each for each in theirs]] = number
                if len(ours) == len(theirs) == 1:
                    partner[at + ours[0]] = other + theirs[0]
                number += 1
            at += self.student.documents[row].trained
            other += self.teacher.documents[row].trained
        return AlignedBatch(**vars(batch), teacher=teacher, span=span, teacher_span=teacher_span, partner=partner)


def aligned_batches(
    student: Sequence[Document],
    teacher: Sequence[Document],
    tokenizers: tuple[Tokenizer, Tokenizer],
    size: int,
) -> AlignedBatches | None:
    """Pair the rows of two encodings by their place in the data; None without any row.

    Rows that only one side has, or whose responses differ in the two templates, are left out. Raises UserError if all
    are.
    """
    if not student:
        return None
    by_place: Mapping[str, Document] = {each.place: each for each in teacher}
    pairs = [(each, by_place[each.place]) for each in student if each.place in by_place]
    aligned = [(*pair, spans) for pair in pairs if (spans := aligned_targets(*pair, tokenizers)) is not None]
    if not aligned:
        raise UserError(
            "No row has the same response in the two models' templates",
            where="--align",
            fix="choose another teacher, or train on its responses with finetune",
        )
    return AlignedBatches(
        student=BucketedBatches([each for each, _, _ in aligned], size),
        teacher=BucketedBatches([each for _, each, _ in aligned], size),
        spans=tuple(spans for _, _, spans in aligned),
    )


@dataclass(frozen=True)
class AlignedLoss:
    """The loss over spans, with a teacher in memory."""

    teacher: LoadedTeacher
    shared: SharedVocabulary
    objective: Objective

    @cached_property
    def head(self) -> Head:
        head = head_of(self.teacher.model)
        if head is None:
            raise UserError("The teacher's architecture cannot be aligned", where=self.teacher.name)
        return head

    def arrays(self, batch: Batch) -> list[Any]:
        """The batch; span and partner (M,) of each target; the partners' hidden states (M, d); log P (M,) of spans."""
        assert isinstance(batch, AlignedBatch)
        states = self.teacher.states(batch.teacher)
        log_probs = token_log_probs(states, self.head, mx.array(batch.teacher.targets))
        log_probs = log_probs * mx.array(batch.teacher.weights > 0)
        span = mx.array(batch.span)
        of_spans = _sums(log_probs, mx.array(batch.teacher_span), len(batch.span))[span]
        partner = mx.array(batch.partner)
        found = [span, partner, states[mx.maximum(partner, 0)], of_spans]
        mx.eval(found)
        return [*batch_arrays(batch), *found]

    def summed(self, model: nn.Module, *arrays: Any) -> mx.array:
        tokens, documents, index, targets, weights, span, partner, paired, log_p = arrays
        states, head = target_states(model, tokens, documents, index)
        assert head is not None, "a student whose head is known"
        single = (partner >= 0).astype(mx.float32)
        teacher = AlignedTeacher(hidden=paired, head=self.head, shared=self.shared)
        data = Targets(ids=targets, weights=weights * single)
        alone = distillation_loss(states, data, head, teacher, self.objective, training=model.training)
        several = weights * (1.0 - single) * (span < span.shape[0])
        return alone + self._of_texts(model, states, head, targets, several, span, log_p)

    def _of_texts(
        self,
        model: nn.Module,
        states: mx.array,
        head: Head,
        targets: mx.array,
        weights: mx.array,
        span: mx.array,
        log_p: mx.array,
    ) -> mx.array:
        """KL of "this text or another" for spans of several tokens. Its gradient is a weighted cross-entropy's."""
        own = mx.stop_gradient(token_log_probs(states, head, targets))
        count = span.shape[0]
        log_q = _sums(own * (weights > 0), span, count)[span]
        p, q = mx.exp(log_p), mx.exp(log_q)
        other_p, other_q = mx.maximum(1.0 - p, SMALLEST), mx.maximum(1.0 - q, NOT_CERTAIN)
        kl = p * (log_p - log_q) + other_p * (mx.log(other_p) - mx.log(other_q))
        # Every token of a span knows the span's value: it counts once.
        tokens = _sums((weights > 0).astype(mx.float32), span, count)[span]
        value = (weights * kl / mx.maximum(tokens, 1.0)).sum()
        if not model.training:
            return value
        slope = weights * (q - p) / other_q
        surrogate = head_loss(states, targets, mx.stop_gradient(-slope), head)
        return value + surrogate - mx.stop_gradient(surrogate)


@dataclass(frozen=True, kw_only=True)
class AlignedTeacher:
    """A teacher with another vocabulary, at targets that are one token on each side."""

    hidden: mx.array
    """(M, d)"""
    head: Head
    shared: SharedVocabulary

    @property
    def vocabulary(self) -> None:
        return None

    def divergence(self, objective: Objective, student: Softmax, rows: slice, after: mx.array) -> Divergence:
        hidden = mx.depends(self.hidden[rows], [after])
        logits = LogitRows.of(self.head, hidden).logits
        p = mx.concatenate(Softmax(logits, objective.temperature).probs, axis=-1)  # (T, V)

        def values(logits: mx.array) -> mx.array:
            return hybrid_divergence(softmax(logits), p, self.shared)

        whole = mx.concatenate(student.logits, axis=-1)
        [value], [slope] = mx.vjp(values, [whole], [mx.ones((whole.shape[0],))])
        return value, [slope[:, columns] for columns in vocabulary_chunks(slope.shape[1])]


def hybrid_divergence(q: mx.array, p: mx.array, shared: SharedVocabulary) -> mx.array:
    """(T,) forward KL over shared tokens and one bucket, plus Σ |p − q| over the sorted others; q, p (T, V)."""
    q_shared, p_shared = q[:, mx.array(shared.student)], p[:, mx.array(shared.teacher)]  # (T, K)
    q_rest, p_rest = (1.0 - each.sum(axis=-1, keepdims=True) for each in (q_shared, p_shared))
    ours = mx.maximum(mx.concatenate([q_shared, q_rest], axis=-1), SMALLEST)
    theirs = mx.maximum(mx.concatenate([p_shared, p_rest], axis=-1), SMALLEST)
    kl = (theirs * (mx.log(theirs) - mx.log(ours))).sum(axis=-1)
    width = max(len(shared.only_student), len(shared.only_teacher))
    if not width:
        return kl
    sides = (
        _sorted(each[:, mx.array(only)], width)
        for each, only in ((q, shared.only_student), (p, shared.only_teacher))
        if len(only)
    )
    first, *second = sides
    return kl + mx.abs(first - second[0] if second else first).sum(axis=-1)


def token_log_probs(states: mx.array, head: Head, tokens: mx.array) -> mx.array:
    """(M,) log-probabilities of tokens (M,) after `states` (M, d), without a gradient."""
    found: list[mx.array] = []
    for rows in row_chunks(states.shape[0], head.vocabulary):
        hidden = mx.depends(states[rows], found[-1:])
        chunk = LogitRows.of(head, hidden)
        found.append(chunk.at(tokens[rows])[1] - Exponentials(chunk.logits).log_sum)
    return mx.concatenate(found)


def _sorted(probs: mx.array, width: int) -> mx.array:
    """Probabilities in descending order, padded with zeros to `width`."""
    order = mx.stop_gradient(mx.argsort(-probs, axis=-1))
    ranked = mx.take_along_axis(probs, order, axis=-1)
    return mx.pad(ranked, [(0, 0), (0, width - ranked.shape[1])])


def _sums(values: mx.array, span: mx.array, count: int) -> mx.array:
    """(count + 1,) sum of the values of each span; the last holds those in none."""
    return mx.zeros((count + 1,)).at[span].add(values)
