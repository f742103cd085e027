"""When a run gives up: the rows that are wanted will not come, and it says why.

A run must not go on without end. It stops when too many rows in succession were rejected, when the yield so far
foretells more rows than may be asked, or when they have been asked.
"""

from collections import Counter
from collections.abc import Iterator

from mlx_suite.curation.reasons import DUPLICATE, NEAR_DUPLICATE, NEAR_MEANING, OFF_QUOTA, REASONS
from mlx_suite.data.steering import REST
from mlx_suite.magpie.decide import Judge, Verdict
from mlx_suite.magpie.draft import Draft
from mlx_suite.runtime.errors import UserError

FIRST_LOOK = 200
"""Decided rows before the yield says anything."""
KEPT = "the rows are kept; each rejected one is in rejected.jsonl with its reason"


class Prospects:
    """What has become of the rows so far."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.asked = 0
        self.rejections: Counter[str] = Counter()
        """Rejected rows by reason."""
        self.dry_spell: Counter[str] = Counter()
        """Rows rejected since the last accepted one, by reason; those of which there are enough do not count."""
        self.steered: dict[str, Counter[str]] = {quota.dimension: Counter() for quota in judge.quotas.quotas}
        """Decided rows by what they were steered to."""
        self.hits: dict[str, Counter[str]] = {quota.dimension: Counter() for quota in judge.quotas.quotas}
        """Of those, accepted ones that were what they were steered to."""

    def decided(self, draft: Draft, verdict: Verdict) -> None:
        """Take note of a decision."""
        self.asked += 1
        steer, found = dict(draft.steer), self.judge.found(draft)
        for quota in self.judge.quotas.quotas:
            name = quota.dimension
            if name in steer:
                self.steered[name][steer[name]] += 1
                is_it = quota.value_of(found.get(name)) == steer[name]
                self.hits[name][steer[name]] += verdict.reason is None and is_it
        if verdict.reason is None:
            self.dry_spell.clear()
            return
        self.rejections[verdict.reason] += 1
        if not verdict.reason.startswith(OFF_QUOTA):
            self.dry_spell[verdict.reason] += 1

    def check(self) -> None:
        """Raises UserError that explains why the run gives up."""
        settings, accepted = self.judge.plan.settings, len(self.judge.keys)
        if accepted >= settings.count:
            return
        if self.dry_spell.total() >= settings.patience:
            more = f"--patience above {settings.patience:,}"
            raise self._failure(f"and the last {self.dry_spell.total()} were all rejected", self.dry_spell, more)
        more = f"--most-asked above {settings.asked_at_most:,}"
        if self.asked >= settings.asked_at_most:
            raise self._failure(f"and {self.asked:,} have been asked, which is the most", self.rejections, more)
        if self.asked < FIRST_LOOK:
            return
        for dimension, missing in self.judge.quotas.missing().items():
            for value, rows in missing.items():
                self._check_value(dimension, value, rows)
        foretold = round(self.asked * settings.count / max(accepted, 1))
        if accepted and foretold > settings.asked_at_most:
            share = f"one in {self.asked / accepted:,.0f}"
            raise self._failure(f"{share} asked: all of them would take {foretold:,}", self.rejections, more)

    def _check_value(self, dimension: str, value: str, missing: int) -> None:
        """Look at what one quota still wants."""
        settings = self.judge.plan.settings
        steered, hits = self.steered[dimension][value], self.hits[dimension][value]
        tried = steered if self.steered[dimension] else self.asked
        held = self.judge.quotas.accepted[dimension][value]
        rate = max(hits / max(steered, 1), held / self.asked)
        if rate == 0 and tried < settings.patience:
            return
        if rate and self.asked + missing / rate <= settings.asked_at_most:
            return
        name = "what no quota names" if value == REST else repr(value)
        seen = f"{held} accepted in {self.asked:,} rows"
        if steered:
            seen += f", {hits} of them among the {steered:,} that were steered to it"
        raise UserError(
            f"{dimension} {name}: {held + missing} rows are wanted, and the model hardly gives any: {seen}",
            where=KEPT,
            fix=self._remedy_for(dimension, value),
            details=_counted(self.rejections),
        )

    def _remedy_for(self, dimension: str, value: str) -> str:
        settings = self.judge.plan.settings
        lower = f"lower that share (--quota {dimension}:{value}=…; the rows stay)"
        steer = "" if dimension in settings.steered else "leave --no-steer out (in another folder), "
        return f"{lower}, {steer}use a model that obeys, or go on with --most-asked above {settings.asked_at_most:,}"

    def _failure(self, and_what: str, reasons: Counter[str], more: str) -> UserError:
        """What to say; `more` is the flag with which the run would go on."""
        settings, accepted = self.judge.plan.settings, len(self.judge.keys)
        return UserError(
            f"{accepted} of {settings.count} rows are made, {and_what}",
            where=KEPT,
            fix="; or ".join([*_remedies(reasons, accepted), f"go on trying with {more}"]),
            details=_counted(reasons),
        )


def _counted(reasons: Counter[str]) -> list[str]:
    return [f"{number} times: {REASONS.get(reason, reason)}" for reason, number in reasons.most_common()]


def _remedies(reasons: Counter[str], accepted: int) -> Iterator[str]:
    """What to do about the most frequent reason; there is none where all rows were accepted."""
    if accepted:
        yield f"settle for --count {accepted}"
    for reason, _ in reasons.most_common(1):
        part, _, what = reason.partition("_")
        if reason == DUPLICATE:
            yield "the model repeats itself: raise --temperature (in another folder)"
        elif reason in (NEAR_DUPLICATE, NEAR_MEANING):
            raised = f"raise --temperature (in another folder), or --{reason.replace('_', '-')}"
            yield f"the model repeats itself: {raised}"
        elif what == "limit":
            yield f"raise --max-{part}"
        elif reason in ("low_quality", "answer_quality"):
            yield f"lower --min-{'input' if reason == 'low_quality' else 'answer'}-quality"
        elif reason.startswith(OFF_QUOTA):
            yield "lower the shares of what is still missing (--quota; the rows stay)"
        else:
            yield "see what the model writes in rejected.jsonl; it may not be an instruction-tuned checkpoint"
