"""The wordings of one chain of texts, drawn once: all examples of a chain share them, as in the paper.

Each pool has a random stream of its own, seeded by seed, chain and name, so that
no choice tells anything about another.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from mlx_suite.synthesize.format import Kind
from mlx_suite.synthesize.options import OptionStyle
from mlx_suite.synthesize.templates import both, choice, frames, free, reasoning
from mlx_suite.synthesize.templates.frames import FewShotStyle, NextTurnStyle, NumberedStyle

T = TypeVar("T")

ALONE: Mapping[Kind, tuple[str, ...]] = {
    "free": (*free.ALONE, *free.INVERTED),
    "choice": (*choice.ALONE, *choice.INVERTED),
    "reasoning": (*reasoning.ALONE, *reasoning.INVERTED),
    "both": (*both.ALONE, *both.INVERTED),
}
"""Wordings of pairs of each kind that do not mention the text."""
BESIDE_TEXT: Mapping[Kind, tuple[str, ...]] = {
    "free": (*ALONE["free"], *free.ABOUT_TEXT),
    "choice": (*ALONE["choice"], *choice.ABOUT_TEXT),
    "reasoning": (*ALONE["reasoning"], *reasoning.ABOUT_TEXT),
    "both": (*ALONE["both"], *both.ABOUT_TEXT),
}
"""Wordings of pairs of each kind beside their text."""


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Independent random streams of one chain."""

    seed: int
    number: int
    """Number of the chain."""

    def rng(self, *name: str | int) -> Random:
        """The stream of a name."""
        return Random(self._hash(*name))

    def pick(self, name: str, pool: Sequence[T]) -> T:
        return pool[self._hash(name) % len(pool)]

    def uniform(self, name: str) -> float:
        """A number from 0 to 1, without 1."""
        return (self._hash(name) >> 11) / 2**53

    def _hash(self, *name: str | int) -> int:
        """64 bits. Neighbouring seeds and numbers have nothing in common, and a hash costs less than a generator."""
        key = "/".join(map(str, (self.seed, self.number, *name)))
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True, kw_only=True)
class PatternSet:
    """Everything that the texts of a chain have in common."""

    layout: float
    """Position in the distribution of layouts, from 0 to 1."""
    is_inverted: bool
    """Whether pairs come before their text."""
    pairs: Mapping[Kind, str]
    """A wording for each kind."""
    options: OptionStyle
    request: str
    """Asks for reasoning, after a question."""
    conclusion: str
    """Reasoning and answer: slots {reasoning} and {answer}."""
    text: str
    """Slot {text}."""
    pairs_start: str
    """Line between text and pairs, or before both; may be empty."""
    pair_gap: str
    separator: str
    """Between two examples."""
    rewrite_start: str
    speakers: tuple[str, str]
    turn: str
    """One turn of a dialogue: slots {name} and {turn}."""
    dialogue_start: str
    numbered: NumberedStyle
    few_shot: FewShotStyle
    next_turn: NextTurnStyle


def draw_patterns(streams: Streams, *, inverted: float, with_text: bool = True) -> PatternSet:
    """Draw the patterns of a chain.

    Args:
        inverted: Probability that pairs come before their texts.
        with_text: Whether the pairs stand beside their texts, so that wordings may mention them.
    """
    pick = streams.pick
    wordings = BESIDE_TEXT if with_text else ALONE
    is_inverted = streams.uniform("inversion") < inverted
    starts = frames.QUESTION_STARTS if is_inverted else frames.COMPREHENSION_STARTS
    return PatternSet(
        layout=streams.uniform("layout"),
        is_inverted=is_inverted,
        pairs={kind: pick(f"pairs {kind}", pool) for kind, pool in wordings.items()},
        options=OptionStyle(
            header=pick("option header", choice.HEADERS),
            end=pick("option end", choice.ENDS),
            labels=pick("option labels", choice.LABELS),
            names_item=pick("option answer", choice.NAMES_ITEM),
        ),
        request=pick("request", reasoning.REQUESTS),
        conclusion=pick("conclusion", reasoning.CONCLUSIONS),
        text=pick("text", frames.TEXT_ENDS if is_inverted else frames.READ_STARTS),
        pairs_start=pick("pairs start", starts) if with_text else "",
        pair_gap=pick("pair gap", frames.PAIR_GAPS),
        separator=pick("separator", frames.SEPARATORS),
        rewrite_start=pick("rewrite start", frames.REWRITE_STARTS),
        speakers=pick("speakers", frames.SPEAKERS),
        turn=pick("turn", frames.TURNS),
        dialogue_start=pick("dialogue start", frames.DIALOGUE_STARTS) if with_text else "",
        numbered=pick("numbered", frames.NUMBERED),
        few_shot=pick("few-shot", frames.FEW_SHOT),
        next_turn=pick("next turn", frames.NEXT_TURN),
    )
