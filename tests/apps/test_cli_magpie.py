"""`mlx-suite magpie run` on a terminal of 60 columns: the summary, resuming, flags and errors."""

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from mlx_suite.data.questions import write_questions
from mlx_suite.evaluate.microworld import Truth
from mlx_suite.magpie import MagpieSettings, RunSummary
from mlx_suite.magpie.stats import Session, SteeredCounts, Tally
from mlx_suite.magpie.steering import make_quotas, parse_shares
from mlx_suite_apps.cli.magpie_summary import show_summary
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.cli.options import field_docs
from tests.apps.failures import stderr_of_failure
from tests.magpie.conftest import QUESTIONS
from tests.magpie.random_checkpoint import write_checkpoint

SMALL = ["--max-instruction", "12", "--max-answer", "16", "--answer-temperature", "1"]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with short tagging questions: the built-in ones exceed its context."""
    folder = write_checkpoint(tmp_path_factory.mktemp("models") / "random")
    write_questions(QUESTIONS, folder / "tag_questions.json")
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["magpie", "run", *map(str, arguments)], catch_exceptions=False)


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Stderr of a program that exits with 2 and prints nothing to stdout."""
    return stderr_of_failure(monkeypatch, capsys, "magpie", "run", *arguments)


def summary(folder: Path, **changes: Any) -> RunSummary:
    """A run of 1,207 generated rows, three of them accepted."""
    rows = [
        ("What is 12 plus 30?", "42"),
        ("Write a poem about " + "the sea and " * 30, "Blue\nand\x1b[31m wide."),
        ("Who is Ben?", "Ben is a nurse."),
    ]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": instruction}, {"role": "assistant", "content": response}]})
        for instruction, response in rows
    ]
    (folder / "accepted.jsonl").write_text("\n".join(lines) + "\n")
    tally = Tally(accepted=3)
    tally.rejections.update({"duplicate": 1200, "unsafe": 3, "instruction_stop": 1})
    session = Session(seconds=2.0, rows=3, sampled=126, busy=0.96, asking=90, answering=30, aside_seconds=0.4)
    session.screening = 300
    facts: dict[str, Any] = {
        "folder": folder,
        "tally": tally,
        "sessions": (session,),
        "work": session,
        "truth": Truth(answers=3, recognised=2, right=2),
    }
    return RunSummary(**{**facts, **changes})


def shown(run_summary: RunSummary) -> list[str]:
    console = Console(width=60, highlight=False, color_system=None)
    with console.capture() as capture:
        show_summary(console, run_summary)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_summary_fits_60_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    line = " " + "─" * 58
    assert shown(summary(Path("demo"))) == [
        line,
        " instruction                    response",
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
        "generated  1,207 rows in 0:01",
        "           − 1: the instruction ended with an unexpected",
        "           stop token",
        "screened   1,206 rows",
        "           − 1,200: the instruction repeats an earlier one",
        "           − 3: the instruction is tagged as unsafe",
        "responded  3 rows",
        "graded     3 rows",
        "accepted   3 rows, a yield of 0%",
        "speed      1.5 rows/s in 0:02; 63 tokens/s, slots 96% busy",
        "cost       5,400 accepted rows per hour; each takes 42",
        "           generated and 100 prefilled tokens",
        "confirmed  2 of 3 responses are right, 67%",
        "           2 of the instructions are tasks of the microworld",
        "rows       demo/accepted.jsonl",
    ]


def test_speed_of_a_slow_run_and_of_a_complete_one(tmp_path: Path) -> None:
    slow = summary(tmp_path, work=Session(rows=2, seconds=61.0, sampled=90), truth=None)
    assert "speed      30.5 s per row in 1:01; 1 tokens/s, slots 100%" in shown(slow)
    assert "speed      all rows already existed" in shown(summary(tmp_path, work=None))
    assert not [line for line in shown(slow) if line.startswith("confirmed")]


