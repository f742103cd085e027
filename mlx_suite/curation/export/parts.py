"""Rows to train, to validate and to test on, so that no row has a near-duplicate in another part."""

from collections.abc import Mapping, Sequence

from mlx_suite.curation.filter.selection import lot
from mlx_suite.curation.rows import Record
from mlx_suite.data.read.sources import TEST, TRAIN, VALID
from mlx_suite.runtime.errors import UserError


def divide(
    rows: Sequence[Record], cluster_of: Sequence[int], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[int, ...]]:
    """The numbers of the rows of each part, ascending: `train`, and those of `shares` that are above 0.

    A group of near-duplicates stays whole. Groups are dealt from the largest to the smallest, each to the part that
    lacks most rows; among groups of one size the seed and their texts decide. So the parts come as close to their
    shares as the groups allow, and large groups are trained on.

    Raises UserError where there are fewer groups than parts.
    """
    wanted = {VALID: shares.get(VALID, 0.0), TEST: shares.get(TEST, 0.0)}
    assert all(share >= 0 for share in wanted.values()) and sum(wanted.values()) < 1, wanted
    lacking = {part: max(1, round(share * len(rows))) for part, share in wanted.items() if share > 0}
    lacking = {TRAIN: len(rows) - sum(lacking.values()), **lacking}
    groups = _dealt(rows, cluster_of, seed)
    if len(groups) < len(lacking):
        raise UserError(
            f"The rows cannot be split into {len(lacking)} parts: there are {len(rows):,}, "
            f"in {len(groups):,} groups of near-duplicates",
            where="--valid, --test",
            fix="leave a part out, or take more rows",
        )
    dealt: dict[str, list[list[int]]] = {part: [] for part in lacking}
    for group in groups:
        part = max(lacking, key=lambda part: lacking[part])  # the first of equals: train
        dealt[part].append(group)
        lacking[part] -= len(group)
    _fill_empty(dealt)
    return {part: tuple(sorted(number for group in found for number in group)) for part, found in dealt.items()}


def _dealt(rows: Sequence[Record], cluster_of: Sequence[int], seed: int) -> list[list[int]]:
    """The groups in the order in which they are dealt. It does not depend on the order of the rows."""
    groups: dict[int, list[int]] = {}
    for number, cluster in enumerate(cluster_of):
        groups.setdefault(cluster, []).append(number)
    lots = [lot(row, seed) for row in rows]
    return sorted(groups.values(), key=lambda group: (-len(group), min(lots[number] for number in group)))


def _fill_empty(dealt: dict[str, list[list[int]]]) -> None:
    """Give a part that got nothing the smallest group of the part with most groups."""
    for groups in dealt.values():
        if not groups:
            giver = max(dealt.values(), key=len)
            groups.append(giver.pop())  # the last was dealt last: it is the smallest
