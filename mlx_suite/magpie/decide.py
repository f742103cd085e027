"""The decision about each row: a fold over drafts in the order of their numbers.

A row's reason is the first one that holds in the order of `reasons.REASONS`, with all rows of lower numbers decided.
It depends on nothing else: not on which row was finished first, nor on what a program left out because it foresaw the
end. A draft that lacks what its decision needs is made again.

Asked before that time, with fewer rows decided, a rejection is already certain: rows that are kept only become more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from mlx_suite.curation.duplicates.decontamination import Contamination
from mlx_suite.curation.duplicates.lexical import LexicalIndex, Signature
from mlx_suite.curation.duplicates.neighbours import Neighbours
from mlx_suite.curation.reasons import DUPLICATE, NEAR_DUPLICATE, NEAR_MEANING, OFF_QUOTA
from mlx_suite.data.questions import TAGGED
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.screen import (
    ANSWER_SAFETY,
    SAFETY,
    answer_problem,
    instruction_problem,
    is_below,
    is_unsafe,
    key_of,
    reached_a_lower_limit,
    wording_problem,
)
from mlx_suite.magpie.steering import Quotas, Steering, SteeringOutcome, make_quotas


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of a row."""

    reason: str | None = None
    """Why it is rejected; None for an accepted one."""
    twin: int | None = None
    """Number of the accepted row it is a duplicate of."""
    nearest: tuple[int, float] | None = None
    """Of an accepted row, the number of the nearest accepted one before it, and the cosine."""


class Judge:
    """The rows decided so far, as far as later ones depend on them."""

    def __init__(self, plan: Plan) -> None:
        settings = plan.settings
        self.plan = plan
        self.keys: dict[bytes, int] = {}
        """The accepted rows by `key_of` their instruction."""
        self.quotas = Quotas(quotas=make_quotas(settings.shares, settings.count))
        self.steering = Steering(self.quotas.quotas, settings.steered, settings.seed, settings.count)
        self.neighbours: Neighbours | None = None
        """The vectors of accepted rows; None before the first."""
        self._lexical = LexicalIndex(settings.near_duplicate) if settings.near_duplicate else None
        files = list(map(Path, settings.decontaminate))
        evaluation = Contamination.from_files(files) if files else None
        # A text is looked up when it is written and once or twice more until it is decided.
        self._signature = lru_cache(maxsize=1024)(self._lexical.signature) if self._lexical is not None else None
        self._contamination = lru_cache(maxsize=1024)(evaluation.hit) if evaluation is not None else None

    def decide(self, draft: Draft) -> Verdict | None:
        """The verdict on the next row, which is taken note of. None where the draft lacks what it needs."""
        if draft.steer != self.steering.of(draft.index):
            return None
        verdict = self.verdict(draft)
        if verdict is None:
            return None
        if verdict.reason is None and draft.embedding is not None and self.neighbours is not None:
            verdict = replace(verdict, nearest=self.neighbours.nearest(draft.embedding))
        self.settle(draft, verdict)
        return verdict

    def settle(self, draft: Draft, verdict: Verdict) -> None:
        """Take note of a decision, in the order of the rows."""
        found, accepted = self.found(draft), verdict.reason is None
        self.steering.record(SteeringOutcome(steer=dict(draft.steer), labels=found, accepted=accepted))
        if not accepted:
            return
        self.keys[key_of(draft.instruction)] = draft.index
        self.quotas.add(found)
        if self._lexical is not None:
            self._lexical.add(draft.index, self._signed(draft))
        if draft.embedding is not None:
            if self.neighbours is None:
                self.neighbours = Neighbours(len(draft.embedding))
            self.neighbours.add(draft.index, draft.embedding)

    def verdict(self, draft: Draft) -> Verdict | None:
        """What is known of a row: a rejection that is certain, or that it would be accepted now; else None."""
        if reached_a_lower_limit(self.plan, draft):
            return None
        rejected = self._by_text(draft)
        if rejected is None and self._asks_about_instruction:
            if draft.tags is None:
                return None
            rejected = self._by_tags(draft)
        if rejected is not None:
            return rejected
        if draft.answered is None:
            return None
        problem = answer_problem(self.plan, draft)
        if problem is None and self._asks_about_answer:
            if draft.answer_tags is None:
                return None
            problem = self._by_grade(draft)
        if problem is not None:
            return Verdict(reason=problem)
        return Verdict()

    def is_lost(self, draft: Draft) -> bool:
        """Whether a row is certain to be rejected."""
        verdict = self.verdict(draft)
        return verdict is not None and verdict.reason is not None

    def found(self, draft: Draft) -> Mapping[str, str]:
        """What a row is, by the dimensions of the quotas."""
        steered, tags = dict(draft.steer), draft.tags or {}
        found = {name: tags[name].label for name in TAGGED if name in tags}
        return found | {name: value for name, value in steered.items() if name not in TAGGED}

    @property
    def _asks_about_instruction(self) -> bool:
        return self.plan.tagger is not None and bool(self.plan.tagger.instruction.queries)

    @property
    def _asks_about_answer(self) -> bool:
        return self.plan.tagger is not None and bool(self.plan.tagger.answer.queries)

    def _by_text(self, draft: Draft) -> Verdict | None:
        """A rejection for which the model need not be asked anything."""
        problem = instruction_problem(self.plan, draft)
        if problem is None and self.plan.settings.sanitise:
            problem = wording_problem(draft)
        if problem is not None:
            return Verdict(reason=problem)
        twin = self.keys.get(key_of(draft.instruction))
        if twin is not None:
            return Verdict(reason=DUPLICATE, twin=twin)
        if self._lexical is not None:
            near = self._lexical.find(self._signed(draft))
            if near is not None:
                return Verdict(reason=NEAR_DUPLICATE, twin=near[0])
        if self._contamination is not None and self._contamination(draft.instruction):
            return Verdict(reason="contaminated")
        given = [quota.dimension for quota in self.quotas.quotas if quota.dimension not in TAGGED]
        full = self.quotas.full(dict(draft.steer), given)
        return None if full is None else Verdict(reason=f"{OFF_QUOTA}{full}")

    def _by_tags(self, draft: Draft) -> Verdict | None:
        """A rejection by what the model says of the instruction."""
        settings, tags = self.plan.settings, draft.tags
        assert tags is not None
        if not tags and self.plan.questions and self.plan.questions.about("instruction"):
            return Verdict(reason="instruction_context")  # there was no room to ask, and hardly any to answer
        if settings.near_meaning and draft.embedding is not None and self.neighbours is not None:
            near = self.neighbours.nearest(draft.embedding)
            if near is not None and near[1] >= settings.near_meaning:
                return Verdict(reason=NEAR_MEANING, twin=near[0])
        if is_below(tags, "input_quality", settings.min_input_quality):
            return Verdict(reason="low_quality")
        if settings.unsafe == "reject" and is_unsafe(tags, SAFETY):
            return Verdict(reason="unsafe")
        full = self.quotas.full(self.found(draft), TAGGED)
        return None if full is None else Verdict(reason=f"{OFF_QUOTA}{full}")

    def _by_grade(self, draft: Draft) -> str | None:
        """A rejection by what the model says of the answer."""
        settings, tags = self.plan.settings, draft.answer_tags
        assert tags is not None
        if is_below(tags, "answer_quality", settings.min_answer_quality):
            return "answer_quality"
        return "answer_unsafe" if settings.unsafe == "reject" and is_unsafe(tags, ANSWER_SAFETY) else None

    def _signed(self, draft: Draft) -> Signature:
        assert self._signature is not None
        return self._signature(draft.instruction)
