"""What is in the data and is not trained is told: keys that are not read, rows left out, placeholders, padding."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.data.dataset import Dataset, read_dataset
from mlx_suite.data.read.records import Problem
from mlx_suite.runtime.errors import UserError

ANSWERED = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def read(tmp_path: Path, *rows: dict[str, Any]) -> Dataset:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_dataset(path)


def unread(tmp_path: Path, *rows: dict[str, Any]) -> dict[str, int]:
    [file] = read(tmp_path, *rows).files
    return dict(file.unread)


def turns(**last: Any) -> list[dict[str, Any]]:
    return [ANSWERED[0], {**ANSWERED[1], **last}]


class TestKeys:
    def test_keys_of_rows_and_turns_that_are_not_read_are_counted(self, tmp_path: Path) -> None:
        rows = [
            {"messages": turns(mood="calm"), "source": "web"},
            {"messages": turns(mood="calm")},
            {"messages": turns(mood=None), "source": ""},
        ]
        assert unread(tmp_path, *rows) == {"mood": 2, "source": 1}

    def test_choices_of_a_question_are_not_read(self, tmp_path: Path) -> None:
        assert unread(tmp_path, {"question": "2+2?", "choices": ["3", "4"], "answer": "B"}) == {"choices": 1}

    def test_a_second_synonym_is_not_read_unless_it_repeats_a_text(self, tmp_path: Path) -> None:
        row = {"prompt": "Hi", "completion": "Ho", "response": "Hey", "text": "Hi"}
        assert unread(tmp_path, row) == {"response": 1}

    def test_the_facts_of_a_magpie_row_are_no_content(self, tmp_path: Path) -> None:
        facts = {"id": "5d-0", "index": 0, "seed": 7, "fingerprint": "5d", "model": "m", "tags": {"category": "Math"}}
        assert unread(tmp_path, {"messages": ANSWERED, **facts, "mood": "calm"}) == {"mood": 1}
        assert unread(tmp_path, {"messages": ANSWERED, "model": "m"}) == {"model": 1}

    def test_every_key_of_a_usual_row_is_read(self, tmp_path: Path) -> None:
        call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
        result = {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "null"}
        rows = [
            {"messages": [ANSWERED[0], call, result, {**ANSWERED[1], "weight": 0}], "tools": [{"name": "f"}]},
            {"messages": ANSWERED, "system": "Be brief."},
        ]
        assert unread(tmp_path, *rows) == {}

    def test_the_turns_of_a_table_are_searched_too(self, tmp_path: Path) -> None:
        assert unread(tmp_path, {"messages": json.dumps(turns(mood="calm"))}) == {"mood": 1}


class TestObeyedKeys:
    @pytest.mark.parametrize("last", [{"training": False}, {"masked": True}, {"weight": 0}, {"train": False}])
    def test_a_turn_that_is_not_to_be_trained_is_not(self, tmp_path: Path, last: dict[str, Any]) -> None:
        messages = read(tmp_path, {"messages": [*turns(**last), *turns()]}).train[0].messages
        assert [message.trained for message in messages] == [True, False, True, True]

    @pytest.mark.parametrize("last", [{"training": True}, {"masked": False}])
    def test_a_turn_that_is_to_be_trained_is(self, tmp_path: Path, last: dict[str, Any]) -> None:
        assert read(tmp_path, {"messages": turns(**last)}).train[0].messages[1].trained

    def test_functions_are_tools(self, tmp_path: Path) -> None:
        function = {"name": "weather"}
        old, new = read(
            tmp_path,
            {"messages": ANSWERED, "functions": [function]},
            {"messages": ANSWERED, "tools": [{"type": "function", "function": function}]},
        ).train
        assert old.messages == new.messages
        assert '"weather"' in old.messages[0].content

    def test_an_undesired_response_is_left_out_with_its_reason(self, tmp_path: Path) -> None:
        dataset = read(
            tmp_path,
            {"prompt": "Hi", "completion": "No.", "label": False},
            {"prompt": "Hi", "completion": "Hello", "label": True},
            {"messages": ANSWERED, "prompt": "a", "completion": "b", "kto_tag": False},
        )
        assert [example.messages[1].content for example in dataset.train] == ["Hello"]
        assert (dataset.files[0].left_out, dataset.files[0].bad, dataset.problems) == (2, 0, ())
        assert dataset.left_out[0] == Problem(
            "rows.jsonl:1", '"label" is false: an undesired response (KTO), which is not trained', by_design=True
        )

    def test_data_of_undesired_responses_only_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="nothing is left to train on"):
            read(tmp_path, {"prompt": "Hi", "completion": "No.", "label": False})


class TestPlaceholders:
    @pytest.mark.parametrize("word", ["nan", "NaN", "N/A", "<noinput>", "<Nooutput>", "<NA>", "None", " null "])
    def test_they_are_refused_as_instruction_and_response_and_empty_as_input(self, tmp_path: Path, word: str) -> None:
        [example] = read(tmp_path, {"instruction": "Hi", "input": word, "system": word, "output": "Ho"}).train
        assert (example.context, len(example.messages)) == ("", 2)
        for row in (
            {"instruction": word, "output": "Ho"},
            {"instruction": "Hi", "output": word},
            {"prompt": word, "completion": "Ho"},
            {"messages": [{"role": "user", "content": word}, ANSWERED[1]]},
            {"messages": turns(content=word)},
        ):
            with pytest.raises(UserError) as caught:
                read(tmp_path, row)
            assert "which programs write for a missing value" in caught.value.details[0]

    def test_a_table_of_them_keeps_the_rows_that_are_whole(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(
            "instruction,input,output\na,nan,b\na2,,\na3,N/A,N/A\na4,<noinput>,<nooutput>\nnan,,x\n"
        )
        dataset = read_dataset(tmp_path / "a.csv", skip_bad=True)
        assert [(each.messages[0].content, each.context) for each in dataset.train] == [("a", "")]
        assert [problem.place for problem in dataset.problems] == ["a.csv:3", "a.csv:4", "a.csv:5", "a.csv:6"]

    def test_words_that_are_answers_are_kept(self, tmp_path: Path) -> None:
        [example] = read(tmp_path, {"prompt": "none", "completion": "None of them."}).train
        assert [message.content for message in example.messages] == ["none", "None of them."]
        assert read(tmp_path, {"text": "nan"}).train[0].text == "nan"


def test_nulls_that_arrow_adds_to_tool_calls_are_not_trained(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def call(**arguments: str) -> dict[str, Any]:
        function = {"name": "f", "arguments": arguments}
        return {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}

    rows = [[ANSWERED[0], call(city="Rome")], [ANSWERED[0], call(day="today")]]
    tools = [[{"name": "f", "city": {"type": "text"}}], [{"name": "f", "day": {"type": "text"}}]]
    parquet.write_table(pyarrow.table({"messages": rows, "tools": tools}), tmp_path / "a.parquet")
    dataset = read_dataset(tmp_path / "a.parquet")
    assert [example.messages[-1].content for example in dataset.train] == [
        '{"name": "f", "arguments": {"city": "Rome"}}',
        '{"name": "f", "arguments": {"day": "today"}}',
    ]
    assert "null" not in dataset.train[0].messages[0].content
    assert dict(dataset.files[0].unread) == {}


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        ({"Question": "a", "Answer": "b"}, "; use --column question=Question --column answer=Answer"),
        ({"Instruction": "a", "Response": "b"}, "; use --column instruction=Instruction --column output=Response"),
        ({"Title": "a", "Body": "b"}, ""),
    ],
)
def test_columns_that_differ_in_case_are_suggested(row: dict[str, str], flags: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError) as caught:
        read_dataset(path)
    assert caught.value.details[0].partition('{"text": …}')[2] == flags
    if flags:
        pairs = dict(flag.split("=") for flag in flags.split()[3::2])
        assert read_dataset(path, columns=pairs).train[0].messages[1].content == "b"
