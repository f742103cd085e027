"""The filter ablation compares sets of equal size, and refuses to resume with other settings."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from mlx_suite.microworld import make_world, sample_example
from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.lab import filter_ablation


def pool() -> list[dict[str, Any]]:
    """20 rows, 7 of which are right."""
    random, world = Random(1), make_world()
    rows = []
    for number in range(20):
        example = sample_example(random, world)
        answer = example.answer if number % 3 == 0 else "I am not sure about that at all."
        messages = [{"role": "user", "content": example.instruction}, {"role": "assistant", "content": answer}]
        rows.append({"id": f"r-{number}", "messages": messages, "answer_tokens": number})
    return rows


def test_every_set_has_the_same_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[str]] = {}

    def measure(folder: Path, draws: Any, *_: Any) -> dict[str, list[float]]:
        drawn.update({name: [row["id"] for row in draw(0)] for name, draw in draws.items()})
        return {}

    monkeypatch.setattr(filter_ablation, "make_pool", lambda *_: pool())
    monkeypatch.setattr(filter_ablation, "filtered", lambda _: [f"r-{number}" for number in range(10)])
    monkeypatch.setattr(filter_ablation, "measure", measure)
    monkeypatch.setattr(filter_ablation, "show", lambda *_: None)
    settings: dict[str, Any] = {"pool": 20, "seeds": 2, "teacher": "one", "student": "other"}
    filter_ablation.filter_ablation(tmp_path, size=9, **settings)

    assert {len(ids) for ids in drawn.values()} == {7}  # the smallest pool: the rows that are right
    assert drawn["longest responses"][0] == "r-19" and drawn["first rows, unfiltered"][0] == "r-0"
    assert set(drawn["right by the checker"]) == {f"r-{number}" for number in range(0, 20, 3)}

    with pytest.raises(UserError) as caught:  # results of sets of nine and eight rows are not comparable
        filter_ablation.filter_ablation(tmp_path, size=8, **settings)
    assert caught.value.details == ("size: was 9, now 8",)
