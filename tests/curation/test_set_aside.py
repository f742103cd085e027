"""Rows that cannot be read are set aside with a reason, and the command goes on."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlx_suite.curation.dataset import read_collection, read_embeddings, write_embeddings
from mlx_suite.curation.export.export import export_dataset
from mlx_suite.curation.export.settings import ExportSettings
from mlx_suite.curation.filter.filter import filter_dataset
from mlx_suite.curation.filter.settings import FilterSettings
from mlx_suite.curation.report import make_report
from mlx_suite.curation.set_aside import SetAside, set_aside_facts, set_aside_lines
from mlx_suite.runtime.errors import UserError
from tests.magpie.reflection.test_reflection import run as reflect_on
from tests.magpie.rows import read_lines, row, write_lines, write_run

EMPTY = '"output" is empty; expected text'
WOODEN = [
    {"instruction": f"Name {n} things made of wood.", "input": "", "output": "" if n == 3 else f"Thing {n}."}
    for n in range(2, 6)
]


@pytest.fixture
def alpaca(tmp_path: Path) -> Path:
    """Four rows on one line, the second with an empty output, as in the original Alpaca."""
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(WOODEN))
    return path


def test_an_empty_output_is_set_aside_with_its_place_and_reason(alpaca: Path) -> None:
    collection = read_collection(alpaca)
    assert [each["messages"][1]["content"] for each in collection.rows] == ["Thing 2.", "Thing 4.", "Thing 5."]
    assert collection.set_aside == (
        SetAside(position=1, place="alpaca.json, row 2", reasons=(EMPTY,), value=WOODEN[1]),
    )


def test_strict_refuses_the_row(alpaca: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_collection(alpaca, strict=True)
    assert caught.value.details == (f"alpaca.json, row 2: {EMPTY}",)


def test_a_conversation_that_ends_with_a_user_turn_and_a_line_that_is_not_json_are_set_aside(tmp_path: Path) -> None:
    thanks = {"conversations": [{"from": "human", "value": "Name a tree."}, {"from": "gpt", "value": "Oak."}]}
    trailing = {"conversations": [*thanks["conversations"], {"from": "human", "value": "thanks"}]}
    collection = read_collection(write_lines(tmp_path / "a.jsonl", [thanks, "{", trailing]))
    assert len(collection.rows) == 1
    assert [(each.place, each.reasons) for each in collection.set_aside] == [
        ("a.jsonl:2", ("column 2: Expecting property name enclosed in double quotes, near '{'",)),
        ("a.jsonl:3", ("ends with a user turn; expected a response at the end",)),
    ]


def test_a_file_of_which_the_rest_is_lost_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"prompt": "a", "completion": "b"}, {"prompt": "c",')
    with pytest.raises(UserError, match="There is a problem with the data"):
        read_collection(tmp_path / "a.json")


def test_data_without_a_readable_row_are_refused(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [row("a", ""), row("b", "")])
    with pytest.raises(UserError, match="There are 2 problems with the data"):
        read_collection(source)


def test_the_embeddings_of_the_other_rows_are_kept(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("a"), row("b", ""), row("c")])
    write_embeddings(folder / "embeddings.npy", np.array([[1.0], [2.0], [3.0]]))
    vectors = read_embeddings(read_collection(folder))
    assert vectors is not None
    assert vectors.tolist() == [[1.0], [3.0]]


def test_a_filter_rejects_them_in_a_step_of_their_own(alpaca: Path, tmp_path: Path) -> None:
    filtered = filter_dataset(alpaca, FilterSettings(where=("answer contains thing",)), tmp_path / "kept")
    assert (filtered.read, len(filtered.kept)) == (4, 3)
    assert filtered.as_dict()["steps"][0] == {"step": "readable", "left": 3, "dropped": {EMPTY: 1}}
    assert read_lines(tmp_path / "kept/rejected.jsonl") == [
        {
            "place": "alpaca.json, row 2",
            "problem": EMPTY,
            "original": WOODEN[1],
            "messages": [],
            "rejection": EMPTY,
            "stage": "filter",
        }
    ]
    assert make_report(tmp_path / "kept").as_dict()["datasets"][0]["funnel"]["asked"] == 4


def test_an_export_leaves_them_out_and_counts_them(alpaca: Path, tmp_path: Path) -> None:
    exported = export_dataset(alpaca, ExportSettings(to="alpaca"), tmp_path / "out").as_dict()
    assert (exported["rows"], exported["set_aside"]["rows"]) == (3, 1)
    with pytest.raises(UserError):
        export_dataset(alpaca, ExportSettings(to="alpaca"), tmp_path / "strict", strict=True)


def test_a_report_notes_them(alpaca: Path) -> None:
    [figures] = make_report(alpaca).figures
    assert (figures.rows, figures.notes) == (
        3,
        (f"1 of 4 rows cannot be read and is set aside: 1: {EMPTY} (alpaca.json, row 2)",),
    )


def test_reflection_writes_them_with_the_refused_rows(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [row("Who is Ben Stone?", "Old words 0."), row("a", "")])
    reflect_on(tmp_path / "out", data=read_collection(source))
    assert read_lines(tmp_path / "out/refused.jsonl")[-1] == {
        "place": "a.jsonl:2",
        "problem": 'turn 2, "content" is empty; expected text',
        "original": row("a", ""),
        "reason": "unreadable",
    }


def test_the_facts_list_every_place_and_the_lines_only_the_most_frequent_reasons() -> None:
    rows = [SetAside(position=n, place=f"a:{n}", reasons=(f"reason {min(n, 7)}",)) for n in range(10)]
    assert set_aside_facts(rows)["places"]["a:3"] == ["reason 3"]
    assert list(set_aside_lines(rows, 12)) == [
        "10 of 12 rows cannot be read and are set aside:",
        "3: reason 7 (first a:7)",
        "1: reason 0 (a:0)",
        "1: reason 1 (a:1)",
        "1: reason 2 (a:2)",
        "1: reason 3 (a:3)",
        "3 for other reasons; --json lists all",
    ]
