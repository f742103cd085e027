"""Reading datasets of any format as conversations with tags and scores."""

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
from tests.magpie.rows import Row, conversation, row, with_system, write_lines, write_run

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


class TestFormats:
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
    def test_every_format_becomes_messages_and_keeps_other_fields(self, tmp_path: Path, written: Row) -> None:
        assert rows_of(tmp_path, {**written, "source": "me"}) == ({"messages": HELLO, "source": "me"},)

    def test_an_input_is_appended_to_its_instruction(self, tmp_path: Path) -> None:
        [record] = rows_of(tmp_path, {"instruction": "Add them", "input": "1, 2", "output": "3"})
        assert record == row("Add them\n\n1, 2", "3", input="1, 2")

    def test_a_system_prompt_becomes_the_first_turn(self, tmp_path: Path) -> None:
        [record] = rows_of(tmp_path, {"system": "Be kind.", "instruction": "Hi", "output": "Hello"})
        assert record == with_system("Be kind.", row("Hi", "Hello"))

    def test_untrained_turns_stay_untrained(self, tmp_path: Path) -> None:
        turns = conversation("Hi", "Hullo", "Hi?", "Hello")["messages"]
        turns[1]["weight"] = 0
        [record] = rows_of(tmp_path, {"messages": turns})
        assert record["messages"][1] == {"role": "assistant", "content": "Hullo", "train": False}
        assert "train" not in record["messages"][3]

    def test_a_synonymous_key_that_was_not_used_is_kept(self, tmp_path: Path) -> None:
        assert rows_of(tmp_path, {"prompt": "Hi", "completion": "Hello", "answer": "42"}) == (
            row("Hi", "Hello", answer="42"),
        )

    def test_fields_before_the_messages_stay_before_them(self, tmp_path: Path) -> None:
        [record] = rows_of(tmp_path, row("Hi", id="a-0", index=0, tags={"category": "Math"}, model="m"))
        assert list(record) == ["id", "index", "messages", "tags", "model"]

    def test_numbers_and_objects_in_a_table_of_text_are_parsed(self, tmp_path: Path) -> None:
        with (tmp_path / "rows.csv").open("w", newline="") as file:
            cells = csv.writer(file)
            cells.writerow(["instruction", "output", "answer_tokens", "tags", "instruct_reward"])
            cells.writerow(["Hi", "Hello", "7", '{"difficulty": "easy"}', "-1.5"])
        [record] = read_collection(tmp_path / "rows.csv").rows
        assert record == row("Hi", "Hello", answer_tokens=7, tags={"difficulty": "easy"}, scores={"reward": -1.5})

    def test_nulls_of_a_parquet_table_are_dropped(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        rows = [row("Hi", tags={"difficulty": "easy"}), row("Ho", tags={"category": "Math"}, scores={"ifd": 0.5})]
        columns = {key: pyarrow.array([each.get(key) for each in rows]) for key in ("messages", "tags", "scores")}
        parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
        assert read_collection(tmp_path / "rows.parquet").rows == tuple(rows)

    def test_a_compressed_file_is_read(self, tmp_path: Path) -> None:
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
    def test_a_pair_becomes_the_chosen_conversation_and_keeps_both_responses(
        self, tmp_path: Path, written: Row
    ) -> None:
        assert rows_of(tmp_path, {**written, "margin": 0.5}) == (
            row("Hi", "Hello", chosen="Hello", rejected="No", margin=0.5),
        )

    def test_two_equal_responses_are_not_a_pair(self, tmp_path: Path) -> None:
        error = refused(write_lines(tmp_path / "a.jsonl", [{"prompt": "Hi", "chosen": "Hello", "rejected": "Hello"}]))
        assert error.details == ('a.jsonl:1: "chosen" and "rejected" are the same; expected two different responses',)


class TestReleasedSets:
    def test_flat_fields_become_tags_scores_and_the_nearest_row(self, tmp_path: Path) -> None:
        [record] = rows_of(tmp_path, RELEASED)
        assert record == {
            "messages": HELLO,
            "uuid": "8f1c",
            "model": "meta-llama/Meta-Llama-3-8B-Instruct",
            "llama_guard_2": "unsafe\nS2",
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

    def test_our_tags_override_flat_fields(self, tmp_path: Path) -> None:
        [record] = rows_of(tmp_path, row("Hi", input_quality="good", tags={"input_quality": "poor"}))
        assert record["tags"] == {"input_quality": "poor"}

    def test_unrelated_fields_of_the_same_name_are_kept(self, tmp_path: Path) -> None:
        theirs = {"difficulty": 3, "language": ["de"], "tags": ["sums"], "scores": "high", "steer": {}, "sampling": "x"}
        [record] = rows_of(tmp_path, row("Hi", **theirs))
        assert record == row(
            "Hi", difficulty=3, language=["de"], other_tags=["sums"], other_scores="high", other_sampling="x"
        )
        assert rows_of(tmp_path, record) == (record,)

    def test_invalid_labels_and_numbers_are_listed(self, tmp_path: Path) -> None:
        wrong = row("Hi", tags={"difficulty": 3, "category": "Math"}, scores={"ifd": "x", "a": 1}, instruct_reward="no")
        assert refused(write_lines(tmp_path / "a.jsonl", [wrong])).details == (
            'a.jsonl:1: "instruct_reward" is "no"; expected a number',
            'a.jsonl:1: tag "difficulty" is the number 3; expected text',
            'a.jsonl:1: score "ifd" is text; expected a number',
        )


class TestFiles:
    def test_only_the_accepted_rows_of_a_run_are_read(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", [row("Hi")], rejected=[{"no": "row"}])
        assert read_collection(folder) == Collection(name="run", rows=(row("Hi"),), folder=folder)
        assert read_collection(folder / "accepted.jsonl").folder == folder

    def test_a_torn_last_line_is_left_out(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", [row("Hi"), row("Ho")])
        whole = (folder / "accepted.jsonl").read_text()
        (folder / "accepted.jsonl").write_text(whole[:-20])
        assert read_collection(folder).rows == (row("Hi"),)

    def test_test_rows_are_left_out(self, tmp_path: Path) -> None:
        write_lines(tmp_path / "train.jsonl", [row("Hi")])
        write_lines(tmp_path / "test.jsonl", [row("Ho")])
        assert read_collection(tmp_path) == Collection(name=tmp_path.name, rows=(row("Hi"),), folder=None)

    def test_all_problems_of_all_files_are_listed(self, tmp_path: Path) -> None:
        write_lines(tmp_path / "a.jsonl", [row("Hi"), row(""), "{"])
        write_lines(tmp_path / "b.jsonl", [row("Hi", response="")])
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
def test_rows_survive_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, [row(instruction, response, note=value) for instruction, response, value in rows])
    first = read_collection(path).rows
    write_rows(path, first)
    assert read_collection(path).rows == first
    assert [each["messages"][0]["content"] for each in first] == [instruction for instruction, _, _ in rows]
    assert len(read_dataset(path).train) == len(rows)


def test_nan_and_inf_become_null_and_lone_surrogates_are_escaped() -> None:
    assert json_line({"a": float("nan"), "b": [float("inf"), 1.5]}) == b'{"a": null, "b": [null, 1.5]}\n'
    assert json_line({"a": "\ud800é"}) == b'{"a": "\\ud800\\u00e9"}\n'
