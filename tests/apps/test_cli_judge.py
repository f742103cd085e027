"""`mlx-suite judge` and `perplexity`, as a user sees them: figures on stdout, the rest on stderr."""

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
STRANGE = {"instruction": "Why?", "output": "Because.", "answer": "because"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(program, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the program itself; gives what it says on stderr when it leaves with 2."""

    def failed(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["mlx-suite", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_app(program)
        assert left.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return failed


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- exact


def test_exact_counts_right_wrong_and_not_known(tmp_path: Path) -> None:
    answers = written(tmp_path / "answers.jsonl", RIGHT, WRONG, RIGHT, {**STRANGE, "reason": "limit"})
    assert run("judge", "exact", answers).stdout.splitlines() == [
        "right      2 of 3, 66.7% (95 %: 20.8% to 93.9%)",
        "not known  1 rows: none of the microworld's tasks",
        "cut off    1 answers did not end by themselves",
        "           Math                    2 of    3   67%",
    ]
    out = tmp_path / "report.jsonl"
    said = json.loads(run("judge", "exact", answers, "--against", "reference", "--json", "--out", out).stdout)
    assert (said["right"], said["wrong"], said["unknown"]) == (1, 3, 0)
    assert [json.loads(line)["verdict"] for line in out.read_text().splitlines()] == [
        "wrong",
        "wrong",
        "wrong",
        "right",
    ]


def test_exact_refuses_what_it_cannot_read(tmp_path: Path, fail: Callable[..., str]) -> None:
    said = fail("judge", "exact", written(tmp_path / "a.jsonl", {"instruction": "Q", "answer": 1}))
    assert 'a.jsonl:1: "answer" is the number 1; expected text' in said
    assert fail("judge", "exact", tmp_path / "a.jsonl", "--against", "trut").splitlines() == [
        "error: --against is 'trut'",
        "where: --against",
        "fix:   use one of world, reference",
    ]


# ---- answer


def test_answers_are_written_and_checked(random_model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", *({"instruction": f"a {i}", "output": "c"} for i in range(5)))
    out = tmp_path / "answers.jsonl"
    arguments = ["judge", "answer", random_model, data, "--out", out, "--max-tokens", "6", "--quiet"]
    assert json.loads(run(*arguments, "--limit", "2", "--json").stdout) == {
        "answers": 2,
        "part": "train",
        "file": str(out),
    }
    assert run(*arguments).stdout.startswith("answers    5 of the train part")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["messages"][0]["content"] for row in rows] == [f"a {i}" for i in range(5)]
    assert run("judge", "exact", out).stdout.startswith("right      none can be decided\nnot known  5 rows")


# ---- score and pair, by a model that knows nothing


def test_a_judge_without_room_is_reported_and_not_believed(random_model: Path, tmp_path: Path) -> None:
    answers = written(tmp_path / "answers.jsonl", RIGHT, WRONG)
    for flags in ([], ["--labels"]):
        said = json.loads(run("judge", "score", answers, "--by", random_model, "--json", "-q", *flags).stdout)
        assert (said["rows"], said["scores"], said["unread"]) == (2, 0, 2)
        assert (said["mean"], said["bounds"], said["agreement"]) == (None, [0.0, 100.0], None)


def test_a_prompt_of_ones_own_is_used_and_checked(random_model: Path, tmp_path: Path, fail: Callable[..., str]) -> None:
    answers = written(tmp_path / "answers.jsonl", RIGHT, WRONG)
    (tmp_path / "p.txt").write_text("{instruction} {answer}\n")
    said = json.loads(
        run(
            *("judge", "score", answers, "--by", random_model, "--labels", "--prompt", tmp_path / "p.txt"),
            *("--json", "-q"),
        ).stdout
    )
    # It fits now: the system text and two lines.
    assert (said["scores"], said["unread"]) == (2, 0)
    assert 0 <= said["label_mass"] <= 1
    assert said["agreement"]["rows"] == 2
    (tmp_path / "p.txt").write_text("{instruction}\n")
    assert "The prompt lacks {answer}" in fail(
        "judge", "score", answers, "--by", random_model, "--prompt", tmp_path / "p.txt"
    )


def test_files_without_a_common_question_are_not_compared(tmp_path: Path, fail: Callable[..., str]) -> None:
    a, b = written(tmp_path / "a.jsonl", RIGHT), written(tmp_path / "b.jsonl", STRANGE)
    assert "answer no question in common" in fail("judge", "pair", a, b, "--by", "tiny-llama3")


def test_pairs_are_judged_in_both_orders(random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("{instruction} {first} {second}\n")
    a, b = written(tmp_path / "a.jsonl", RIGHT), written(tmp_path / "b.jsonl", WRONG)
    out = tmp_path / "pairs.jsonl"
    flags = ["--by", random_model, "--prompt", tmp_path / "p.txt", "--json", "-q", "--out", out]
    said = json.loads(run("judge", "pair", a, b, *flags).stdout)
    assert said["pairs"] == 1
    assert said["wins_a"] + said["wins_b"] + said["inconsistent"] == 1
    assert said["agreement"]["pairs"] == 1
    [row] = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["a"].endswith("7.") and row["b"].endswith("8.") and row["forward"] in ("first", "second")


# ---- how reports read


def test_a_report_of_scores_says_what_was_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    replies = iter(["100", "well", "80", "0"])
    rows = [asked(f"Question {i}?", "An answer", place=f"f:{i}") for i in range(4)]
    show_scores(score_answers(WritingJudge(lambda text: next(replies)), rows), "wise")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        "judge      wise",
        "mean       60.0 (95 %: 0.1 to 119.9), sd 52.9, 3 scores",
        "unread     1 of 4 replies hold no score",
        "bounds     45.0 to 70.0, were they all 0 or all 100",
    ]
    # The judge replied to the last row first.
    assert lines[-4:] == [
        "lowest       0  Question 0?  →  An answer",
        "lowest      80  Question 1?  →  An answer",
        "lowest     100  Question 3?  →  An answer",
        "unread     f:2  no score: well",
    ]


def test_a_report_of_pairs_has_both_win_rates() -> None:
    report = judge_pairs(WeighingJudge(lambda first, second: (-0.1, -2.0)), pairs())
    assert isinstance(report, PairReport)
    assert list(pair_lines(report, Matched(pairs=(), only_a=1, only_b=2), "wise")) == [
        ("judge", "wise"),
        ("pairs", "4; without a partner: 1 of A, 2 of B"),
        ("win rate", "A 50.0% (95 %: 50.0% to 50.0%)"),
        ("at equal", "length A 50.0% (95 %: 50.0% to 50.0%)"),
        ("verdicts", "A 0, B 0, 4 changed with the order"),
        ("place", "100% of verdicts are for the first place"),
        ("letters", "A 15, B 15 on the average"),
    ]


# ---- perplexity


def test_perplexity_of_a_text_and_of_answers(random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("abc " * 100)
    said = json.loads(run("perplexity", random_model, tmp_path / "notes.txt", "--json", "-q").stdout)
    assert (said["kind"], said["texts"], said["tokens"], said["windows"]) == ("text", 1, 400, 3)
    assert said["perplexity"] > 1
    rows = written(tmp_path / "rows.jsonl", {"instruction": "a", "output": "abc"}, {"instruction": "b", "output": "c"})
    lines = run("perplexity", random_model, rows, "-q").stdout.splitlines()
    assert lines[0] == "scored     6 tokens of answers in 2 texts (train), each once"
    assert lines[1] == "windows    2 of at most 256 tokens, 128 new ones in each"
    assert [line.split()[0] for line in lines[2:]] == ["loss", "perplexity"]


def test_perplexity_refuses_more_context_than_the_model_has(
    random_model: Path, tmp_path: Path, fail: Callable[..., str]
) -> None:
    (tmp_path / "notes.txt").write_text("abc")
    assert "this model reads at most 256 tokens" in fail(
        "perplexity", random_model, tmp_path / "notes.txt", "--context", "300", "-q"
    )
    assert "must be below --context, which is 64" in fail(
        "perplexity", random_model, tmp_path / "notes.txt", "--context", "64", "--stride", "64", "-q"
    )


# ---- the harness


def test_without_the_harness_evaluate_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, fail: Callable[..., str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = fail("evaluate", "tiny-llama3", "--tasks", "arc_easy")
    assert "The lm-evaluation-harness is not installed" in said
    assert "pip install 'mlx-suite[harness]'" in said
