"""Benchmark stages for tests, at module level so that spawned processes can import them."""

from mlx_suite_apps.bench.duplicates import BenchStage


def every() -> BenchStage:
    """Four repeating numbers; every look-up is timed."""
    return _counting(None)


def halfway() -> BenchStage:
    """Four repeating numbers; four look-ups in the middle are timed."""
    return _counting(4)


def _counting(timed: int | None) -> BenchStage:
    known: set[int] = set()

    def is_duplicate(key: int, item: int) -> bool:
        found = item in known
        known.add(item)
        return found

    return BenchStage(
        items=lambda rows: [row % 4 for row in range(rows)],
        is_duplicate=is_duplicate,
        add=lambda key, item: known.add(item),
        prepared=str,
        is_same=lambda one, other: bool(one == other),
        timed=timed,
    )
