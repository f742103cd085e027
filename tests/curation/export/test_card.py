"""The card says what the rows are, how they came about, and is one the hub can read."""

from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from mlx_suite.curation.export.card import MARK, size_category
from mlx_suite.curation.export.export import export_dataset
from mlx_suite.curation.export.settings import ExportSettings
from mlx_suite.curation.filter.filter import filter_dataset
from mlx_suite.curation.filter.settings import FilterSettings
from tests.magpie.rows import row, write_lines, write_run

ROWS = [
    row(
        f"question {letter * 3}",
        "an answer",
        model="tiny",
        tags={"language": language, "category": "Math | sums"},
        answer_tokens=2,
    )
    for letter, language in zip("abcdefghik", ["German"] * 3 + ["English"] * 6 + ["Other"], strict=True)
]


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("card")
    run = write_run(
        folder / "run",
        ROWS,
        rejected=[{"rejection": "duplicate"}] * 3,
        settings={"seed": 7, "temperature": 1.0, "system": "Be\nkind."},
        versions={"mlx": "0.32"},
        created="2026-11-25T02:00:00+00:00",
    )
    filter_dataset(run, FilterSettings(where=("language != Other",)), folder / "kept")
    export_dataset(
        folder / "kept", ExportSettings(to="mlx-lm", license="cc-by-4.0", title="Ten questions"), folder / "out"
    )
    return (folder / "out/README.md").read_text()


def plain(folder: Path, to: str = "messages") -> str:
    write_lines(folder / "rows.jsonl", [row("Hi")])
    export_dataset(folder / "rows.jsonl", ExportSettings(to=to), folder / "out")
    return (folder / "out/README.md").read_text()


def test_the_hub_reads_its_front_matter(card: str) -> None:
    data = DatasetCard(card).data.to_dict()
    assert data == {
        "pretty_name": "Ten questions",
        "license": "cc-by-4.0",
        "language": ["en", "de"],
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "magpie"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "train.jsonl"},
                    {"split": "valid", "path": "valid.jsonl"},
                    {"split": "test", "path": "test.jsonl"},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    "line",
    [
        "9 rows, written by `tiny`. The model was given its own chat template",
        "| train.jsonl | 7 |",
        "mlx_lm.lora --model MODEL --train --data FOLDER",
        "| begun | 2026-11-25T02:00:00+00:00 |",
        "| seed | 7 |",
        "| system | Be kind. |",
        "| mlx | 0.32 |",
        "| asked | 13 |",
        "| rejected: duplicate | -3 |",
        "| accepted | 10 |",
        "| filter: language != Other | 9 left |",
        "| rows of 1 turn | 9 |",
        "| English | 6 | 66.7% |",
        "| Math \\| sums | 9 | 100.0% |",
        MARK,
    ],
)
def test_it_says_where_the_rows_come_from_and_what_they_are(card: str, line: str) -> None:
    assert line in card


def test_an_unknown_licence_is_called_unknown(tmp_path: Path) -> None:
    text = plain(tmp_path)
    assert DatasetCard(text).data.license == "unknown"
    assert "The licence is unknown: see the licence of the model" in text


@pytest.mark.parametrize(("kept", "shown"), [(False, "does not stand in them"), (True, "stands in them as a system")])
def test_it_says_what_steered_the_rows(tmp_path: Path, kept: bool, shown: str) -> None:
    write_lines(tmp_path / "rows.jsonl", [row("2 + 2?", steer={"category": "Math"}), row("Hi")])
    export_dataset(tmp_path / "rows.jsonl", ExportSettings(to="messages", keep_steering=kept), tmp_path / "out")
    assert (
        f"1 of the rows were asked for by category; what the model was told to that end {shown}"
        in (tmp_path / "out/README.md").read_text()
    )


def test_what_is_not_known_is_not_on_it(tmp_path: Path) -> None:
    text = plain(tmp_path)
    assert "\n1 row.\n" in text
    for heading in ("## How it was made", "## What was left out", "## Tags"):
        assert heading not in text


def test_sizes_are_called_as_the_hub_calls_them() -> None:
    rows = (1, 999, 1000, 10**6, 10**8)
    assert list(map(size_category, rows)) == ["n<1K", "n<1K", "1K<n<10K", "1M<n<10M", "n>10M"]
