"""Writers: the prompt for a text in a form, and how to read the completion. Here those of base models.

A synthesizer writes pairs and rewrites in the format of `format`; every model continues a text. Chat models are in
`instruct`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.format import (
    CUT_OFF,
    Example,
    Pair,
    Rewrite,
    contains_tags,
    encode_prompt,
    parse_pairs,
    parse_rewrite,
)
from mlx_suite.synthesize.rephrase import CONTINUE, rejection, whole_sentences, writes_pairs
from mlx_suite.text import Tokenizer

HOLDS_TAGS = "holds a tag of the format"
LOOPED = "repeats the same words without end"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a completion holds."""

    pairs: tuple[Pair, ...] = ()
    rewrite: str = ""
    """The rewrite or continuation; empty if it was rejected, or for pairs."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rejected pieces, by reason."""

    @property
    def is_empty(self) -> bool:
        return not (self.pairs or self.rewrite)

    @property
    def accepted(self) -> int:
        """Number of pairs or rewrites."""
        return len(self.pairs) + bool(self.rewrite)

    def example(self, text: str, form: str) -> Example:
        """The text and what was written from it, for the prompt of the next text."""
        if writes_pairs(form):
            return Example(text=text, pairs=self.pairs)
        return Example(text=text, rewrite=Rewrite(form=form, text=self.rewrite))


class Writer(Protocol):
    """Writes prompts for a model and reads its completions."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def stops(self) -> frozenset[int]:
        """Tokens that end a completion."""
        ...

    @property
    def banned(self) -> tuple[int, ...]:
        """Tokens that are never sampled."""
        ...

    def facts(self) -> dict[str, Any]:
        """Everything that determines prompts and stop tokens, as JSON values."""
        ...

    def refusal(self, text: str) -> str | None:
        """Why a text cannot be in a prompt; None if it can."""
        ...

    def prompt(self, chain: Sequence[Example], text: str, form: str) -> Sequence[int]:
        """The prompt for a text after the examples of `chain`."""
        ...

    def read(self, text: str, completion: str, reason: str, form: str) -> Outcome:
        """What is valid in a completion.

        Args:
            text: The text it was written from.
            reason: Why it ended, as in `engine.program.Written`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TagWriter:
    """Prompts of an instruction synthesizer, between tags."""

    tokenizer: Tokenizer
    banned: tuple[int, ...] = ()

    @cached_property
    def stops(self) -> frozenset[int]:
        return self.tokenizer.stop_ids | ({self._eos} if self._eos is not None else set())

    def facts(self) -> dict[str, Any]:
        return {"format": "tags", "stop_ids": sorted(self.stops)}

    def refusal(self, text: str) -> str | None:
        return HOLDS_TAGS if contains_tags(text) else None

    def prompt(self, chain: Sequence[Example], text: str, form: str) -> Sequence[int]:
        if form == CONTINUE:
            return self.tokenizer.encode_prompt(text)
        if self._eos is None:
            raise UserError(
                "The tokenizer has no EOS token, which ends what a synthesizer writes",
                where=self.tokenizer.origin,
                fix="use a synthesizer such as tiny-synthesizer, a chat model with --format chat, or --as continue",
            )
        return encode_prompt(self.tokenizer, chain, text, None if writes_pairs(form) else form)

    def read(self, text: str, completion: str, reason: str, form: str) -> Outcome:
        if form == CONTINUE:
            return read_rewrite(text, whole_sentences(completion, reason))
        if writes_pairs(form):
            return read_pairs(completion)
        return read_rewrite(text, parse_rewrite(f"<REW> {form} <OUT> {completion}", form))

    @cached_property
    def _eos(self) -> int | None:
        name = self.tokenizer.settings.roles.get("eos_token")
        return None if name is None else self.tokenizer.id_of(name)


def read_outcome(writer: Writer, text: str, completion: str, reason: str, form: str) -> Outcome:
    """What is valid in a completion, of which a loop is rejected; arguments as of `Writer.read`."""
    outcome = writer.read(text, completion, reason, form)
    if reason != "loop":
        return outcome
    if not writes_pairs(form):
        return Outcome(dropped=Counter({LOOPED: 1}))
    # The loop is in the piece that was cut off.
    others = Counter({name: count for name, count in outcome.dropped.items() if name != CUT_OFF})
    return Outcome(pairs=outcome.pairs, dropped=others + Counter({LOOPED: 1}))


def read_pairs(completion: str) -> Outcome:
    """The pairs of a completion in the synthesizer's format."""
    parsed = parse_pairs(completion)
    return Outcome(pairs=parsed.pairs, dropped=parsed.dropped)


def read_rewrite(text: str, rewrite: str | None) -> Outcome:
    """A rewrite of a text, unless it is None (cut off), empty, or a copy."""
    reason = CUT_OFF if rewrite is None else rejection(text, rewrite)
    return Outcome(rewrite=rewrite or "") if reason is None else Outcome(dropped=Counter({reason: 1}))
