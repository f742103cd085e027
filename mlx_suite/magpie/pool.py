"""Rows between the model and their decision: which to begin, which are finished, which must be made again.

Rows finish out of order and are decided in order. A program asks the pool whether its row is lost, so as not to pay for
the rest; the pool says so where that is certain, and also where an unfinished decision makes it as good as certain: a
row of lower number that is finished and whole has the same instruction. If that one is rejected after all, the draft
lacks what its own decision needs and is made again. So what is foreseen saves work and changes no row.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from mlx_suite.engine import Request
from mlx_suite.magpie.decide import Judge, Verdict
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.screen import key_of

Mine = Callable[[int], bool]
"""Whether a row of this number is made here."""


def every_row(index: int) -> bool:
    """Of a run in one process."""
    return True


class Pool:
    """The undecided rows of a run.

    Args:
        judge: Holds all rows that are decided.
        drafts: Finished ones that are not decided yet.
        following: The first row that is not decided.
        mine: Rows that are made by this process; the others come by `take`.
    """

    def __init__(self, judge: Judge, drafts: Mapping[int, Draft], following: int, mine: Mine = every_row) -> None:
        self.judge, self.following, self.mine = judge, following, mine
        self.drafts: dict[int, Draft] = {}
        self._under_way: set[int] = set()
        self._again: list[int] = []
        """Rows to make again before any other."""
        self._remade: Counter[int] = Counter()
        self._hopeful: dict[int, bytes] = {}
        """Finished rows that would be accepted now, among those that were begun or passed over, by their numbers."""
        self._twins: dict[bytes, set[int]] = {}
        """The same by their instructions."""
        self._expected = {quota.dimension: Counter[str]() for quota in judge.quotas.quotas}
        """The same by what they are, in each dimension of the quotas."""
        self._begin = following
        """The first row that has not been begun or passed over."""
        self.drafts |= {index: draft for index, draft in drafts.items() if index >= following}

    def requests(self) -> Iterator[Request | None]:
        """Rows to begin, as the engine asks for them; None where a decision must come first.

        It ends when there are probably enough rows, which the decisions may prove wrong: then it is called again.
        """
        while True:
            index = self._again[0] if self._again else self._advance()
            if not self._again and self.enough:
                return
            steer = self.judge.steering.of(index)
            if steer is None:
                yield None
                continue
            if self._again:
                self._again.remove(index)
            else:
                self._begin = index + 1
            self._under_way.add(index)
            yield self.judge.plan.request(index, steer, self.is_lost)

    def take(self, draft: Draft) -> None:
        """A row is finished."""
        self._under_way.discard(draft.index)
        if draft.index >= self.following:
            self._keep(draft)

    def decided(self) -> Iterator[tuple[Draft, Verdict]]:
        """Rows that can be decided now, in the order of their numbers."""
        while self.following in self.drafts and self.following not in self._under_way:
            draft = self.drafts[self.following]
            verdict = self.judge.decide(draft)
            if verdict is None:
                self.make_again(draft.index)
                return
            self._drop(draft.index)
            self.following += 1
            yield draft, verdict

    def settle(self, verdict: Verdict) -> None:
        """The first undecided row, of which there is a draft, has been decided by another process."""
        self.judge.settle(self.drafts[self.following], verdict)
        self._drop(self.following)
        self.following += 1

    def make_again(self, index: int) -> None:
        """A draft lacks what its decision needs."""
        if index in self._again or index in self._under_way or not self.mine(index):
            return
        self._remade[index] += 1
        assert self._remade[index] < 3, f"row {index} lacks something however often it is made"
        self._again.append(index)

    @property
    def ahead(self) -> int:
        """Rows between the first undecided one and the next to be begun; 0 where one is to be made again."""
        return 0 if self._again else max(0, self._begin - self.following)

    def is_lost(self, draft: Draft) -> bool:
        """Whether a row need not go on."""
        if self.judge.is_lost(draft):
            return True
        twins = self._twins.get(key_of(draft.instruction), ())
        return any(index < draft.index for index in twins)

    @property
    def enough(self) -> bool:
        """Whether the rows that are accepted, and the finished ones that probably will be, are as many as wanted."""
        if len(self.judge.keys) + len(self._twins) < self.judge.plan.settings.count:
            return False
        return all(
            self._expected[dimension][value] >= rows
            for dimension, missing in self.judge.quotas.missing().items()
            for value, rows in missing.items()
        )

    def _keep(self, draft: Draft) -> None:
        self._drop(draft.index)
        self.drafts[draft.index] = draft
        if draft.index < self._begin:
            self._hope(draft)

    def _hope(self, draft: Draft) -> None:
        """Count a row among those that will probably be accepted, if it would be now."""
        verdict = self.judge.verdict(draft)
        if verdict is not None and verdict.reason is None:
            key = self._hopeful[draft.index] = key_of(draft.instruction)
            self._twins.setdefault(key, set()).add(draft.index)
            self._count(draft, 1)

    def _drop(self, index: int) -> None:
        draft, key = self.drafts.pop(index, None), self._hopeful.pop(index, None)
        if draft is not None and key is not None:
            self._twins[key].discard(index)
            if not self._twins[key]:
                del self._twins[key]
            self._count(draft, -1)

    def _count(self, draft: Draft, by: int) -> None:
        found = self.judge.found(draft)
        for quota in self.judge.quotas.quotas:
            self._expected[quota.dimension][quota.value_of(found.get(quota.dimension))] += by

    def _advance(self) -> int:
        """Pass over rows that need not be made here; returns the first that must."""
        self._begin = max(self._begin, self.following)
        while not self.mine(self._begin) or self._begin in self._under_way or self._serves(self._begin):
            draft = self.drafts.get(self._begin)
            if draft is not None:
                self._hope(draft)
            self._begin += 1
            if self.enough:
                break
        return self._begin

    def _serves(self, index: int) -> bool:
        """Whether there is a draft of a row with all that its decision will need, as far as can be seen."""
        draft = self.drafts.get(index)
        if draft is None:
            return False
        steer = self.judge.steering.of(index)
        return (steer is None or draft.steer == steer) and (
            self.judge.verdict(draft) is not None or self.is_lost(draft)
        )
