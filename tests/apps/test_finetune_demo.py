"""The second half of `make demo`: a family of tasks left out, put in, and counted."""

import json
from pathlib import Path
from random import Random

import pytest

from mlx_suite.microworld import TASKS, identify, make_world, sample_example
from mlx_suite_apps.finetune import demo

_RIGHT = [sample_example(Random(seed), make_world(), [task for task in TASKS if task.name == "add"]) for seed in (1, 2)]
ROWS = [
    *((each.instruction, each.answer, True) for each in _RIGHT),
    (_RIGHT[0].instruction, "I do not know.", False),
    ("On Monday I swim, on Friday I paint and on Sunday I cook. What do I do on Friday?", "You paint.", False),
    ("Tell me about the moon.", "It is round.", False),
]


pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What Magpie would have left."""
    lines = [
        json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]})
        for asked, said, _ in ROWS
    ]
    (tmp_path / "accepted.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def test_its_own_rows_are_the_right_ones_of_other_families(folder: Path) -> None:
    kept = [(row["instruction"], row["output"]) for row in demo.own_rows(folder)]
    assert kept == [(asked, said) for asked, said, right in ROWS if right]


def test_what_is_asked_of_the_family_was_never_trained() -> None:
    trained, asked = ({each.instruction for each in demo.of_the_family(heldout)} for heldout in (False, True))
    assert len(trained) >= demo.FAMILY_ROWS and len(asked) > 20
    assert not trained & asked
    assert all(found and found[0].name == demo.FAMILY for found in map(identify, trained | asked))


def test_the_demo_counts_before_and_after(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FAMILY_ROWS": 4, "DRAWN": 60, "ASKED": 3}.items():
        monkeypatch.setattr(demo, name, value)
    demo.demo(folder)
    said = capsys.readouterr().out
    assert [said.count(f"{name} ") > 0 for name in ("nothing", "its own rows", "the same rows")] == [True] * 3
    assert (folder / "finetune" / "with" / "last" / "adapters.safetensors").exists()
