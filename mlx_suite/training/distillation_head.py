"""The distillation loss from hidden states of both models, without materializing the logits of either for all tokens.

A chunk holds the logits of some rows of both heads. Its loss and the student's gradients are computed in the forward
pass (`training.chunked_head`); the teacher has none.

Shapes: M rows, T rows of a chunk, d hidden size, k inner dimension of a matrix, V vocabulary, N draws.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.head import Arrays, Head
from mlx_suite.training.chunked_head import (
    Exponentials,
    LogitRows,
    chunked_loss,
    chunked_loss_alone,
    vocabulary_chunks,
)
from mlx_suite.training.divergences import (
    Divergence,
    Softmax,
    SparseRows,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    sampled_kl,
    top_k_kl,
)
from mlx_suite.training.documents import Documents
from mlx_suite.training.train_step import target_states

FORWARD, REVERSE, JSD = "forward", "reverse", "jsd"
OBJECTIVES = (FORWARD, REVERSE, JSD)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the student minimizes at each trained token."""

    kind: str = FORWARD
    """One of OBJECTIVES."""
    beta: float = 0.5
    """Share of the teacher in the mixture of `jsd`; 0 is the forward KL and 1 the reverse KL."""
    temperature: float = 1.0
    """Both models' logits are divided by it, and the divergence is multiplied by its square, so that the gradients keep
    their size (Hinton et al., arXiv 1503.02531, section 2.1)."""
    data_share: float = 0.0
    """Share of the cross-entropy of the data's tokens, at temperature 1, in the loss; the divergence has the rest."""

    def divergence(self, student: Softmax, teacher: Softmax) -> Divergence:
        """The divergence without the factor of the temperature."""
        if self.kind == FORWARD or (self.kind == JSD and self.beta == 0.0):
            return forward_kl(student, teacher)
        if self.kind == REVERSE or (self.kind == JSD and self.beta == 1.0):
            return reverse_kl(student, teacher)
        return jensen_shannon(student, teacher, self.beta)


@dataclass(frozen=True, kw_only=True)
class TeacherStates:
    """A teacher as hidden states before its head."""

    inputs: list[mx.array]
    """Input (M, k) of each matrix of the head."""
    head: Head

    @property
    def vocabulary(self) -> int:
        return self.head.vocabulary

    def divergence(self, objective: Objective, student: Softmax, rows: slice, after: mx.array) -> Divergence:
        inputs = [mx.depends(each[rows], [after]).astype(mx.float32) for each in self.inputs]
        logits = LogitRows(self.head, inputs, _width(student)).logits
        return objective.divergence(student, Softmax(logits, objective.temperature))


@dataclass(frozen=True, kw_only=True)
class TeacherLogits:
    """A teacher as logits, for a model whose head is unknown."""

    logits: mx.array
    """(M, V)"""

    @property
    def vocabulary(self) -> int:
        return int(self.logits.shape[-1])

    def divergence(self, objective: Objective, student: Softmax, rows: slice, after: mx.array) -> Divergence:
        logits = self.logits[rows].astype(mx.float32)
        slices = [logits[:, columns] for columns in vocabulary_chunks(_width(student))]
        return objective.divergence(student, Softmax(slices, objective.temperature))


@dataclass(frozen=True, kw_only=True)
class TeacherDraws:
    """A teacher as weighted draws from its distribution."""

    ids: mx.array
    """(M, N)"""
    weights: mx.array
    """(M, N)"""
    entropy: mx.array
    """(M,) of the teacher's distribution, in nats."""

    @property
    def vocabulary(self) -> None:
        return None

    def divergence(self, objective: Objective, student: Softmax, rows: slice, after: mx.array) -> Divergence:
        assert objective.kind == FORWARD, "draws give the forward KL only"
        return sampled_kl(student, SparseRows(ids=self.ids[rows], values=self.weights[rows]), self.entropy[rows])


@dataclass(frozen=True, kw_only=True)
class TeacherTop:
    """A teacher as the probabilities of its K most probable tokens. Biased."""

    ids: mx.array
    """(M, K)"""
    probs: mx.array
    """(M, K)"""

    @property
    def vocabulary(self) -> None:
        return None

    def divergence(self, objective: Objective, student: Softmax, rows: slice, after: mx.array) -> Divergence:
        assert objective.kind == FORWARD, "the top tokens give the forward KL only"
        return top_k_kl(student, SparseRows(ids=self.ids[rows], values=self.probs[rows]))


def teacher_side(states: mx.array, head: Head | None) -> "TeacherStates | TeacherLogits":
    """What the loss takes of a teacher, from the result of `target_states`."""
    if head is None:
        return TeacherLogits(logits=states)
    return TeacherStates(inputs=head.inputs(states), head=head)


class Teacher(Protocol):
    """What the loss knows of a teacher at M rows."""

    @property
    def vocabulary(self) -> int | None:
        """Tokens that its distribution is over; None for as many as the student's."""

    def divergence(self, objective: Objective, student: Softmax, rows: slice, after: mx.array) -> Divergence:
        """The divergence of the student at some rows; nothing large is computed before `after` is."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The data's own tokens at the M rows."""

    ids: mx.array
    """(M,)"""
    weights: mx.array
    """(M,) weight of each row in the loss."""
    from_data: mx.array | None = None
    """(M,) 1 where the token is the data's, 0 where the student sampled it; None: all are the data's."""


