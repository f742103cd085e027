"""Stages for tests, by names that another process can find."""

from mlx_suite_apps.bench.duplicates import Stage


def whole() -> Stage:
    """Four numbers again and again, each looked up."""
    return _counting(None)


def halfway() -> Stage:
    """The same, looked up in the middle only."""
    return _counting(4)


def _counting(timed: int | None) -> Stage:
    known: set[int] = set()

    def is_duplicate(key: int, item: int) -> bool:
        found = item in known
        known.add(item)
        return found

    return Stage(
        items=lambda rows: [row % 4 for row in range(rows)],
        is_duplicate=is_duplicate,
        add=lambda key, item: known.add(item),
        prepared=str,
        is_same=lambda one, other: bool(one == other),
        timed=timed,
    )