def test_every_accepted_row_counts_for_its_quota_and_rows_steered_to_it_are_named(tmp_path: Path) -> None:
    [quota] = make_quotas(parse_shares(["category:Math=0.6"]), 5)
    steered = {"category": {"Math": SteeredCounts(), "*": SteeredCounts()}}
    tally = Tally(quotas=(quota,), steered=steered)
    for label, steer in (("Math", "Math"), ("Math", "*"), ("Poems", "*"), ("Math", "*")):
        record = {"instruction_tokens": 60, "answer_tokens": 90, "tags": {"category": label}}
        tally.add({**record, "steer": {"category": steer}})
    tally.add({**record, "steer": {"category": "Math"}, "rejection": "duplicate"})
    text = " ".join(" ".join(shown(summary(tmp_path, tally=tally))).split())

    assert "category Math: 3 of 3 rows accepted; 1 of 2 steered to it, 300 tokens each" in text
    assert "category anything else: 1 of 2 rows accepted; 1 of 3 steered to it, 450 tokens each" in text
    assert tally.as_dict()["quotas"] == {
        "category": {"Math": {"wanted": 3, "accepted": 3}, "*": {"wanted": 2, "accepted": 1}}
    }


def test_a_run_is_summarised_and_resumed(random_model: Path, tmp_path: Path) -> None:
    first = run(random_model, "--count", "6", "--out", tmp_path, *SMALL)
    assert first.exit_code == 0
    assert "accepted   6 rows, a yield of " in first.stdout
    assert first.stderr.splitlines()[-1].startswith("magpie  6/6 rows  ")

    more = run(random_model, "-n", "9", "-o", tmp_path, "--json", "--quiet", *SMALL)
    facts = json.loads(more.stdout)
    assert (facts["accepted"], facts["run"]["rows"], more.stderr) == (9, 3, "")
    rows = [json.loads(line) for line in (tmp_path / "accepted.jsonl").read_text().splitlines()]
    assert len(rows) == 9
    assert {row["model"] for row in rows} == {"random"}

    again = run(random_model, "-n", "9", "-o", tmp_path, *SMALL)
    assert "all rows already existed" in again.stdout
    assert again.stderr == ""


def test_the_help_of_every_flag_is_the_docstring_of_its_setting() -> None:
    text = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["magpie", "run", "--help-all"]).stdout
    docs = field_docs(MagpieSettings)

    assert set(docs) == set(MagpieSettings.__dataclass_fields__)
    flat = " ".join(text.replace("│", " ").split())
    flags = {"topics": "--topic", "personas": "--persona", "quotas": "--quota"}
    for name, doc in docs.items():
        if name != "model_name":
            assert flags.get(name, f"--{name.replace('_', '-')}") in text
            assert " ".join(doc.replace("`", "").split()[:5]) in flat
    for flag in ("--out", "--json", "--quiet"):
        assert flag in text
    assert "mlx-suite magpie run tiny-llama3 --count 200 --out demo/" in flat
    assert "magpie" in CliRunner().invoke(app, ["--help"]).stdout


def test_all_invalid_settings_are_reported_in_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path, tmp_path: Path
) -> None:
    arguments = [random_model, "--count", "0", "--out", tmp_path / "x", "--top-p", "2", "--batch", "-1"]
    assert fail(monkeypatch, capsys, *arguments) == (
        "error: 3 settings are invalid\n"
        "       - count is 0: expected a whole number of at least 1\n"
        "       - batch is -1: expected a whole number of at least 1\n"
        "       - top_p is 2.0: expected a number above 0, at most 1\n"
        "where: Magpie settings\n"
        "fix:   see mlx-suite magpie run --help-all for the allowed values\n"
    )
    assert not (tmp_path / "x").exists()


def test_an_unknown_model_and_a_folder_without_a_model_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = fail(monkeypatch, capsys, "tiny-lama3", "--count", "1", "--out", tmp_path / "x")
    assert error.startswith("error: there is no model 'tiny-lama3'\n")
    error = fail(monkeypatch, capsys, tmp_path / "none", "--count", "1", "--out", tmp_path / "x")
    assert error.startswith(f"error: there is no such folder\nwhere: {tmp_path / 'none'}\n")
    (tmp_path / "empty").mkdir()
    error = fail(monkeypatch, capsys, tmp_path / "empty", "--count", "1", "--out", tmp_path / "x")
    assert error.startswith("error: ")
    assert f"where: {tmp_path / 'empty'}" in error
    assert not (tmp_path / "x").exists()


