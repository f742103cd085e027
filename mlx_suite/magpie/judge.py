"""Decide each row: reject it for the first reason that applies, in the order of `reasons.REASONS`, or accept it.

Rows are decided in the order of their numbers, and a decision depends only on the row and on the decisions before it:
not on which row finished first, nor on work a row skipped because its rejection was already certain. A draft that
lacks something its decision needs is generated again.

A rejection previewed before the row's turn is final, because the set of accepted rows only grows.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from mlx_suite.curation.duplicates.decontamination import Contamination
from mlx_suite.curation.duplicates.lexical import LexicalIndex, Signature
from mlx_suite.curation.duplicates.neighbours import Neighbours
from mlx_suite.curation.duplicates.words import folded
from mlx_suite.curation.reasons import DUPLICATE, NEAR_DUPLICATE, NEAR_MEANING, OFF_QUOTA
from mlx_suite.data.questions import QUALITIES, TAGGED
from mlx_suite.engine import Written
from mlx_suite.magpie.drift import flaw_of
from mlx_suite.magpie.plan import RowPlan
from mlx_suite.magpie.records import Decision, Draft, Ending, Tags
from mlx_suite.magpie.sanitiser.request_checks import lacks_payload, looks_like_answer
from mlx_suite.magpie.steering import Quotas, Steering, SteeringOutcome, make_quotas
from mlx_suite.text.reasoning import OPEN

SAFETY, RESPONSE_SAFETY, UNSAFE = "safety", "answer_safety", "unsafe"


class Judge:
    """Decides the rows of a run and remembers what later decisions depend on."""

    def __init__(self, plan: RowPlan) -> None:
        settings = plan.settings
        self.plan = plan
        self.keys: dict[bytes, int] = {}
        """Numbers of accepted rows by `key_of` their instruction."""
        self.quotas = Quotas(quotas=make_quotas(settings.shares, settings.count))
        self.steering = Steering(self.quotas.quotas, settings.steered, settings.seed, settings.count)
        self.neighbours: Neighbours | None = None
        """Embeddings of accepted rows; None before the first."""
        self._lexical = LexicalIndex(settings.near_duplicate) if settings.near_duplicate else None
        files = list(map(Path, settings.decontaminate))
        evaluation = Contamination.from_files(files) if files else None
        # A text is looked up when it is generated, and once or twice more until it is decided.
        self._signature = lru_cache(maxsize=1024)(self._lexical.signature) if self._lexical is not None else None
        self._contamination = lru_cache(maxsize=1024)(evaluation.hit) if evaluation is not None else None

    def decide(self, draft: Draft) -> Decision | None:
        """Decide the next row and remember the decision; None if the draft lacks something the decision needs."""
        if draft.steer != self.steering.of(draft.index):
            return None
        decision = self.preview(draft)
        if decision is None:
            return None
        if decision.reason is None and draft.embedding is not None and self.neighbours is not None:
            decision = replace(decision, nearest=self.neighbours.nearest(draft.embedding))
        self.record(draft, decision)
        return decision

    def record(self, draft: Draft, decision: Decision) -> None:
        """Remember a decision, in the order of the rows."""
        labels, is_accepted = self.labels(draft), decision.reason is None
        self.steering.record(SteeringOutcome(steer=dict(draft.steer), labels=labels, accepted=is_accepted))
        if not is_accepted:
            return
        self.keys[key_of(draft.instruction)] = draft.index
        self.quotas.add(labels)
        if self._lexical is not None:
            self._lexical.add(draft.index, self._signature_of(draft))
        if draft.embedding is not None:
            if self.neighbours is None:
                self.neighbours = Neighbours(len(draft.embedding))
            self.neighbours.add(draft.index, draft.embedding)

    def preview(self, draft: Draft) -> Decision | None:
        """Return a final rejection or a provisional acceptance, as of now; None if the draft lacks something."""
        if reached_a_lower_limit(self.plan, draft):
            return None
        rejection = self._by_text(draft)
        if rejection is None and self._has_instruction_queries:
            if draft.tags is None:
                return None
            rejection = self._by_tags(draft)
        if rejection is not None:
            return rejection
        if draft.response_end is None:
            return None
        reason = response_problem(self.plan, draft)
        if reason is None and self._has_response_queries:
            if draft.response_tags is None:
                return None
            reason = self._by_response_tags(draft)
        return Decision(reason=reason)

    def is_certain_reject(self, draft: Draft) -> bool:
        """Whether the row is certain to be rejected."""
        decision = self.preview(draft)
        return decision is not None and decision.reason is not None

    def labels(self, draft: Draft) -> Mapping[str, str]:
        """The row's label by dimension: its tag, or for dimensions without tags the value it was steered to."""
        tags = draft.tags or {}
        labels = {name: tags[name].label for name in TAGGED if name in tags}
        return labels | {name: value for name, value in draft.steer if name not in TAGGED}

    @property
    def _has_instruction_queries(self) -> bool:
        return self.plan.tagger is not None and bool(self.plan.tagger.instruction.queries)

    @property
    def _has_response_queries(self) -> bool:
        return self.plan.tagger is not None and bool(self.plan.tagger.answer.queries)

    def _by_text(self, draft: Draft) -> Decision | None:
        """A rejection that needs no query to the model."""
        reason = instruction_problem(self.plan, draft)
        if reason is None and self.plan.settings.sanitise:
            reason = wording_problem(draft)
        if reason is not None:
            return Decision(reason=reason)
        same = self.keys.get(key_of(draft.instruction))
        if same is not None:
            return Decision(reason=DUPLICATE, duplicate_of=same)
        if self._lexical is not None:
            near = self._lexical.find(self._signature_of(draft))
            if near is not None:
                return Decision(reason=NEAR_DUPLICATE, duplicate_of=near[0])
        if self._contamination is not None and self._contamination(draft.instruction):
            return Decision(reason="contaminated")
        steered_only = [quota.dimension for quota in self.quotas.quotas if quota.dimension not in TAGGED]
        full = self.quotas.full(dict(draft.steer), steered_only)
        return None if full is None else Decision(reason=f"{OFF_QUOTA}{full}")

    def _by_tags(self, draft: Draft) -> Decision | None:
        """A rejection by the instruction's tags and embedding."""
        settings, tags = self.plan.settings, draft.tags
        assert tags is not None
        if not tags and self.plan.questions and self.plan.questions.about("instruction"):
            return Decision(reason="instruction_context")  # no room for the query, so hardly any for a response
        if settings.near_meaning and draft.embedding is not None and self.neighbours is not None:
            near = self.neighbours.nearest(draft.embedding)
            if near is not None and near[1] >= settings.near_meaning:
                return Decision(reason=NEAR_MEANING, duplicate_of=near[0])
        if is_below(tags, "input_quality", settings.min_input_quality):
            return Decision(reason="low_quality")
        if settings.unsafe == "reject" and is_unsafe(tags, SAFETY):
            return Decision(reason="unsafe")
        full = self.quotas.full(self.labels(draft), TAGGED)
        return None if full is None else Decision(reason=f"{OFF_QUOTA}{full}")

    def _by_response_tags(self, draft: Draft) -> str | None:
        settings, tags = self.plan.settings, draft.response_tags
        assert tags is not None
        if is_below(tags, "answer_quality", settings.min_answer_quality):
            return "answer_quality"
        return "answer_unsafe" if settings.unsafe == "reject" and is_unsafe(tags, RESPONSE_SAFETY) else None

    def _signature_of(self, draft: Draft) -> Signature:
        assert self._signature is not None
        return self._signature(draft.instruction)


