"""The teacher: loaded, frozen, with a vocabulary that the student shares."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.data.batch.batches import Batch
from mlx_suite.data.batch.rows import Document
from mlx_suite.engine.engine import context_length
from mlx_suite.loading import load
from mlx_suite.modeling.head import head_of, vocabulary_size
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer
from mlx_suite.training.distillation_head import Teacher, teacher_side
from mlx_suite.training.documents import refuse_packing
from mlx_suite.training.train_step import batch_arrays, target_states


@dataclass(frozen=True, kw_only=True)
class SharedTokens:
    """How far two vocabularies agree."""

    student: int
    """Tokens of the student's vocabulary."""
    teacher: int
    same_text: int
    """Tokens that are in both."""
    same_id: int
    """Tokens that have the same id in both."""

    @property
    def equal(self) -> bool:
        """Whether ids mean the same in both; one vocabulary may have more tokens at its end."""
        return self.same_id == min(self.student, self.teacher)


def shared_tokens(student: Tokenizer, teacher: Tokenizer) -> SharedTokens:
    """Compare the vocabularies of two tokenizers."""
    ours, theirs = student.backend.vocabulary(), teacher.backend.vocabulary()
    return SharedTokens(
        student=len(ours),
        teacher=len(theirs),
        same_text=len(ours.keys() & theirs.keys()),
        same_id=sum(theirs.get(token) == index for token, index in ours.items()),
    )


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher ready to score the student's rows."""

    model: nn.Module
    tokenizer: Tokenizer
    name: str = ""

    @cached_property
    def digest(self) -> str:
        """Digest of its weights, its adapter's included."""
        return weights_digest(self.model)

    @property
    def vocabulary(self) -> int:
        """Rows of its embedding."""
        return vocabulary_size(self.model)

    def states(self, batch: Batch) -> mx.array:
        """Hidden states (M, d) at the trained positions of a batch, or logits (M, V) if the head is unknown.

        Computed at once, so that the teacher's activations are freed before the student's forward pass.
        """
        tokens, document, index, *_ = batch_arrays(batch)
        states: mx.array = self._forward(tokens, document, index)
        mx.eval(states)
        return states

    def side(self, states: mx.array) -> Teacher:
        """What the loss takes, from `states`."""
        return teacher_side(states, head_of(self.model))

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        model = self.model
        return mx.compile(lambda tokens, document, index: target_states(model, tokens, document, index)[0])


def load_teacher(name: str, adapter: str = "") -> LoadedTeacher:
    """Load a teacher with its adapter: whatever `load` takes, quantized or not.

    Raises UserError as `load` does.
    """
    model, tokenizer = load(name, adapter=adapter or None)
    model.freeze()
    model.eval()
    return LoadedTeacher(model, tokenizer, name)


def refuse_other_vocabulary(teacher: LoadedTeacher, student: Tokenizer, *, can_align: bool = True) -> None:
    """Raise UserError with the number of shared tokens if the student's ids mean other tokens to the teacher."""
    shared = shared_tokens(student, teacher.tokenizer)
    if shared.equal:
        return
    raise UserError(
        "Student and teacher have different vocabularies",
        where=teacher.name,
        fix="choose a teacher of the same family, or add --align" if can_align else "choose one of the same family",
        details=[
            f"{shared.same_text:,} tokens are in both, {shared.same_id:,} of them with the same id",
            f"student {shared.student:,} tokens, teacher {shared.teacher:,}",
        ],
    )


def refuse_unreadable(teacher: LoadedTeacher, documents: Iterable[Document], *, packed: bool) -> None:
    """Raise UserError if the teacher cannot score the rows: unknown ids, too long, or no packing."""
    documents = tuple(documents)
    if packed:
        refuse_packing(teacher.model)
    largest = max((max(document.tokens) for document in documents), default=0)
    rows = teacher.vocabulary
    if largest >= rows:
        raise UserError(
            f"The rows hold token {largest:,}, but the teacher's embedding has {rows:,} rows",
            where=teacher.name,
            fix="choose a teacher that knows every token of the student's chat template",
        )
    longest, context = max(map(len, documents), default=0), context_length(teacher.model)
    if longest > context:
        raise UserError(
            f"The longest example has {longest:,} tokens, but the teacher's context is {context:,}",
            where=teacher.name,
            fix=f"--max-length {context} --too-long drop",
        )
