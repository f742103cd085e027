"""`mlx-suite judge`, `perplexity` and `evaluate`: results on stdout, errors on stderr."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from mlx_suite.evaluate.pairwise import Matched, PairReport, judge_pairs
from mlx_suite.evaluate.scoring import score_answers
from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.evaluate import evaluate
from mlx_suite_apps.cli.judge import judge_app
from mlx_suite_apps.cli.judge_report import pair_lines, show_scores
from mlx_suite_apps.cli.main import run_app
from mlx_suite_apps.cli.perplexity import perplexity
from tests.evaluate.judges import WeighingJudge, WritingJudge, asked
from tests.evaluate.test_pairwise import pairs

program = typer.Typer(pretty_exceptions_enable=False)
program.add_typer(judge_app)
program.command()(perplexity)
program.command()(evaluate)

RIGHT = {"instruction": "Add 6 and 1.", "output": "7", "answer": "The sum of 6 and 1 is 7."}
WRONG = {"instruction": "Add 6 and 1.", "output": "7", "answer": "The sum of 6 and 1 is 8."}
UNKNOWN = {"instruction": "Why?", "output": "Because.", "answer": "because"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(program, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Function that returns stderr of a program that exits with 2 and prints nothing to stdout."""

    def failed(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["mlx-suite", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            run_app(program)
        assert exited.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return failed


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- exact


def test_exact_counts_right_wrong_and_unknown_responses(tmp_path: Path) -> None:
    answers = written(tmp_path / "answers.jsonl", RIGHT, WRONG, RIGHT, {**UNKNOWN, "reason": "limit"})
    assert run("judge", "exact", answers).stdout.splitlines() == [
        "right      2 of 3, 66.7% (95% CI 20.8% to 93.9%)",
        "unknown    1 rows: not a task of the microworld",
        "truncated  1 responses did not end with a stop token",
        "           Math                    2 of    3   67%",
    ]
    out = tmp_path / "report.jsonl"
    facts = json.loads(run("judge", "exact", answers, "--against", "reference", "--json", "--out", out).stdout)
    assert (facts["right"], facts["wrong"], facts["unknown"]) == (1, 3, 0)
    assert [json.loads(line)["verdict"] for line in out.read_text().splitlines()] == [
        "wrong",
        "wrong",
        "wrong",
        "right",
    ]


def test_exact_refuses_invalid_rows_and_choices(tmp_path: Path, fail: Callable[..., str]) -> None:
    error = fail("judge", "exact", written(tmp_path / "a.jsonl", {"instruction": "Q", "answer": 1}))
    assert 'a.jsonl:1: "answer" is the number 1; expected text' in error
    assert fail("judge", "exact", tmp_path / "a.jsonl", "--against", "trut").splitlines() == [
        "error: --against is 'trut'",
        "where: --against",
        "fix:   use one of world, reference",
    ]


# ---- answer


def test_a_row_that_cannot_be_read_is_set_aside_unless_strict(random_model: Path, tmp_path: Path) -> None:
    rows = ({"instruction": "a", "output": "c"}, {"instruction": "b", "output": ""})
    data = written(tmp_path / "data.jsonl", *rows)
    arguments = ["judge", "answer", random_model, data, "--out", tmp_path / "answers.jsonl", "--max-tokens", "2"]
    result = run(*arguments, "--quiet", "--json")
    assert result.stderr.splitlines() == [
        "1 of 2 rows cannot be read and is set aside:",
        '1: "output" is empty; expected text (data.jsonl:2)',
    ]
    assert json.loads(result.stdout)["set_aside"]["places"] == {"data.jsonl:2": ['"output" is empty; expected text']}
    with pytest.raises(UserError) as caught:
        run(*arguments, "--strict")
    assert caught.value.fix == "correct them, or omit --strict"


def test_responses_are_generated_resumed_and_checked(random_model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", *({"instruction": f"a {i}", "output": "c"} for i in range(5)))
    out = tmp_path / "answers.jsonl"
    arguments = ["judge", "answer", random_model, data, "--out", out, "--max-tokens", "6", "--quiet"]
    assert json.loads(run(*arguments, "--limit", "2", "--json").stdout) == {
        "answers": 2,
        "part": "train",
        "file": str(out),
        "set_aside": {"rows": 0, "reasons": {}, "places": {}},
    }
    assert run(*arguments).stdout.startswith("responses  5 to the train part")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["messages"][0]["content"] for row in rows] == [f"a {i}" for i in range(5)]
    assert run("judge", "exact", out).stdout.startswith("right      unknown for all rows\nunknown    5 rows")


# ---- score and pair, judged by a random model


def test_rows_that_exceed_the_judges_context_are_reported_without_a_score(random_model: Path, tmp_path: Path) -> None:
    answers = written(tmp_path / "answers.jsonl", RIGHT, WRONG)
    for flags in ([], ["--labels"]):
        facts = json.loads(run("judge", "score", answers, "--by", random_model, "--json", "-q", *flags).stdout)
        assert (facts["rows"], facts["scores"], facts["unread"]) == (2, 0, 2)
        assert (facts["mean"], facts["bounds"], facts["agreement"]) == (None, [0.0, 100.0], None)


def test_a_custom_prompt_is_used_and_validated(random_model: Path, tmp_path: Path, fail: Callable[..., str]) -> None:
    answers = written(tmp_path / "answers.jsonl", RIGHT, WRONG)
    (tmp_path / "p.txt").write_text("{instruction} {answer}\n")
    facts = json.loads(
        run(
            *("judge", "score", answers, "--by", random_model, "--labels", "--prompt", tmp_path / "p.txt"),
            *("--json", "-q"),
        ).stdout
    )
    # The short prompt fits the context.
    assert (facts["scores"], facts["unread"]) == (2, 0)
    assert 0 <= facts["label_mass"] <= 1
    assert facts["agreement"]["rows"] == 2
    (tmp_path / "p.txt").write_text("{instruction}\n")
    assert "The prompt lacks {answer}" in fail(
        "judge", "score", answers, "--by", random_model, "--prompt", tmp_path / "p.txt"
    )


def test_files_without_a_common_instruction_are_refused(tmp_path: Path, fail: Callable[..., str]) -> None:
    a, b = written(tmp_path / "a.jsonl", RIGHT), written(tmp_path / "b.jsonl", UNKNOWN)
    assert "have no instruction in common" in fail("judge", "pair", a, b, "--by", "tiny-llama3")


def test_pairs_are_judged_in_both_orders(random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("{instruction} {first} {second}\n")
    a, b = written(tmp_path / "a.jsonl", RIGHT), written(tmp_path / "b.jsonl", WRONG)
    out = tmp_path / "pairs.jsonl"
    flags = ["--by", random_model, "--prompt", tmp_path / "p.txt", "--json", "-q", "--out", out]
    facts = json.loads(run("judge", "pair", a, b, *flags).stdout)
    assert facts["pairs"] == 1
    assert facts["wins_a"] + facts["wins_b"] + facts["inconsistent"] == 1
    assert facts["agreement"]["pairs"] == 1
    [row] = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["a"].endswith("7.") and row["b"].endswith("8.") and row["forward"] in ("first", "second")


# ---- printed reports


def test_the_score_report_lists_unparsed_replies(capsys: pytest.CaptureFixture[str]) -> None:
    replies = iter(["100", "well", "80", "0"])
    rows = [asked(f"Question {i}?", "An answer", place=f"f:{i}") for i in range(4)]
    show_scores(score_answers(WritingJudge(lambda text: next(replies)), rows), "wise")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        "judge      wise",
        "mean       60.0 (95% CI 0.1 to 119.9), sd 52.9, 3 scores",
        "unparsed   1 of 4 replies contain no score",
        "bounds     45.0 to 70.0, if all of these were 0 or 100",
    ]
    # The judge replies to the last row first.
    assert lines[-4:] == [
        "lowest       0  Question 0?  →  An answer",
        "lowest      80  Question 1?  →  An answer",
        "lowest     100  Question 3?  →  An answer",
        "unparsed   f:2  no score: well",
    ]


def test_the_pair_report_has_the_raw_and_the_length_controlled_win_rate() -> None:
    report = judge_pairs(WeighingJudge(lambda first, second: (-0.1, -2.0)), pairs())
    assert isinstance(report, PairReport)
    assert list(pair_lines(report, Matched(pairs=(), only_a=1, only_b=2), "wise")) == [
        ("judge", "wise"),
        ("pairs", "4; unmatched: 1 of A, 2 of B"),
        ("win rate", "A 50.0% (95% CI 50.0% to 50.0%)"),
        ("controlled", "A 50.0% (95% CI 50.0% to 50.0%) at equal length"),
        ("verdicts", "A 0, B 0, 4 inconsistent"),
        ("position", "100% of verdicts prefer the first position"),
        ("length", "A 15, B 15 characters on average"),
    ]


# ---- perplexity


def test_perplexity_of_a_text_and_of_responses(random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("abc " * 100)
    facts = json.loads(run("perplexity", random_model, tmp_path / "notes.txt", "--json", "-q").stdout)
    assert (facts["kind"], facts["texts"], facts["tokens"], facts["windows"]) == ("text", 1, 400, 3)
    assert facts["perplexity"] > 1
    rows = written(tmp_path / "rows.jsonl", {"instruction": "a", "output": "abc"}, {"instruction": "b", "output": "c"})
    lines = run("perplexity", random_model, rows, "-q").stdout.splitlines()
    assert lines[0] == "scored     6 tokens of responses in 2 texts (train)"
    assert lines[1] == "windows    2 of at most 256 tokens, stride 128"
    assert [line.split()[0] for line in lines[2:]] == ["loss", "perplexity"]


def test_perplexity_refuses_a_window_longer_than_the_context_or_shorter_than_the_stride(
    random_model: Path, tmp_path: Path, fail: Callable[..., str]
) -> None:
    (tmp_path / "notes.txt").write_text("abc")
    assert "use at most 256, the model's context" in fail(
        "perplexity", random_model, tmp_path / "notes.txt", "--context", "300", "-q"
    )
    assert "use less than --context, which is 64" in fail(
        "perplexity", random_model, tmp_path / "notes.txt", "--context", "64", "--stride", "64", "-q"
    )


# ---- the harness


def test_evaluate_without_the_harness_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, fail: Callable[..., str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = fail("evaluate", "tiny-llama3", "--tasks", "arc_easy")
    assert "The lm-evaluation-harness is not installed" in error
    assert "pip install 'mlx-suite[harness]'" in error
