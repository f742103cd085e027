"""Filters and exports lose nothing: Alpaca's input, and the columns of the released Magpie sets."""

import json
from pathlib import Path

import pytest

from mlx_suite.curation.dataset import read_collection
from mlx_suite.curation.export.export import export_dataset
from mlx_suite.curation.export.settings import ExportSettings
from mlx_suite.curation.filter.filter import filter_dataset
from mlx_suite.curation.filter.settings import FilterSettings
from mlx_suite.data.dataset import read_dataset
from tests.magpie.rows import Row, instructions_of, read_lines, row, write_lines

ALPACA = [
    {"instruction": "Make it short.", "input": "The old dog walked home.", "output": "The dog walked."},
    {"instruction": "Name a colour.", "input": "", "output": "Blue."},
]
DISTANCES = (0.0, 2e-8, 0.1, 0.3)


def released(number: int, distance: float) -> Row:
    return {
        "conversations": [{"from": "human", "value": f"Question {number}?"}, {"from": "gpt", "value": "Answer."}],
        "task_category": "Math",
        "llama_guard_2": "unsafe\nS2" if number == 2 else "safe",
        "instruct_reward": float(number),
        "min_neighbor_distance": distance,
        "language": "EN" if number else "DE",
    }


@pytest.fixture
def magpie(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "magpie.jsonl", [released(*each) for each in enumerate(DISTANCES)])


def test_alpacas_input_survives_a_filter_and_an_export(tmp_path: Path) -> None:
    source = tmp_path / "alpaca.json"
    source.write_text(json.dumps(ALPACA))
    filter_dataset(source, FilterSettings(sample=2), tmp_path / "kept")
    export_dataset(tmp_path / "kept", ExportSettings(to="alpaca"), tmp_path / "out")
    assert json.loads((tmp_path / "out/train.json").read_text()) == ALPACA


def test_finetuning_reads_the_same_input_before_and_after_a_filter(tmp_path: Path) -> None:
    source = tmp_path / "alpaca.json"
    source.write_text(json.dumps(ALPACA))
    filter_dataset(source, FilterSettings(sample=2), tmp_path / "kept")
    before, after = read_dataset(source).train, read_dataset(tmp_path / "kept").train
    assert [(each.messages, each.context) for each in after] == [(each.messages, each.context) for each in before]


def test_an_input_that_is_not_the_end_of_the_instruction_is_another_field(tmp_path: Path) -> None:
    [record] = read_collection(write_lines(tmp_path / "a.jsonl", [row("Hi", input="Ho")])).rows
    assert record == row("Hi", input="Ho")
    [example] = read_dataset(tmp_path / "a.jsonl").train
    assert (example.messages[0].content, example.context) == ("Hi", "")


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("min_neighbor_distance > 0", [1, 2, 3]),
        ("min_neighbor_distance <= 0.1", [0, 1, 2]),
        ("instruct_reward >= 2", [2, 3]),
        ("task_category = math", [0, 1, 2, 3]),
        ("llama_guard_2 = unsafe", [2]),
        ("llama_guard_2 != unsafe", [0, 1, 3]),
        ("language = DE", [0]),
        ("language in english, de", [0, 1, 2, 3]),
    ],
)
def test_conditions_know_the_columns_of_the_released_sets(
    magpie: Path, tmp_path: Path, line: str, kept: list[int]
) -> None:
    filter_dataset(magpie, FilterSettings(where=(line,)), tmp_path / "kept")
    rows = read_lines(tmp_path / "kept/accepted.jsonl")
    assert instructions_of(rows) == [f"Question {number}?" for number in kept]
    # The filtered rows answer to the same condition.
    assert filter_dataset(tmp_path / "kept", FilterSettings(where=(line,)), tmp_path / "twice").kept == tuple(
        range(len(kept))
    )


def test_the_hazard_codes_of_an_unsafe_row_are_kept(magpie: Path) -> None:
    unsafe = read_collection(magpie).rows[2]
    assert (unsafe["tags"]["safety"], unsafe["llama_guard_2"]) == ("unsafe", "unsafe\nS2")


def test_any_dataset_can_be_decontaminated(tmp_path: Path) -> None:
    evaluation = write_lines(tmp_path / "eval.jsonl", [{"question": "Who wrote the red book?", "answer": "Ann."}])
    source = write_lines(
        tmp_path / "rows.jsonl",
        [row("Please tell me: who wrote the red book?"), row("Quiz me.", "Who wrote the red book?"), row("Hi")],
    )
    filtered = filter_dataset(source, FilterSettings(decontaminate=(str(evaluation),)), tmp_path / "kept")
    assert filtered.kept == (2,)
    assert filtered.results[0].dropped == {"contaminated": 2}
    assert read_lines(tmp_path / "kept/rejected.jsonl")[0]["contaminated_by"] == "eval.jsonl:1"
