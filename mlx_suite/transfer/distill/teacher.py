"""The teacher: loaded, frozen, with a vocabulary that the student shares."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.checkpoints.trained_run import adapter_folder
from mlx_suite.data.batch.batches import Batch
from mlx_suite.data.batch.rows import Document
from mlx_suite.data.encode.styles import CHAT, Writer
from mlx_suite.data.example import Example
from mlx_suite.engine.engine import context_length
from mlx_suite.hub.resolve import resolve
from mlx_suite.loading import load
from mlx_suite.modeling.head import head_of, vocabulary_size
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer, load_chat_template
from mlx_suite.text.template import dated
from mlx_suite.text.template_variables import read_variables
from mlx_suite.training.distillation_head import Teacher, teacher_side
from mlx_suite.training.documents import refuse_packing
from mlx_suite.training.train_step import batch_arrays, target_states
from mlx_suite.transfer.distill.settings import DistillSettings


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
        tokens, documents, index, *_ = batch_arrays(batch)
        states: mx.array = self._forward(tokens, documents, index)
        mx.eval(states)
        return states

    def side(self, states: mx.array) -> Teacher:
        """What the loss takes, from `states`."""
        return teacher_side(states, head_of(self.model))

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        model = self.model
        return mx.compile(lambda tokens, documents, index: target_states(model, tokens, documents, index)[0])


def load_teacher(name: str, adapter: str = "") -> LoadedTeacher:
    """Load a teacher with its adapter: whatever `load` takes, quantized or not.

    Raises UserError as `load` does.
    """
    model, tokenizer = load(name, adapter=adapter or None)
    model.freeze()
    model.eval()
    return LoadedTeacher(model, tokenizer, name)


COMPARED = 32
"""Conversations that `template_note` writes in both templates."""


def template_note(writer: Writer, settings: DistillSettings, examples: Iterable[Example]) -> str | None:
    """A note for the user if the teacher's own chat template writes the data's conversations with other tokens.

    The teacher reads the ids that `writer` writes, in the student's template. None if they are the same, or if the data
    is not written in a chat template.
    """
    if writer.style != CHAT or writer.template is None:
        return None
    seen = "the teacher reads the rows as the student's chat template writes them"
    adapter = adapter_folder(Path(settings.teacher_adapter)) if settings.teacher_adapter else None
    try:
        template = load_chat_template(
            resolve(settings.teacher, progress=False), read_variables(settings.template_args), adapter=adapter
        )
    except UserError:
        return f"{seen}: it has none of its own"
    own = replace(writer, template=dated(template))
    chats = list(islice((example for example in examples if example.messages), COMPARED))
    differ = sum(_written_ids(writer, each) != _written_ids(own, each) for each in chats)
    return f"{seen}: its own writes {differ:,} of the first {len(chats):,} with other tokens" if differ else None


def _written_ids(writer: Writer, example: Example) -> list[int] | None:
    """Token ids of a conversation; None if the template refuses it."""
    try:
        return writer.write(example.messages, example.context, example.tool_turns).chat.ids
    except UserError:
        return None


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
