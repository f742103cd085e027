"""Workers take turns; the error of a failing one names it."""

from pathlib import Path
from typing import Any

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.bench.turns import take_turns
from tests.apps.bench.shifts import diligent, dying, failing, summing


def test_two_processes_take_turns_and_report_each_turn(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    works = {name: (diligent, (name, str(diary), 3)) for name in ("a", "b")}
    assert take_turns(works, 3) == {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert diary.read_text() == "ababab"


def test_two_processes_of_one_worker_are_connected_and_rank_0_reports() -> None:
    works = {"pair": (summing, 2), "alone": (summing, 2)}
    assert take_turns(works, 2, {"pair": 2}) == {"pair": [(0, 3), (0, 3)], "alone": [(0, 1), (0, 1)]}


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (failing, "ValueError: the model has no such layer"),
        (dying, "the process was killed, possibly for lack of memory"),
    ],
)
def test_the_error_of_a_failing_worker_has_its_name_and_the_end_of_its_traceback(work: Any, words: str) -> None:
    with pytest.raises(UserError, match="broken failed") as caught:
        take_turns({"broken": (work, None)}, 1)
    assert list(caught.value.details)[-1] == words
