"""A model that is asked many questions: what it answers, or which of a few labels it prefers."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlx_suite.data.encode.styles import CHAT, Writer
from mlx_suite.engine import Choose, Engine, Given, Program, Request, Sample, Sampling
from mlx_suite.engine.context import context_length
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Message, Tokenizer, derive_pre_query

TOO_LONG = "context"
"""Why there is no answer: the question leaves no room for one."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model wrote."""

    text: str
    reason: str
    """Why it ended: `stop`, `limit` (too many tokens) or `context` (no room left)."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """How probable each label is as the whole answer."""

    log_probs: tuple[float, ...]
    """Of each label with the end of the turn behind it, in nats."""


@dataclass(frozen=True, kw_only=True)
class Respondent:
    """A model and how it is spoken to. Answers are greedy: the most probable token every time."""

    model: Any
    tokenizer: Tokenizer
    template: ChatTemplate | None
    """None for a model without one, which is asked in another style."""
    style: str = CHAT
    """One of `data.styles.STYLES`; for a finetuned model the one it was trained in."""
    slots: int = 16
    """Questions that run at a time. Answers do not depend on it (in fp32)."""

    def prompt(self, messages: Sequence[Message], context: str = "") -> tuple[int, ...]:
        """Ids of a conversation up to where the model answers; `context` is what its first question is about."""
        return tuple(self.writer.ask(messages, context))

    @cached_property
    def writer(self) -> Writer:
        return Writer(style=self.style, tokenizer=self.tokenizer, template=self.template)

    @cached_property
    def context(self) -> int:
        """Tokens that question and answer may have together."""
        return context_length(self.model)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer, first the one that this style ends it with."""
        own = self.writer.stop_id
        if self.style == CHAT and self.template is not None:
            # A checkpoint's list may have forgotten the template's own.
            with suppress(UserError):
                own, *_ = derive_pre_query(self.tokenizer, self.template).assistant_stop_ids
        return (own, *sorted(self.writer.stops - {own}))

    def answers(self, questions: Iterable[Sequence[Message]], limit: int) -> Iterator[tuple[int, Reply]]:
        """The number of each question and its answer of at most `limit` tokens, as they end."""
        return self.continuations((self.prompt(question) for question in questions), limit)

    def continuations(self, prompts: Iterable[tuple[int, ...]], limit: int) -> Iterator[tuple[int, Reply]]:
        """The same behind prompts that are ids already."""

        def program(number: int, prompt: tuple[int, ...]) -> Program:
            yield Given(prompt)
            greedy = Sampling(temperature=0.0)
            written = yield Sample(limit=limit, stop=frozenset(self.stop_ids), sampling=greedy)
            return number, Reply(text=self.tokenizer.decode(written.tokens), reason=written.reason)

        yield from self._run(program(number, prompt) for number, prompt in enumerate(prompts))

    def preferences(
        self, questions: Iterable[Sequence[Message]], labels: Sequence[str]
    ) -> Iterator[tuple[int, Preference | None]]:
        """The number of each question and how probable each label is as its answer; None where there is no room.

        The end of the turn counts as part of a label, so no label is the beginning of another: "10" is not "100".
        """
        ends = self.stop_ids[:1]
        encoded = tuple((*self.tokenizer.encode(label), *ends) for label in labels)
        longest = max(map(len, encoded))

        def program(number: int, prompt: tuple[int, ...]) -> Program:
            if len(prompt) + longest > self.context:
                return number, None
            yield Given(prompt)
            chosen = yield Choose(encoded)
            return number, Preference(log_probs=chosen.log_probs)

        yield from self._run(program(number, self.prompt(question)) for number, question in enumerate(questions))

    def _run(self, programs: Iterable[Program]) -> Iterator[Any]:
        engine = Engine(self.model, slots=self.slots, context=self.context)
        for done in engine.run(Request(program=program) for program in programs):
            yield done.result