def distillation_loss(
    hidden: mx.array, targets: Targets, head: Head, teacher: Teacher, objective: Objective, *, training: bool = True
) -> mx.array:
    """Σ weight · loss in nats, fp32, over M rows with the student's `hidden` states (M, d).

    With `training`, gradients are computed in the forward pass; without, none are.
    If the heads have different numbers of rows, the padding of the longer one is left out of its distribution.
    """
    width = min(head.vocabulary, teacher.vocabulary or head.vocabulary)

    def make(head: Head, inputs: list[mx.array], rows: slice) -> _Chunk:
        return _Chunk(_student_rows(head, inputs, width), targets, teacher, objective, rows)

    loss = chunked_loss if training else chunked_loss_alone
    return loss(hidden, head, make, models=2)


def distillation_loss_of_logits(
    logits: mx.array, targets: Targets, teacher: Teacher, objective: Objective, *, training: bool = True
) -> mx.array:
    """`distillation_loss` of a student whose head is unknown, from its logits (M, V)."""
    return distillation_loss(
        logits, targets, _NoHead(matrices=(), width=logits.shape[-1]), teacher, objective, training=training
    )


def summed_distillation(
    model: nn.Module,
    tokens: mx.array,
    documents: Documents | None,
    index: mx.array,
    targets: mx.array,
    weights: mx.array,
    from_data: mx.array | None,
    *,
    teacher: Teacher,
    objective: Objective,
) -> mx.array:
    """Σ weight · loss in nats over the target tokens of a batch; arguments as in `Batch` and `Targets`."""
    states, head = target_states(model, tokens, documents, index)
    wanted = Targets(ids=targets, weights=weights, from_data=from_data)
    if head is None:
        return distillation_loss_of_logits(states, wanted, teacher, objective, training=model.training)
    return distillation_loss(states, wanted, head, teacher, objective, training=model.training)


@dataclass(frozen=True, kw_only=True)
class _NoHead(Head):
    """The head of logits that are given: no matrix, nothing trained."""

    width: int

    @property
    def vocabulary(self) -> int:
        return self.width

    @property
    def learned(self) -> Arrays:
        return {}

    def with_learned(self, arrays: Arrays) -> "_NoHead":
        return self


class _GivenRows:
    """Like `LogitRows`, for logits (T, V) that are given: their gradient is the slopes."""

    def __init__(self, logits: mx.array, vocabulary: int) -> None:
        self.given, self.columns = logits, vocabulary_chunks(vocabulary)
        self.logits = [logits[:, columns] for columns in self.columns]

    def at(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        found = mx.take_along_axis(self.given, tokens[:, None], axis=-1)[:, 0]
        return found, found

    def add_gradients(
        self, learned: Arrays, slopes: list[mx.array], factor: mx.array, after: mx.array
    ) -> list[mx.array]:
        padding = mx.zeros((self.given.shape[0], self.given.shape[1] - self.columns[-1].stop))
        return [factor[:, None] * mx.concatenate([*slopes, padding], axis=-1)]

    def subtract_at(
        self, gradients: list[mx.array], learned: Arrays, tokens: mx.array, weights: mx.array, at: Any
    ) -> list[mx.array]:
        return [gradients[0].at[mx.arange(tokens.shape[0]), tokens].add(-weights)]


def _student_rows(head: Head, inputs: list[mx.array], vocabulary: int) -> LogitRows | _GivenRows:
    return _GivenRows(inputs[0], vocabulary) if isinstance(head, _NoHead) else LogitRows(head, inputs, vocabulary)


class _Chunk:
    """The distillation loss of T rows."""

    def __init__(
        self, rows: LogitRows | _GivenRows, targets: Targets, teacher: Teacher, objective: Objective, at: slice
    ) -> None:
        self.rows, self.objective = rows, objective
        student = Softmax(rows.logits, objective.temperature)
        # The teacher's logits are computed after the student's: a chunk is computed one head at a time.
        self.values, self.slopes = teacher.divergence(objective, student, at, after=rows.logits[-1])
        share, square = objective.data_share, objective.temperature**2
        self.weights = (1.0 - share) * square * targets.weights[at]
        self.factor = self.weights * (1.0 / objective.temperature)
        self.ids = targets.ids[at]
        self.data_weights: mx.array | None = None
        if share:
            self.data_weights = share * targets.weights[at]
            if targets.from_data is not None:
                self.data_weights = self.data_weights * targets.from_data[at]
            self.plain = student.exponentials if objective.temperature == 1.0 else Exponentials(rows.logits)
            self.at_targets = rows.at(self.ids)

    @property
    def loss(self) -> mx.array:
        """Σ weight · ((1 − share) · τ² · divergence − share · log q(target))."""
        loss = (self.weights * self.values).sum()
        if self.data_weights is not None:
            loss = loss + (self.data_weights * (self.plain.log_sum - self.at_targets[1])).sum()
        return loss

    def add_gradients(self, learned: Arrays) -> list[mx.array]:
        if self.data_weights is None:
            return self.rows.add_gradients(learned, self.slopes, self.factor, after=self.values)
        own = (self.data_weights / self.plain.sum)[:, None]
        slopes = [
            self.factor[:, None] * slope + own * each
            for slope, each in zip(self.slopes, self.plain.slices, strict=True)
        ]
        ones = mx.ones(self.weights.shape)
        gradients = self.rows.add_gradients(learned, slopes, ones, after=self.values)
        return self.rows.subtract_at(gradients, learned, self.ids, self.data_weights, self.at_targets)


def _width(student: Softmax) -> int:
    return sum(each.shape[1] for each in student.logits)
