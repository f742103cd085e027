"""Trainers work one after the other, and one that fails is named."""

from pathlib import Path
from typing import Any

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.bench.turns import take_turns
from tests.apps.bench.shifts import diligent, dying, failing


def test_two_processes_take_turns_and_both_report_each(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    works = {name: (diligent, (name, str(diary), 3)) for name in ("a", "b")}
    assert take_turns(works, 3) == {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert diary.read_text() == "ababab"


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (failing, "ValueError: the model has no such layer"),
        (dying, "the process was ended, for want of memory perhaps"),
    ],
)
def test_one_that_fails_is_named_with_its_last_words(work: Any, words: str) -> None:
    with pytest.raises(UserError, match="lazy has failed") as caught:
        take_turns({"lazy": (work, None)}, 1)
    assert list(caught.value.details)[-1] == words
