"""`mlx-suite bench speculate`: both sides, their ratio, and whether they wrote the same text."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from mlx_suite_apps.bench.speculation import continuations
from mlx_suite_apps.cli.main import app


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", "speculate", *map(str, arguments)], catch_exceptions=False)


def test_one_prompt_is_the_start_of_a_text_and_a_quarter_of_it_again() -> None:
    again, alone = continuations(range(100), 11, bos=[7])

    assert again.prompt == (7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1)
    assert alone.prompt == (7, 0, 1, 2, 3, 4, 5, 6, 7)
    assert (again.sampling.temperature, alone.sampling.temperature) == (0.0, 1.0)


def test_both_texts_and_both_guessers_are_compared(random_model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 3)
    flags = ["--text", text, "--draft", random_model, "--prompt", "24", "--tokens", "6", "--repeats", "1", "--json"]

    rows = json.loads(run(random_model, *flags).stdout)

    assert [(row["text"], row["guesses"]) for row in rows] == [
        ("repeats its prompt", "prompt lookup"),
        ("repeats its prompt", "draft model"),
        ("new text", "prompt lookup"),
        ("new text", "draft model"),
    ]
    assert all(row["same"] for row in rows)
    assert [row["right"] for row in rows if row["guesses"] == "draft model"] == [1.0, 1.0]
    assert all(row["ratio"] == round(row["guessed"] / row["plain"], 3) for row in rows)
