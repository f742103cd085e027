"""What is wrong with a row, and where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_suite.runtime.errors import UserError, shortened


@dataclass(frozen=True)
class Problem:
    """Something in the data that cannot be trained on."""

    place: str
    """`file:line`, `file#row`, or the file."""
    what: str
    """What is wrong, and what was expected."""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


def refusal(problems: Sequence[Problem], where: str, *, all_lost: bool = False) -> UserError:
    """All problems as one error.

    `all_lost` says that nothing remains without these rows, so that leaving them out is no way out.
    """
    count = len(problems)
    what = "There is a problem with the data" if count == 1 else f"There are {count:,} problems with the data"
    it, rows = ("it", "this row") if count == 1 else ("them", "these rows")
    return UserError(
        what + (", and nothing is left to train on" if all_lost else ""),
        where=where,
        fix=f"mend {it}" + ("" if all_lost else f", or leave {rows} out with --skip-bad"),
        details=shortened(problems),
    )
