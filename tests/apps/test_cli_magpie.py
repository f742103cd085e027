"""`mlx-suite magpie`, as a user at a terminal of 60 columns sees it."""

import errno
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from mlx_suite.engine import Counts
from mlx_suite.magpie import MagpieSettings, Summary, Truth
from mlx_suite.magpie.summary import Work
from mlx_suite_apps.cli import magpie as command
from mlx_suite_apps.cli.main import app, main
from mlx_suite_apps.cli.options import field_docs

SMALL = ["--max-instruction", "12", "--max-answer", "16", "--answer-temperature", "1"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["magpie", *map(str, arguments)], catch_exceptions=False)


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run the program itself; returns what it says on stderr when it leaves with 2."""
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "magpie", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def summary(folder: Path, **changes: Any) -> Summary:
    """Three rows about the microworld, of seven."""
    rows = [
        ("What is 12 plus 30?", "42"),
        ("Write a poem about " + "the sea and " * 30, "Blue\nand\x1b[31m wide."),
        ("Who is Ben?", "Ben is a nurse."),
    ]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]})
        for asked, answered in rows
    ]
    (folder / "accepted.jsonl").write_text("\n".join(lines) + "\n")
    counts = Counts(sampled=126, slot_steps=100, idle=4, steps=50, prefilled=4, ridden=15)
    facts: dict[str, Any] = {
        "folder": folder,
        "asked": 1207,
        "accepted": 3,
        "rejections": Counter({"duplicate": 1203, "instruction_stop": 1}),
        "instruction_tokens": 30,
        "answer_tokens": 12,
        "work": Work(rows=3, seconds=2.0, counts=counts),
        "truth": Truth(rows=3, recognised=2, right=2),
    }
    return Summary(**{**facts, **changes})


def shown(found: Summary) -> list[str]:
    console = Console(width=60, highlight=False, color_system=None)
    with console.capture() as capture:
        command._show(console, found)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_report_reads_well_at_60_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    line = " " + "─" * 58
    assert shown(summary(Path("demo"))) == [
        line,
        " the model asks                 and answers",
        line,
        " What is 12 plus 30?            42",
        line,
        " Write a poem about the sea     Blue",
        " and the sea and the sea and    and [31m wide.",
        *[" the sea and the sea and the"],
        " sea and the sea and the sea",
        " and the sea and the sea and",
        " the sea and the sea and the",
        " sea and the sea and the sea",
        " and t …",
        line,
        " Who is Ben?                    Ben is a nurse.",
        line,
        "asked      1,207 rows",
        "rejected   1,203: the instruction of an earlier row",
        "rejected   1: the instruction ended with another token than",
        "           the template's",
        "accepted   3 rows, a yield of 0%",
        "speed      1.5 rows/s in 0:02; 63 tokens/s, slots 96% busy",
        "confirmed  2 of 3 answers are right, 67%",
        "           2 of the instructions are the microworld's",
        "rows       demo/accepted.jsonl",
    ]


def test_a_slow_or_finished_run_says_so(tmp_path: Path) -> None:
    slow = summary(tmp_path, work=Work(rows=2, seconds=61.0, counts=Counts(sampled=90)), truth=None)
    assert "speed      30.5 s per row in 1:01; 1 tokens/s, slots 100%" in shown(slow)
    assert "speed      all rows were there already" in shown(summary(tmp_path, work=None))
    assert not [line for line in shown(slow) if line.startswith("confirmed")]


def test_rows_are_made_counted_and_continued(random_model: Path, tmp_path: Path) -> None:
    first = run(random_model, "--count", "6", "--out", tmp_path, *SMALL)
    assert first.exit_code == 0
    assert "accepted   6 rows, a yield of " in first.stdout
    assert first.stderr.splitlines()[-1].startswith("magpie  6/6 rows  ")

    more = run(random_model, "-n", "9", "-o", tmp_path, "--json", "--quiet", *SMALL)
    said = json.loads(more.stdout)
    assert (said["accepted"], said["run"]["rows"], more.stderr) == (9, 3, "")
    rows = [json.loads(line) for line in (tmp_path / "accepted.jsonl").read_text().splitlines()]
    assert len(rows) == 9
    assert {row["model"] for row in rows} == {"random"}

    again = run(random_model, "-n", "9", "-o", tmp_path, *SMALL)
    assert "all rows were there already" in again.stdout
    assert again.stderr == ""


def test_help_lists_every_setting_in_the_words_of_its_docstring() -> None:
    text = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["magpie", "--help"]).stdout
    docs = field_docs(MagpieSettings)

    assert set(docs) == set(MagpieSettings.__dataclass_fields__)
    flat = " ".join(text.replace("│", " ").split())
    for name, doc in docs.items():
        if name != "model_name":
            assert f"--{name.replace('_', '-')}" in text
            assert " ".join(doc.split()[:5]) in flat
    for flag in ("--out", "--json", "--quiet"):
        assert flag in text
    assert "mlx-suite magpie tiny-llama3 --count 200 --out demo/" in flat
    assert "magpie" in CliRunner().invoke(app, ["--help"]).stdout


def test_wrong_values_are_one_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path, tmp_path: Path
) -> None:
    arguments = [random_model, "--count", "0", "--out", tmp_path / "x", "--top-p", "2", "--batch", "-1"]
    assert fail(monkeypatch, capsys, *arguments) == (
        "error: 3 settings are wrong\n"
        "       - count is 0: a whole number from 1 up\n"
        "       - batch is -1: a whole number from 1 up\n"
        "       - top_p is 2.0: above 0 and at most 1\n"
        "where: the settings of Magpie\n"
        "fix:   mlx-suite magpie --help says what each one means\n"
    )
    assert not (tmp_path / "x").exists()


def test_an_unknown_model_and_a_folder_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = fail(monkeypatch, capsys, "tiny-lama3", "--count", "1", "--out", tmp_path / "x")
    assert said.startswith("error: there is no model 'tiny-lama3'\n")
    said = fail(monkeypatch, capsys, tmp_path / "none", "--count", "1", "--out", tmp_path / "x")
    assert said.startswith(f"error: there is no such folder\nwhere: {tmp_path / 'none'}\n")
    (tmp_path / "empty").mkdir()
    said = fail(monkeypatch, capsys, tmp_path / "empty", "--count", "1", "--out", tmp_path / "x")
    assert said.startswith("error: ")
    assert f"where: {tmp_path / 'empty'}" in said
    assert not (tmp_path / "x").exists()


def test_changed_settings_are_named_with_their_flags_in_reach(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path, tmp_path: Path
) -> None:
    assert run(random_model, "--count", "1", "--out", tmp_path, "--quiet", *SMALL).exit_code == 0
    said = fail(monkeypatch, capsys, random_model, "--count", "2", "--out", tmp_path, "--quiet", *SMALL, "--seed", "7")
    assert said == (
        "error: The folder was begun with other settings\n"
        "       - seed: 0 in the folder, 7 now\n"
        f"where: {tmp_path}\n"
        "fix:   choose another folder with --out, or go on with the settings the folder was begun with\n"
    )


def test_a_full_disk_is_one_block_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path, tmp_path: Path
) -> None:
    write, room = os.write, [5]

    def full(handle: int, data: bytes) -> int:
        if data.startswith(b'{"id"'):
            room[0] -= 1
            if room[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    arguments = [random_model, "--count", "8", "--out", tmp_path, "--quiet", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        said = fail(patch, capsys, *arguments)
    assert said.startswith("error: The disk is full.")
    assert said.endswith("fix:   free some space, then run the same command again\n")
    assert run(*arguments).exit_code == 0
    assert len((tmp_path / "accepted.jsonl").read_text().splitlines()) == 8


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, random_model: Path, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlx_suite.magpie.run._check_dry_spell", interrupt)
        stopped = run(random_model, "--count", "4", "--out", tmp_path, *SMALL)
    assert stopped.exit_code == 130
    last = stopped.stderr.splitlines()[-1]
    assert last == f"Stopped. What was made is in {tmp_path}; the same command goes on from there."
    assert run(random_model, "--count", "4", "--out", tmp_path, *SMALL).exit_code == 0