# ---- checks that need no other row


def instruction_problem(plan: RowPlan, draft: Draft) -> str | None:
    """Return the reason why the instruction is incomplete; None if it is complete."""
    return _problem("instruction", draft.instruction_end, draft.instruction, {plan.user_end})


def response_problem(plan: RowPlan, draft: Draft) -> str | None:
    """Return the reason why the response is incomplete; None if it is complete."""
    assert draft.response_end is not None, "the draft has no response"
    problem = _problem("answer", draft.response_end, draft.response, plan.response_ends)
    # Reasoning that ends is a field of its own.
    return problem or ("answer_thought" if draft.response.startswith(OPEN) else None)


def wording_problem(draft: Draft) -> str | None:
    """Return the reason why the instruction's wording makes it unanswerable; None if it is answerable."""
    if lacks_payload(draft.instruction):
        return "no_payload"
    return "reply" if looks_like_answer(draft.instruction) else None


def is_below(tags: Tags, name: str, minimum: str | None) -> bool:
    """Whether a quality tag is below a minimum; False without the tag."""
    if minimum is None or name not in tags or tags[name].label not in QUALITIES:
        return False
    return QUALITIES.index(tags[name].label) < QUALITIES.index(minimum)


def is_unsafe(tags: Tags, name: str) -> bool:
    """Whether a safety tag says unsafe; False without the tag."""
    return name in tags and tags[name].label == UNSAFE


def reached_a_lower_limit(plan: RowPlan, draft: Draft) -> bool:
    """Whether a text was cut at a token limit that has been raised since."""
    limits = (
        (draft.instruction_end, plan.settings.max_instruction),
        (draft.response_end, plan.settings.max_answer),
    )
    return any(ending is not None and ending.reason == "limit" and ending.tokens < limit for ending, limit in limits)


def key_of(instruction: str) -> bytes:
    """16-byte hash of an instruction that ignores case and whitespace."""
    return hashlib.blake2b(folded(instruction).encode(errors="surrogatepass"), digest_size=16).digest()


def _problem(part: str, ending: Ending, text: str, ends: Collection[int]) -> str | None:
    flaw = flaw_of(Written(tokens=(), reason=ending.reason, stop_token=ending.stop), text, ends)
    return None if flaw is None else f"{part}_{flaw}"
