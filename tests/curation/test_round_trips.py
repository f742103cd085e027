"""Filters and exports lose nothing: Alpaca's input, and the columns of the released Magpie sets."""

import json
from pathlib import Path
from typing import Any

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
TAGGED = "<think>\nAdd.\n</think>\n\n4"
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


REASONED = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4", "reasoning_content": "Add."},
]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_survives_a_filter(key: str, tmp_path: Path) -> None:
    turns = [REASONED[0], {"role": "assistant", "content": "4", key: "Add."}]
    source = write_lines(tmp_path / "a.jsonl", [{"messages": turns}])
    filter_dataset(source, FilterSettings(sample=1), tmp_path / "kept")
    [record] = read_collection(tmp_path / "kept").rows
    assert record["messages"] == REASONED
    assert [each.messages for each in read_dataset(tmp_path / "kept").train] == [
        each.messages for each in read_dataset(source).train
    ]


@pytest.mark.parametrize(
    ("to", "file", "row"),
    [
        ("messages", "train.jsonl", {"messages": REASONED}),
        ("mlx-lm", "train.jsonl", {"messages": [REASONED[0], {"role": "assistant", "content": TAGGED}]}),
        ("alpaca", "train.json", {"instruction": "2+2?", "input": "", "output": TAGGED}),
        (
            "sharegpt",
            "train.json",
            {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": TAGGED}]},
        ),
    ],
)
def test_reasoning_survives_an_export(to: str, file: str, row: Row, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [{"messages": REASONED}])
    export_dataset(source, ExportSettings(to=to, valid=0, test=0), tmp_path / "out")
    [line] = json.loads("[" + (tmp_path / "out" / file).read_text().strip().strip("[]") + "]")
    assert line == row


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": {}}}
CALLING = [
    {"role": "user", "content": "Weather in Rome?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "18 C", "tool_call_id": "c1"},
    {"role": "assistant", "content": "It is 18 C."},
]


def test_calls_results_and_definitions_of_tools_survive_a_filter(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [{"messages": CALLING, "tools": [TOOL]}])
    filter_dataset(source, FilterSettings(where=("answer_words >= 3",)), tmp_path / "kept")
    [record] = read_collection(tmp_path / "kept").rows
    assert record == {"messages": CALLING, "tools": [TOOL]}
    [before], [after] = read_dataset(source).train, read_dataset(tmp_path / "kept").train
    assert (after.messages, after.tool_turns) == (before.messages, before.tool_turns)


@pytest.mark.parametrize("to", ["messages", "mlx-lm", "sharegpt", "parquet"])
def test_tools_survive_an_export(to: str, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [{"messages": CALLING, "tools": [TOOL]}])
    export_dataset(source, ExportSettings(to=to, valid=0, test=0), tmp_path / "out")
    [before], [after] = read_dataset(source).train, read_dataset(tmp_path / "out").train
    assert before.tool_turns is not None and after.tool_turns is not None
    described = [tool["function"]["description"] for tool in after.tool_turns.tools]
    assert described == ["Weather of a city"]
    ids = ("id", "tool_call_id")
    assert [_without(turn, ids) for turn in after.tool_turns.turns] == [
        _without(turn, ids) for turn in before.tool_turns.turns
    ]


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    """A JSON value without these keys, which ShareGPT's format does not have."""
    if isinstance(value, dict):
        return {key: _without(each, keys) for key, each in value.items() if key not in keys}
    return [_without(each, keys) for each in value] if isinstance(value, list) else value
