"""The folder of a filter: kept rows, dropped rows with reasons, embeddings, and the facts of the source."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_suite.curation.dataset import read_collection, read_embeddings, write_embeddings
from mlx_suite.curation.filter.filter import filter_dataset
from mlx_suite.curation.filter.settings import FilterSettings
from mlx_suite.curation.provenance import run_facts
from mlx_suite.data.dataset import read_dataset
from mlx_suite.runtime.errors import UserError
from tests.magpie.rows import Row, instructions_of, read_lines, row, write_lines, write_run

ROWS: list[Row] = [
    row("a", "one two", id="r-0", tags={"difficulty": "easy"}, model="m"),
    row("b", "one", id="r-1", tags={"difficulty": "hard"}, model="m"),
    row("A", "one two three", id="r-2", tags={"difficulty": "easy"}, model="m"),
    row("c", "one two", id="r-3", model="m"),
]
WHERE = FilterSettings(where=("difficulty in easy, hard", "answer_words > 1"), keep_first="exact")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rejected = [{"rejection": "duplicate"}, {"rejection": "duplicate"}, {"rejection": "answer_limit"}]
    return write_run(tmp_path / "run", ROWS, rejected, settings={"seed": 3}, versions={"mlx": "0.32"})


def test_kept_rows_are_unchanged_and_dropped_rows_have_a_reason(run: Path, tmp_path: Path) -> None:
    filtered = filter_dataset(run, WHERE, tmp_path / "kept")
    assert read_lines(tmp_path / "kept/accepted.jsonl") == ROWS[:1]
    assert read_lines(tmp_path / "kept/rejected.jsonl") == [
        {**ROWS[1], "rejection": "answer_words > 1", "stage": "filter"},
        {**ROWS[2], "rejection": "duplicate", "stage": "filter", "duplicate_of": "r-0"},
        {**ROWS[3], "rejection": "no difficulty", "stage": "filter"},
    ]
    assert filtered.as_dict() == {
        "source": "run",
        "read": 4,
        "set_aside": {"rows": 0, "reasons": {}, "places": {}},
        "kept": 1,
        "steps": [
            {"step": "difficulty in easy, hard", "left": 3, "dropped": {"no difficulty": 1}},
            {"step": "answer_words > 1", "left": 2, "dropped": {"answer_words > 1": 1}},
            {"step": "no duplicate", "left": 1, "dropped": {"duplicate": 1}},
        ],
    }


def test_a_filtered_folder_can_be_trained_on_and_filtered_again(run: Path, tmp_path: Path) -> None:
    filter_dataset(run, FilterSettings(where=("difficulty = easy",)), tmp_path / "kept")
    filter_dataset(tmp_path / "kept", FilterSettings(longest=1), tmp_path / "fewer")
    assert [example.messages[0].content for example in read_dataset(tmp_path / "kept").train] == ["a", "A"]
    assert instructions_of(read_collection(tmp_path / "fewer").rows) == ["A"]


def test_the_facts_of_the_run_survive_any_number_of_filters(run: Path, tmp_path: Path) -> None:
    filter_dataset(run, FilterSettings(where=("difficulty = easy",)), tmp_path / "kept")
    filter_dataset(tmp_path / "kept", FilterSettings(longest=1), tmp_path / "fewer")
    facts = run_facts(read_collection(tmp_path / "fewer"))
    assert (facts.models, facts.settings, facts.versions) == (("m",), {"seed": 3}, {"mlx": "0.32"})
    assert (facts.asked, facts.rejections) == (7, {"duplicate": 2, "answer_limit": 1})
    assert [(each["source"], each["read"], each["kept"]) for each in facts.filters] == [("run", 4, 2), ("kept", 2, 1)]


def test_embeddings_stay_with_their_rows(run: Path, tmp_path: Path) -> None:
    write_embeddings(run / "embeddings.npy", np.eye(4, 8, dtype=np.float32))
    filter_dataset(run, FilterSettings(where=("difficulty = easy",)), tmp_path / "kept")
    vectors = read_embeddings(read_collection(tmp_path / "kept"))
    assert vectors is not None and vectors.argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("how", "reason"), [("exact", "duplicate"), ("lexical", "near_duplicate"), ("cosine", "near_meaning")]
)
def test_the_first_of_duplicates_is_kept(tmp_path: Path, how: str, reason: str) -> None:
    story = "Write a story about a cat who lives in a small town by the sea"
    texts = [story, "Why is the sky blue?", story.upper(), f"{story}, please", "Why are skies blue?"]
    run = write_run(tmp_path / "run", [row(text) for text in texts])
    write_embeddings(run / "embeddings.npy", np.array([[1, 0], [0, 1], [1, 0], [1, 0.1], [0.1, 1]]))
    settings = FilterSettings(keep_first=how, threshold=0.9 if how == "cosine" else None)
    filtered = filter_dataset(run, settings, tmp_path / "kept")
    twins = {"exact": {2: 0}, "lexical": {2: 0, 3: 0}, "cosine": {2: 0, 3: 0, 4: 1}}
    assert {number: dropped.twin for number, dropped in filtered.drops.items()} == twins[how]
    assert list(filtered.drops.values())[-1].reason == reason


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_embeddings_of_other_rows_are_refused(run: Path, content: bytes | None) -> None:
    if content is None:
        write_embeddings(run / "embeddings.npy", np.eye(3, 8, dtype=np.float32))
    else:
        (run / "embeddings.npy").write_bytes(content)
    with pytest.raises(UserError, match="embeddings"):
        read_embeddings(read_collection(run))


def test_any_dataset_can_be_filtered(tmp_path: Path) -> None:
    (tmp_path / "alpaca.json").write_text(
        json.dumps([{"instruction": "Hi", "output": "Hello"}, {"instruction": "Ho", "output": "Hello, you"}])
    )
    filter_dataset(tmp_path / "alpaca.json", FilterSettings(where=("answer_words >= 2",)), tmp_path / "kept")
    assert read_lines(tmp_path / "kept/accepted.jsonl") == [row("Ho", "Hello, you")]
    rejected = {**row("Hi", "Hello"), "rejection": "answer_words >= 2", "stage": "filter"}
    assert read_lines(tmp_path / "kept/rejected.jsonl") == [rejected]


class TestRefusals:
    def refused(self, source: Path, out: Path, settings: FilterSettings = WHERE, **options: Any) -> UserError:
        with pytest.raises(UserError) as caught:
            filter_dataset(source, settings, out, **options)
        return caught.value

    def test_the_input_is_never_replaced(self, run: Path) -> None:
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        for source, out in ((run, run), (run / "accepted.jsonl", run), (run, run.parent), (run, run / "../run")):
            assert self.refused(source, out, force=True).what == "This would replace the input data"
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before

    def test_another_folder_is_replaced_only_with_force(self, run: Path, tmp_path: Path) -> None:
        write_lines(tmp_path / "mine/notes.txt", ["dear diary"])
        assert "did not write" in self.refused(run, tmp_path / "mine").what
        filter_dataset(run, WHERE, tmp_path / "mine", force=True)
        assert not (tmp_path / "mine/notes.txt").exists()
        filter_dataset(run, FilterSettings(longest=3), tmp_path / "mine")
        assert len(read_lines(tmp_path / "mine/accepted.jsonl")) == 3

    def test_a_folder_with_subfolders_is_not_replaced(self, run: Path, tmp_path: Path) -> None:
        write_lines(tmp_path / "home/documents/letter.txt", ["dear"])
        assert "has subfolders (documents)" in self.refused(run, tmp_path / "home", force=True).what

    def test_a_file_is_not_replaced(self, run: Path, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "kept.jsonl", [])
        assert self.refused(run, path).what == "A file with this name exists; expected a folder"

    def test_nothing_is_written_if_no_row_is_left(self, run: Path, tmp_path: Path) -> None:
        error = self.refused(run, tmp_path / "kept", FilterSettings(where=("difficulty = easy", "answer_words > 9")))
        assert error.what == "No row is left"
        assert error.details == ("difficulty = easy: 2 left", "answer_words > 9: 0 left")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]

    def test_a_filter_without_conditions_is_refused(self, run: Path, tmp_path: Path) -> None:
        assert self.refused(run, tmp_path / "kept", FilterSettings()).what == "No condition was given"
