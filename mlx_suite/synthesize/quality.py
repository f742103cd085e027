"""Quality of pairs and rewrites: from form and words, and where facts are known, from the microworld's checker."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_suite.microworld.facts import FactCount, count_facts, quoted_share
from mlx_suite.microworld.passages import WorldPassage
from mlx_suite.microworld.reading import find_answer
from mlx_suite.synthesize.format import KINDS, REPEATED, Pair
from mlx_suite.synthesize.repetition import RepetitionFilter
from mlx_suite.synthesize.writer import Outcome

COMPARED = 20_000
"""Questions that are compared with one another: enough for the share that repeats another, in bounded memory."""
Truth = Mapping[str, WorldPassage]
"""Passages of the microworld by their texts."""


@dataclass(frozen=True, kw_only=True)
class PairTruth:
    """Verdicts on pairs about passages whose facts are known."""

    judged: int = 0
    """Pairs about a known passage."""
    grounded: int = 0
    """Of these, pairs whose question the passage answers, as far as the checker understands questions."""
    right: int = 0
    """Of these, pairs whose answer is the right one."""


@dataclass(kw_only=True)
class Quality:
    """Figures about everything that was accepted."""

    pieces: int = 0
    """Pieces of completions that should be pairs."""
    parsed: int = 0
    """Pieces that are pairs, those included that repeat another of their completion."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Accepted pairs by kind."""
    quoted: float = 0.0
    """Sum, over accepted pairs, of the share of the answer's words that stand in its text."""
    compared: int = 0
    """Accepted pairs whose questions were compared with one another, the first `COMPARED`."""
    repeated: int = 0
    """Of these, pairs whose question nearly repeats an earlier one of any text."""
    truth: PairTruth | None = None
    facts: dict[str, FactCount] = field(default_factory=dict)
    """Facts of the passages that rewrites keep, lose and invent, by form."""

    def __post_init__(self) -> None:
        self._questions = RepetitionFilter(everywhere=True)

    def add_pieces(self, outcome: Outcome) -> None:
        """Count the pieces of a completion, before repetitions are dropped."""
        self.pieces += len(outcome.pairs) + outcome.dropped.total()
        self.parsed += len(outcome.pairs) + outcome.dropped[REPEATED]

    def add_pair(self, pair: Pair, text: str, passage: WorldPassage | None) -> None:
        """Count an accepted pair about `text`; `passage` says what is true."""
        self.kinds[pair.kind] += 1
        self.quoted += quoted_share(pair.answer, text)
        if self.compared < COMPARED:
            self.compared += 1
            self.repeated += not self._questions.is_new(pair.question, "")
        if passage is None:
            return
        before, found = self.truth or PairTruth(), find_answer(pair.question, passage)
        self.truth = PairTruth(
            judged=before.judged + 1,
            grounded=before.grounded + (found is not None),
            right=before.right + (found is not None and _same(found.answer, pair.answer)),
        )

    def add_rewrite(self, form: str, rewrite: str, passage: WorldPassage | None) -> None:
        """Count an accepted rewrite; `passage` says what is true."""
        if passage is not None:
            self.facts[form] = self.facts.get(form, FactCount()) + count_facts(passage, rewrite)

    @property
    def pairs(self) -> int:
        """Number of accepted pairs."""
        return self.kinds.total()

    @property
    def quoted_share(self) -> float | None:
        """Mean share of an answer's words that stand in its text; None without pairs."""
        return self.quoted / self.pairs if self.pairs else None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "pieces": self.pieces,
            "parsed": self.parsed,
            "pairs": self.pairs,
            "kinds": {kind: self.kinds[kind] for kind in KINDS},
            "quoted_share": None if self.quoted_share is None else round(self.quoted_share, 4),
            "compared": self.compared,
            "repeated_questions": self.repeated,
            "truth": None
            if self.truth is None
            else {"judged": self.truth.judged, "grounded": self.truth.grounded, "right": self.truth.right},
            "facts": {
                form: {"kept": each.kept, "lost": each.lost, "invented": each.invented}
                for form, each in self.facts.items()
            },
        }


def _same(one: str, other: str) -> bool:
    return one.strip(" .").casefold() == other.strip(" .").casefold()
