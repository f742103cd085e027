"""`mlx-suite magpie filter` and `export`: the funnel, the list of files, JSON, and errors."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.magpie_export import magpie_export
from mlx_suite_apps.cli.magpie_filter import magpie_filter
from tests.magpie.rows import conversation, read_lines, row, write_lines, write_run

program = typer.Typer(rich_markup_mode="markdown")
program.command("filter")(magpie_filter)
program.command("export")(magpie_export)


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(program, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    qualities = ["poor", "good", "good", "excellent"]
    rows = [row(f"q{n}", "yes " * n + "!", tags={"input_quality": each}) for n, each in enumerate(qualities)]
    return write_run(tmp_path / "demo", [*rows, conversation("1", "2", "3", "4")], model="tiny")


def test_filter_prints_its_funnel(data: Path, tmp_path: Path) -> None:
    result = run(
        *("filter", data, "--where", "input_quality >= good", "--where", "answer_words > 2"),
        *("--longest", "1", "--out", tmp_path / "kept"),
    )
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "5      rows of demo",
        "3  -2  input_quality >= good; 1 have no input_quality",
        "2  -1  answer_words > 2",
        "1  -1  longest 1",
        f"1 of 5 rows, 20%, kept in {tmp_path / 'kept'}",
    ]
    assert [each["messages"][0]["content"] for each in read_lines(tmp_path / "kept/accepted.jsonl")] == ["q3"]


def test_a_row_that_cannot_be_read_is_set_aside_and_strict_refuses_it(data: Path, tmp_path: Path) -> None:
    with (data / "accepted.jsonl").open("a") as file:
        file.write(json.dumps(row("q4", "")) + "\n")
    result = run("filter", data, "--longest", "1", "--out", tmp_path / "kept")
    assert result.stderr.splitlines() == [
        "1 of 6 rows cannot be read and is set aside:",
        '1: turn 2, "content" is empty; expected text (accepted.jsonl:6)',
    ]
    assert result.stdout.splitlines()[1].split() == ["5", "-1", "readable"]
    with pytest.raises(UserError, match="There is a problem with the data"):
        run("filter", data, "--longest", "1", "--out", tmp_path / "strict", "--strict")


def test_filter_prints_its_funnel_as_json(data: Path, tmp_path: Path) -> None:
    facts = json.loads(run("filter", data, "--sample", "2", "--out", tmp_path / "kept", "--json").stdout)
    assert facts == {
        "folder": str(tmp_path / "kept"),
        "source": "demo",
        "read": 5,
        "set_aside": {"rows": 0, "reasons": {}, "places": {}},
        "kept": 2,
        "steps": [{"step": "sample of 2", "left": 2, "dropped": {"sample 2": 3}}],
    }


def test_export_lists_the_files_it_wrote(data: Path, tmp_path: Path) -> None:
    result = run("export", data, "--to", "alpaca", "--first-turn", "--out", tmp_path / "out")
    assert result.stdout.splitlines() == [
        f"5  {tmp_path / 'out/train.json'}",
        "cut to the first instruction and response: 1",
    ]


def test_export_lists_the_files_it_wrote_as_json(data: Path, tmp_path: Path) -> None:
    facts = json.loads(run("export", data, "--to", "messages", "--out", tmp_path / "out", "--json").stdout)
    assert facts == {
        "folder": str(tmp_path / "out"),
        "files": {"train.jsonl": 5},
        "rows": 5,
        "cut_to_first_turn": 0,
        "steering_left_out": 0,
        "set_aside": {"rows": 0, "reasons": {}, "places": {}},
        "unfit": {"rows": 0, "reasons": {}, "places": {}},
    }


def test_export_sets_rows_aside_that_do_not_fit_and_says_how_to_export_them(data: Path, tmp_path: Path) -> None:
    result = run("export", data, "--to", "alpaca", "--out", tmp_path / "out")
    assert result.stdout == f"4  {tmp_path / 'out/train.json'}\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "1 of 5 rows does not fit the format alpaca and is set aside:"
    assert "4 turns (user, assistant, user, assistant), but the format allows two" in lines[1]
    assert lines[2].startswith("To export them too, give --first-turn")


def test_a_split_is_chosen(tmp_path: Path) -> None:
    for split in ("train_sft", "train_gen"):
        write_lines(tmp_path / "data" / f"{split}-00000-of-00001.jsonl", [row("Hi", split)])
    with pytest.raises(UserError, match="2 splits to train on"):
        run("filter", tmp_path / "data", "--sample", "1", "--out", tmp_path / "kept")
    run("filter", tmp_path / "data", "--sample", "1", "--out", tmp_path / "kept", "--split", "train_gen")
    [kept] = read_lines(tmp_path / "kept" / "accepted.jsonl")
    assert kept["messages"][1]["content"] == "train_gen"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("filter", "--where", "input_quality > gut"), "The conditions do not fit the rows"),
        (("filter", "--per", "category"), "A setting is invalid"),
        (("export", "--to", "alpaka"), "There is no format 'alpaka'"),
        (("export", "--to", "alpaca", "--strict"), "1 of 5 rows do not fit the format alpaca"),
    ],
)
def test_nothing_is_written_on_an_error(data: Path, tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    command, *rest = arguments
    with pytest.raises(UserError) as caught:
        run(command, data, *rest, "--out", tmp_path / "out")
    assert caught.value.what == what
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]
