"""However a dataset was written, its rows come out as conversations with everything else that was in them."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.curation.dataset import Collection, json_line, read_collection, write_rows
from mlx_suite.data.dataset import read_dataset
from mlx_suite.runtime.errors import UserError
from tests.magpie.rows import Row, row, talk, with_system, write_lines, write_run

HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]

RELEASED: Row = {
    "uuid": "8f1c",
    "model": "meta-llama/Meta-Llama-3-8B-Instruct",
    "instruction": "Hi",
    "response": "Hello",
    "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    "task_category": "Information seeking",
    "other_task_category": ["Others"],
    "difficulty": None,
    "input_quality": "good",
    "llama_guard_2": "unsafe\nS2",
    "language": "EN",
    "instruct_reward": -3.2,
    "reward_difference": 1.5,
    "min_neighbor_distance": 0.05,
    "min_similar_conversation_id": "77",
}


def rows_of(path: Path, *rows: Any) -> tuple[Row, ...]:
    return read_collection(write_lines(path / "rows.jsonl", rows)).rows


def refused(source: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_collection(source)
    return caught.value


class TestShapes:
    @pytest.mark.parametrize(
        "written",
        [
            {"messages": HELLO},
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
            {"instruction": "Hi", "input": "", "output": "Hello"},
            {"prompt": "Hi", "completion": "Hello"},
            {"question": "Hi", "answer": "Hello"},
        ],
    )
    def test_every_shape_becomes_messages_and_keeps_the_rest(self, tmp_path: Path, written: Row) -> None:
        assert rows_of(tmp_path, {**written, "source": "me"}) == ({"messages": HELLO, "source": "me"},)

    def test_an_input_stands_behind_its_instruction(self, tmp_path: Path) -> None:
        [found] = rows_of(tmp_path, {"instruction": "Add them", "input": "1, 2", "output": "3"})
        assert found == row("Add them\n\n1, 2", "3")

    def test_a_system_text_becomes_the_first_turn(self, tmp_path: Path) -> None:
        [found] = rows_of(tmp_path, {"system": "Be kind.", "instruction": "Hi", "output": "Hello"})
        assert found == with_system("Be kind.", row("Hi", "Hello"))

    def test_a_turn_that_is_not_to_be_learned_says_so_again(self, tmp_path: Path) -> None:
        turns = talk("Hi", "Hullo", "Hi?", "Hello")["messages"]
        turns[1]["weight"] = 0
        [found] = rows_of(tmp_path, {"messages": turns})
        assert found["messages"][1] == {"role": "assistant", "content": "Hullo", "train": False}
        assert "train" not in found["messages"][3]

    def test_a_key_that_another_one_took_the_place_of_is_kept(self, tmp_path: Path) -> None:
        assert rows_of(tmp_path, {"prompt": "Hi", "completion": "Hello", "answer": "42"}) == (
            row("Hi", "Hello", answer="42"),
        )

    def test_the_head_of_a_row_of_a_run_stays_its_head(self, tmp_path: Path) -> None:
        [found] = rows_of(tmp_path, row("Hi", id="a-0", index=0, tags={"category": "Math"}, model="m"))
        assert list(found) == ["id", "index", "messages", "tags", "model"]

    def test_a_table_of_text_holds_numbers_and_objects(self, tmp_path: Path) -> None:
        with (tmp_path / "rows.csv").open("w", newline="") as file:
            cells = csv.writer(file)
            cells.writerow(["instruction", "output", "answer_tokens", "tags", "instruct_reward"])
            cells.writerow(["Hi", "Hello", "7", '{"difficulty": "easy"}', "-1.5"])
        [found] = read_collection(tmp_path / "rows.csv").rows
        assert found == row("Hi", "Hello", answer_tokens=7, tags={"difficulty": "easy"}, scores={"reward": -1.5})

    def test_a_table_of_parquet_gives_no_row_what_only_others_have(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        rows = [row("Hi", tags={"difficulty": "easy"}), row("Ho", tags={"category": "Math"}, scores={"ifd": 0.5})]
        columns = {key: pyarrow.array([each.get(key) for each in rows]) for key in ("messages", "tags", "scores")}
        parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
        assert read_collection(tmp_path / "rows.parquet").rows == tuple(rows)

    def test_a_packed_file_is_read(self, tmp_path: Path) -> None:
        with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
            file.write(json.dumps(row("Hi")))
        assert read_collection(tmp_path / "rows.jsonl.gz").rows == (row("Hi"),)


class TestPairs:
    @pytest.mark.parametrize(
        "written",
        [
            {"messages": HELLO[:1], "chosen": "Hello", "rejected": "No"},
            {"messages": HELLO, "chosen": "Hello", "rejected": "No"},
            {"prompt": "Hi", "chosen": "Hello", "rejected": "No"},
            {
                "prompt": HELLO[:1],
                "chosen": HELLO[1:],
                "rejected": [{"role": "assistant", "content": "No"}],
            },
            {"chosen": HELLO, "rejected": [HELLO[0], {"role": "assistant", "content": "No"}]},
        ],
    )
    def test_a_pair_is_its_question_with_the_better_answer_and_both_answers(self, tmp_path: Path, written: Row) -> None:
        assert rows_of(tmp_path, {**written, "margin": 0.5}) == (
            row("Hi", "Hello", chosen="Hello", rejected="No", margin=0.5),
        )

    def test_two_answers_that_are_the_same_are_no_pair(self, tmp_path: Path) -> None:
        error = refused(write_lines(tmp_path / "a.jsonl", [{"prompt": "Hi", "chosen": "Hello", "rejected": "Hello"}]))
        assert error.details == ('a.jsonl:1: "chosen" and "rejected" are the same; expected two answers',)


class TestReleasedSets:
    def test_their_flat_fields_become_tags_scores_and_the_nearest_row(self, tmp_path: Path) -> None:
        [found] = rows_of(tmp_path, RELEASED)
        assert found == {
            "messages": HELLO,
            "uuid": "8f1c",
            "model": "meta-llama/Meta-Llama-3-8B-Instruct",
            "other_task_category": ["Others"],
            "tags": {
                "category": "Information seeking",
                "input_quality": "good",
                "language": "English",
                "safety": "unsafe",
            },
            "scores": {"reward": -3.2, "reward_difference": 1.5},
            "nearest": {"id": "77", "cosine": 0.975},
        }

    def test_tags_of_our_own_take_the_place_of_theirs(self, tmp_path: Path) -> None:
        [found] = rows_of(tmp_path, row("Hi", input_quality="good", tags={"input_quality": "poor"}))
        assert found["tags"] == {"input_quality": "poor"}

    def test_fields_of_other_datasets_that_are_called_the_same_stay_as_they_are(self, tmp_path: Path) -> None:
        theirs = {"difficulty": 3, "language": ["de"], "tags": ["sums"], "scores": "high", "steer": {}, "sampling": "x"}
        [found] = rows_of(tmp_path, row("Hi", **theirs))
        assert found == row(
            "Hi", difficulty=3, language=["de"], other_tags=["sums"], other_scores="high", other_sampling="x"
        )
        assert rows_of(tmp_path, found) == (found,)

    def test_what_is_no_label_and_no_number_is_said(self, tmp_path: Path) -> None:
        wrong = row("Hi", tags={"difficulty": 3, "category": "Math"}, scores={"ifd": "x", "a": 1}, instruct_reward="no")
        assert refused(write_lines(tmp_path / "a.jsonl", [wrong])).details == (
            'a.jsonl:1: "instruct_reward" is "no"; expected a number',
            'a.jsonl:1: tag "difficulty" is the number 3; expected text',
            'a.jsonl:1: score "ifd" is text; expected a number',
        )


class TestPlaces:
    def test_the_folder_of_a_run_is_known_and_its_other_files_are_not_read(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", [row("Hi")], rejected=[{"no": "row"}])
        assert read_collection(folder) == Collection(name="run", rows=(row("Hi"),), folder=folder)
        assert read_collection(folder / "accepted.jsonl").folder == folder

    def test_a_line_that_is_being_written_is_left_out(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", [row("Hi"), row("Ho")])
        whole = (folder / "accepted.jsonl").read_text()
        (folder / "accepted.jsonl").write_text(whole[:-20])
        assert read_collection(folder).rows == (row("Hi"),)

    def test_rows_to_test_on_stay_out(self, tmp_path: Path) -> None:
        write_lines(tmp_path / "train.jsonl", [row("Hi")])
        write_lines(tmp_path / "test.jsonl", [row("Ho")])
        assert read_collection(tmp_path) == Collection(name=tmp_path.name, rows=(row("Hi"),), folder=None)

    def test_all_problems_of_all_files_are_said_at_once(self, tmp_path: Path) -> None:
        write_lines(tmp_path / "a.jsonl", [row("Hi"), row(""), "{"])
        write_lines(tmp_path / "b.jsonl", [row("Hi", answered="")])
        write_lines(tmp_path / "c.jsonl", [{"text": "plain"}])
        write_lines(tmp_path / "d.jsonl", [])
        error = refused(tmp_path)
        assert error.what == "There are 5 problems with the data"
        assert [detail.split(": ")[0] for detail in error.details] == [
            "a.jsonl:2",
            "a.jsonl:3",
            "b.jsonl:1",
            "c.jsonl",
            "d.jsonl",
        ]
        assert error.details[3] == "c.jsonl: the rows are plain text; expected conversations"


TEXTS = st.text(min_size=1).filter(lambda text: text.strip() and text.strip() not in ("None", "null", "nan", "NaN"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, VALUES), min_size=1, max_size=4))
def test_what_was_written_reads_the_same_however_often(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, [row(asked, answered, note=value) for asked, answered, value in rows])
    first = read_collection(path).rows
    write_rows(path, first)
    assert read_collection(path).rows == first
    assert [each["messages"][0]["content"] for each in first] == [asked for asked, _, _ in rows]
    assert len(read_dataset(path).train) == len(rows)


def test_what_json_does_not_have_becomes_null_and_half_a_character_an_escape() -> None:
    assert json_line({"a": float("nan"), "b": [float("inf"), 1.5]}) == b'{"a": null, "b": [null, 1.5]}\n'
    assert json_line({"a": "\ud800é"}) == b'{"a": "\\ud800\\u00e9"}\n'
