"""A model that writes for a stage, or judges in one, and how many texts it works on side by side."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.data.read.formats import fold_tools
from mlx_suite.data.steering import lead
from mlx_suite.engine import Engine, Request, Sample, Sampling, Written
from mlx_suite.engine.chat_model import Speaker
from mlx_suite.engine.context import context_length
from mlx_suite.engine.step import vocabulary_size
from mlx_suite.magpie.row import TEMPLATE_DATE
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Message, Tokenizer, encode_chat
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER


@dataclass(frozen=True, kw_only=True)
class Author:
    """Made by `make_author`."""

    model: Any
    speaker: Speaker
    """How it is spoken to."""
    folder: Path | None = None
    """Of the checkpoint, in which the questions lie that it was trained on."""
    slots: int = 16
    """Texts that are written side by side. They do not depend on it (in fp32)."""

    @property
    def name(self) -> str:
        return self.speaker.name

    @cached_property
    def answer_ends(self) -> frozenset[int]:
        """Tokens that end a whole answer: the template's own, and those that end all text."""
        return self.speaker.tokenizer.stop_ids | {self.own_end}

    @property
    def own_end(self) -> int:
        """The token by which the template ends an answer."""
        return self.speaker.turns.assistant_stop_ids[0]

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """A conversation up to where the model answers; None where nobody asks, or where the template refuses it.

        A system text becomes a first exchange where the template knows no role for it, as in a row of Magpie's.
        """
        if not messages or messages[-1].role != USER:
            return None
        turns, template = fold_tools(messages), self.speaker.template
        if turns and turns[0].role == SYSTEM and not template.takes_system:
            turns = [*lead(template, turns[0].content), *turns[1:]]
        try:
            return tuple(encode_chat(self.speaker.tokenizer, template, turns, add_generation_prompt=True).ids)
        except UserError:
            return None

    def behind_answer(self, text: str) -> tuple[int, ...]:
        """From behind an answer's stop token: a user's turn that says `text`, and the prompt for a reply."""
        asked = (Message(USER, "Hi"),)
        start = self.prompt(asked) or ()
        whole = self.prompt((*asked, Message(ASSISTANT, "Hello"), Message(USER, text))) or ()
        if not start or whole[: len(start)] != start or self.own_end not in whole[len(start) :]:
            raise UserError(
                "this chat template does not show where a second turn begins",
                where=self.speaker.template.origin,
                fix="use an instruction-tuned checkpoint with its own template, or mend the template",
            )
        return whole[whole.index(self.own_end, len(start)) + 1 :]

    def answering(self, limit: int, sampling: Sampling, salt: int = 0) -> Sample:
        """An answer of at most `limit` tokens, without tokens that belong into nobody's turn."""
        stop = frozenset(self.speaker.turns.assistant_stop_ids)
        banned = tuple(sorted(self._unspoken - stop))
        return Sample(limit=limit, stop=stop, sampling=replace(sampling, banned=banned), salt=salt)

    def text(self, written: Written) -> str:
        """Without the whitespace around it, which templates trim as well."""
        return self.speaker.tokenizer.decode(written.tokens).strip()

    def run(self, requests: Iterable[Request]) -> Iterator[Any]:
        """The results of programs as they end."""
        engine = Engine(self.model, slots=self.slots, context=self.speaker.context)
        for done in engine.run(requests):
            yield done.result

    def facts(self) -> dict[str, Any]:
        """What this model's texts depend on: weights, how it is spoken to, and where it stops."""
        return {
            "model": self.name,
            "weights": weights_digest(self.model),
            "template": hashlib.sha256(self.speaker.template.source.encode()).hexdigest()[:12],
            "stop_ids": sorted(self.answer_ends),
        }

    @cached_property
    def _unspoken(self) -> frozenset[int]:
        tokenizer = self.speaker.tokenizer
        without_token = range(tokenizer.vocab_size, vocabulary_size(self.model))
        return tokenizer.special_ids | frozenset(without_token)


def make_author(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    name: str = "",
    folder: Path | None = None,
    slots: int = 16,
) -> Author:
    """An author; its template writes always the same date, so that a stage can be continued tomorrow."""
    dated = replace(template, variables={"date_string": TEMPLATE_DATE, **template.variables})
    speaker = Speaker(tokenizer=tokenizer, template=dated, context=context_length(model), name=name)
    return Author(model=model, speaker=speaker, folder=folder, slots=slots)
