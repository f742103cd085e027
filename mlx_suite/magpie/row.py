"""One row: the model writes a user's turn, then answers it, in one uninterrupted token sequence.

    header → instruction → assistant header → answer

The header is fed once per run and shared by all rows; neither the instruction nor anything before it is fed again for
the answer. An instruction that is not worth an answer ends its row: answers are what a run pays for.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mlx_suite.engine import Given, Program, Request, Sample, Sampling, Written
from mlx_suite.engine.step import vocabulary_size
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.text import ChatTemplate, Message, PreQuery, Tokenizer, derive_pre_query

TEMPLATE_DATE = "26 Jul 2024"
"""The date in Llama 3.1's and 3.2's system turn, their template's own default: with today's date a run could not be
continued tomorrow."""
AGREEMENT = "Understood."
"""The answer in the first exchange that stands in for a system turn."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A row as the model wrote it, before anyone has judged it as a whole."""

    index: int
    """The row's number, from 0."""
    instruction: str
    """Without the whitespace around it, which the template trims as well."""
    asked: Written
    answer: str = ""
    answered: Written | None = None
    """None where the instruction was not worth an answer."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all rows of a run have in common."""

    settings: MagpieSettings
    tokenizer: Tokenizer
    pre_query: PreQuery
    unspoken: frozenset[int]
    """Ids that belong into nobody's turn: special tokens, and rows of the embedding without a token."""

    @cached_property
    def asking(self) -> Sample:
        """The instruction."""
        return self._sample(self.settings.asking, self.settings.max_instruction, self.pre_query.user_stop_ids)

    @cached_property
    def answering(self) -> Sample:
        """The answer."""
        return self._sample(self.settings.answering, self.settings.max_answer, self.pre_query.assistant_stop_ids)

    def _sample(self, sampling: Sampling, limit: int, stops: Iterable[int]) -> Sample:
        stop = frozenset(stops)
        return Sample(limit=limit, stop=stop, sampling=replace(sampling, banned=tuple(sorted(self.unspoken - stop))))

    @property
    def user_end(self) -> int:
        """The token by which the template ends a user's turn."""
        return self.pre_query.user_stop_ids[0]

    @cached_property
    def answer_ends(self) -> frozenset[int]:
        """Tokens that end a whole answer: the template's own, and those that end all text."""
        return self.tokenizer.stop_ids | {self.pre_query.assistant_stop_ids[0]}

    def request(self, index: int, worth_answering: Callable[[Draft], bool]) -> Request:
        """The row of this number, as the engine runs it."""
        return Request(program=self._program(index, worth_answering), seed=row_seed(self.settings.seed, index))

    def _program(self, index: int, worth_answering: Callable[[Draft], bool]) -> Program:
        yield Given(self.pre_query.header_ids)
        asked = yield self.asking
        draft = Draft(index=index, instruction=self._text(asked), asked=asked)
        if not worth_answering(draft):
            return draft
        yield Given(self.pre_query.to_assistant_ids)
        answered = yield self.answering
        return replace(draft, answered=answered, answer=self._text(answered))

    def _text(self, written: Written) -> str:
        return self.tokenizer.decode(written.tokens).strip()


def plan_rows(model: Any, tokenizer: Tokenizer, template: ChatTemplate, settings: MagpieSettings) -> Plan:
    """Derive header and stop tokens from the chat template.

    Raises UserError where the template does not show where a user's turn begins.
    """
    template = replace(template, variables={"date_string": TEMPLATE_DATE, **template.variables})
    if settings.system is None:
        pre_query = derive_pre_query(tokenizer, template)
    elif template.takes_system:
        pre_query = derive_pre_query(tokenizer, template, settings.system)
    else:
        exchange = (Message("user", settings.system), Message("assistant", AGREEMENT))
        pre_query = derive_pre_query(tokenizer, template, before=exchange)
    without_token = range(tokenizer.vocab_size, vocabulary_size(model))
    return Plan(
        settings=settings,
        tokenizer=tokenizer,
        pre_query=pre_query,
        unspoken=tokenizer.special_ids | frozenset(without_token),
    )


def row_seed(seed: int, index: int) -> int:
    """The seed of one row. 48 bits, so that every JSON reader keeps it exactly."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest(), "big")
