"""Second half of `make demo`: finetuning with and without a family of tasks."""

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
    """A folder with accepted rows, as Magpie writes it."""
    lines = [
        json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
        for question, answer, _ in ROWS
    ]
    (tmp_path / "accepted.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def test_own_rows_are_the_right_ones_of_other_families(folder: Path) -> None:
    kept = [(row["instruction"], row["output"]) for row in demo.own_rows(folder)]
    assert kept == [(question, answer) for question, answer, right in ROWS if right]


def test_held_out_instructions_of_the_family_are_never_trained_on() -> None:
    trained, asked = ({each.instruction for each in demo.of_the_family(heldout)} for heldout in (False, True))
    assert len(trained) >= demo.FAMILY_ROWS and len(asked) > 20
    assert not trained & asked
    assert all(found and found[0].name == demo.FAMILY for found in map(identify, trained | asked))


@pytest.mark.slow
def test_the_demo_prints_accuracy_before_and_after(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FAMILY_ROWS": 4, "DRAWN": 60, "ASKED": 3}.items():
        monkeypatch.setattr(demo, name, value)
    demo.demo(folder)
    out = capsys.readouterr().out
    assert all(f"{name} " in out for name in ("nothing", "its own rows", "the same rows"))
    assert (folder / "finetune" / "with" / "last" / "adapters.safetensors").exists()