def test_resuming_with_other_settings_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path, tmp_path: Path
) -> None:
    assert run(random_model, "--count", "1", "--out", tmp_path, "--quiet", *SMALL).exit_code == 0
    error = fail(monkeypatch, capsys, random_model, "--count", "2", "--out", tmp_path, "--quiet", *SMALL, "--seed", "7")
    assert error == (
        "error: The folder was started with other settings\n"
        "       - seed: was 0, now 7\n"
        f"where: {tmp_path}\n"
        "fix:   choose another folder with --out, or use the settings it was started with\n"
    )


def test_a_full_disk_is_explained_and_loses_no_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path, tmp_path: Path
) -> None:
    write, writes_left = os.write, [5]

    def full(handle: int, data: bytes) -> int:
        if data.startswith(b'{"index"'):
            writes_left[0] -= 1
            if writes_left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    arguments = [random_model, "--count", "8", "--out", tmp_path, "--quiet", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        error = fail(patch, capsys, *arguments)
    assert error.startswith("error: The disk is full.")
    assert error.endswith("fix:   free some space, then run the same command again\n")
    assert run(*arguments).exit_code == 0
    assert len((tmp_path / "accepted.jsonl").read_text().splitlines()) == 8


def test_ctrl_c_says_how_to_resume(monkeypatch: pytest.MonkeyPatch, random_model: Path, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlx_suite.magpie.run._decide", interrupt)
        stopped = run(random_model, "--count", "4", "--out", tmp_path, *SMALL)
    assert stopped.exit_code == 130
    last = stopped.stderr.splitlines()[-1]
    assert last == f"Stopped. The rows so far are in {tmp_path}; the same command resumes from there."
    assert run(random_model, "--count", "4", "--out", tmp_path, *SMALL).exit_code == 0


def test_lists_come_from_flags_and_from_files(random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text("# animals\ncats\n\n dogs \n# birds\n")
    arguments = [random_model, "-n", "6", "-o", tmp_path / "out", "--quiet", *SMALL]
    done = run(*arguments, "--topics", tmp_path / "topics.txt", "--topic", "birds", "--quota", "category:v=0.5")
    assert done.exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "accepted.jsonl").read_text().splitlines()]
    assert Counter(row["steer"]["topic"] for row in rows) == {"birds": 2, "cats": 2, "dogs": 2}
    assert sum(row["tags"]["category"] == "v" for row in rows) == 3
    assert "topic      birds: 2 of " in done.stdout


# ---- the command group


def program(*words: str) -> subprocess.CompletedProcess[str]:
    start = "import sys; from mlx_suite_apps.cli.main import main; sys.argv[0] = 'mlx-suite'; main()"
    return subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("magpie", "run", "tiny-llama3"), "error: --out is missing"),
        (("magpie", "tag"), "error: DATA is missing"),
        (("generate",), "error: MODEL is missing"),
        (("magpie", "flter", "demo/"), "fix:   did you mean mlx-suite magpie filter?"),
        (("magpie", "tiny-llama3"), "fix:   magpie is a group of commands: mlx-suite magpie run tiny-llama3 …"),
        (
            ("generate", "--max-tokens", "5", "tiny-llama3", "What", "is", "2", "plus", "2?"),
            "fix:   put the prompt in quotes: mlx-suite generate tiny-llama3 'What is 2 plus 2?'",
        ),
        (("magpie", "run", "tiny-llama3", "--count", "x", "--out", "y"), "where: --count / -n"),
    ],
)
def test_a_usage_error_has_one_fix(words: tuple[str, ...], line: str) -> None:
    done = program(*words)
    assert done.returncode == 2
    assert line in [
        each.replace("main.py", "mlx-suite").replace("python -m mlx_suite_apps.cli.main", "mlx-suite")
        for each in done.stderr.splitlines()
    ]
