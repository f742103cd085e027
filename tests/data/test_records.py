"""Reading records from files of every type, valid or damaged."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from mlx_suite.data.read.records import Problem, Record
from mlx_suite.data.read.sources import data_suffix, read_records
from mlx_suite.runtime.errors import UserError


def read(folder: Path, name: str, content: str | bytes) -> list[Record | Problem]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_records(path))


class TestJsonLines:
    def test_each_line_is_a_record_with_its_number(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.jsonl", '{"text": "one"}\n{"text": "two"}') == [
            Record("a.jsonl:1", {"text": "one"}),
            Record("a.jsonl:2", {"text": "two"}),
        ]

    def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_accepted(self, tmp_path: Path) -> None:
        content = b'\xef\xbb\xbf{"text": "one"}\r\n\r\n  \r\n{"text": "two"}\r\n'
        assert read(tmp_path, "a.jsonl", content) == [
            Record("a.jsonl:1", {"text": "one"}),
            Record("a.jsonl:4", {"text": "two"}),
        ]

    def test_a_unicode_line_separator_does_not_end_a_line(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.jsonl", '{"text": "one\u2028two\x85"}\n') == [
            Record("a.jsonl:1", {"text": "one\u2028two\x85"})
        ]

    def test_a_bad_line_is_reported_with_its_column_and_the_next_is_read(self, tmp_path: Path) -> None:
        content = '{"text": "one"}\n{"prompt": "Why?" "completion": "So."}\n{"text": "two"}\n'
        assert read(tmp_path, "a.jsonl", content)[1:] == [
            Problem(
                "a.jsonl:2",
                "column 19: Expecting ',' delimiter, near " + repr('{"prompt": "Why?" "completion": "So."}'),
            ),
            Record("a.jsonl:3", {"text": "two"}),
        ]

    def test_only_the_text_around_a_mistake_in_a_long_line_is_shown(self, tmp_path: Path) -> None:
        [problem] = read(tmp_path, "a.jsonl", '{"text": "' + "a" * 1000 + '\x1b[31m"}')
        assert isinstance(problem, Problem)
        # An escape sequence would change the terminal's colours.
        assert "\x1b" not in problem.what
        assert problem.what.startswith("column 1011: Invalid control character, near …'aaaaaaaa")
        assert len(problem.what) < 120

    def test_a_value_that_is_not_an_object_is_a_problem(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.jsonl", "7\nnull\n") == [
            Problem("a.jsonl:1", 'the record is the number 7; expected an object, {"name": value, …}'),
            Problem("a.jsonl:2", 'the record is null; expected an object, {"name": value, …}'),
        ]

    def test_bytes_that_are_not_utf8_are_a_problem(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.jsonl", b'{"text": "caf\xe9"}\n{"text": "two"}\n') == [
            Problem("a.jsonl:1", 'byte 0xe9 is not UTF-8, near \'{"text": "caf\ufffd"}\'; save the file as UTF-8'),
            Record("a.jsonl:2", {"text": "two"}),
        ]

    def test_utf16_is_recognised(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.jsonl", '{"text": "one"}\n'.encode("utf-16")) == [
            Problem("a.jsonl", "the file is UTF-16; save it as UTF-8", ends_reading=True)
        ]

    def test_deep_nesting_and_very_long_numbers_are_problems(self, tmp_path: Path) -> None:
        deep, number = read(tmp_path, "a.jsonl", '{"a":' * 200_000 + "\n" + "9" * 5000)
        assert deep == Problem("a.jsonl:1", "the record is nested too deeply")
        assert isinstance(number, Problem) and number.place == "a.jsonl:2"

    def test_an_array_in_a_jsonl_file_is_read_as_an_array(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.jsonl", '[\n{"text": "one"},\n{"text": "two"}\n]') == [
            Record("a.jsonl:2", {"text": "one"}),
            Record("a.jsonl:3", {"text": "two"}),
        ]

    def test_a_gzip_file_is_decompressed(self, tmp_path: Path) -> None:
        packed = gzip.compress(b'{"text": "one"}\n')
        assert read(tmp_path, "a.jsonl.gz", packed) == [Record("a.jsonl.gz:1", {"text": "one"})]

    def test_a_truncated_gzip_file_is_a_problem(self, tmp_path: Path) -> None:
        [*_, problem] = read(tmp_path, "a.jsonl.gz", gzip.compress(b'{"text": "one"}\n' * 9)[:-9])
        assert isinstance(problem, Problem)
        assert problem.what.startswith("the compressed file is damaged (")


class TestJson:
    def test_a_record_in_an_array_has_the_line_on_which_it_begins(self, tmp_path: Path) -> None:
        content = json.dumps([{"text": "one"}, {"text": "two", "n": [1, 2]}, {"text": "three"}], indent=2)
        assert [record.place for record in read(tmp_path, "a.json", content)] == ["a.json:2", "a.json:5", "a.json:12"]

    def test_records_that_share_a_line_have_their_number(self, tmp_path: Path) -> None:
        places = [record.place for record in read(tmp_path, "a.json", '[{"a": 1}, {"a": 2}]\n')]
        assert places == ["a.json, row 1", "a.json, row 2"]
        places = [record.place for record in read(tmp_path, "a.json", '[\n{"a": 1},\n{"a": 2}, {"a": 3}\n]')]
        assert places == ["a.json:2", "a.json:3", "a.json:3, row 3"]

    def test_lines_of_a_pretty_printed_object_are_one_problem_of_the_file(self, tmp_path: Path) -> None:
        objects = "".join(json.dumps({"text": text}, indent=2) + "\n" for text in ("one", "two"))
        [problem] = read(tmp_path, "a.jsonl", objects)
        assert problem == Problem(
            "a.jsonl",
            "the file is not one object per line: the first object spans lines 1 to 3; "
            "write each on one line: jq -c . a.jsonl",
            ends_reading=True,
        )

    def test_the_only_list_of_an_object_has_the_records(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.json", '{"version": 1, "data": [{"text": "one"}, 2]}') == [
            Record("a.json, row 1", {"text": "one"}),
            Problem("a.json, row 2", 'the record is the number 2; expected an object, {"name": value, …}'),
        ]

    def test_two_lists_are_ambiguous(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.json", '{"train": [{}], "test": []}') == [
            Problem(
                "a.json",
                'the object has several lists ("train", "test"); expected one list of records',
                ends_reading=True,
            )
        ]

    def test_a_single_conversation_is_one_record_although_it_has_a_list(self, tmp_path: Path) -> None:
        row = {"messages": [{"role": "user", "content": "Hi"}]}
        assert read(tmp_path, "a.json", json.dumps(row, indent=1)) == [Record("a.json:1", row)]

    def test_an_object_with_a_list_of_words_is_a_record_itself(self, tmp_path: Path) -> None:
        row = {"prompt": "Why?", "completion": "So.", "tags": ["short", "vague"]}
        assert read(tmp_path, "a.json", json.dumps(row)) == [Record("a.json:1", row)]

    def test_a_value_that_is_neither_an_array_nor_an_object_is_a_problem(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.json", "\n0") == [
            Problem("a.json:2", 'the record is the number 0; expected an object, {"name": value, …}')
        ]

    def test_lines_in_a_json_file_are_read_as_lines(self, tmp_path: Path) -> None:
        content = '{"text": "one"}\n{"text": two}\n{"text": "three"}\n'
        places = [(type(found), found.place) for found in read(tmp_path, "a.json", content)]
        assert places == [(Record, "a.json:1"), (Problem, "a.json:2"), (Record, "a.json:3")]

    def test_a_mistake_ends_an_array_and_the_problem_says_so(self, tmp_path: Path) -> None:
        content = '[\n {"text": "one"},\n {"text": \'two\'},\n {"text": "three"}\n]'
        assert read(tmp_path, "a.json", content) == [
            Record("a.json:2", {"text": "one"}),
            Problem(
                "a.json:3",
                "column 11: Expecting value, near " + repr(" {\"text\": 'two'},") + "; what follows is not read",
                ends_reading=True,
            ),
        ]

    @pytest.mark.parametrize(
        ("content", "place", "what"),
        [
            ('[{"text": "one"}', "a.json, row 1", "column 17: Expecting ',' or ']' after a record"),
            ('[{"text": "one"}, {"text": two}]', "a.json, row 2", "column 28: Expecting value"),
            ('[{"text": "one"},\n]', "a.json:2", "column 1: Expecting value"),
            ('[{"text": "one"}]\n[]', "a.json:2", "column 1: Extra data after the array"),
        ],
    )
    def test_an_array_with_a_wrong_end_is_a_problem(self, tmp_path: Path, content: str, place: str, what: str) -> None:
        record, problem = read(tmp_path, "a.json", content)
        assert isinstance(record, Record) and isinstance(problem, Problem)
        assert (problem.place, problem.what.split(", near")[0]) == (place, what)

    def test_an_empty_file_has_no_records(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.json", "\n") == read(tmp_path, "b.json", "[ ]") == read(tmp_path, "c.jsonl", "") == []


class TestTables:
    def test_a_row_has_the_line_on_which_it_begins(self, tmp_path: Path) -> None:
        content = 'prompt,completion\r\nWhy?,"So\nand, ""so""."\r\n\r\nHow?,Thus.\r\n'
        assert read(tmp_path, "a.csv", content) == [
            Record("a.csv:2", {"prompt": "Why?", "completion": 'So\nand, "so".'}),
            Record("a.csv:5", {"prompt": "How?", "completion": "Thus."}),
        ]

    def test_a_ragged_row_is_a_problem(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.csv", "prompt,completion\nWhy?\nHow?,Thus,so\nWho?,Me.\n") == [
            Problem("a.csv:2", "1 cells; expected 2, as in the header (prompt, completion)"),
            Problem("a.csv:3", "3 cells; expected 2, as in the header (prompt, completion)"),
            Record("a.csv:4", {"prompt": "Who?", "completion": "Me."}),
        ]

    def test_tabs_and_semicolons_are_delimiters_too(self, tmp_path: Path) -> None:
        row = {"prompt": "Why, oh why?", "completion": "So."}
        assert read(tmp_path, "a.tsv", "prompt\tcompletion\nWhy, oh why?\tSo.\n") == [Record("a.tsv:2", row)]
        assert read(tmp_path, "a.csv", "prompt;completion\nWhy, oh why?;So.\n") == [Record("a.csv:2", row)]

    def test_an_unclosed_quote_is_reported_where_it_opens(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.csv", 'text\none\n"two\nthree\n') == [
            Record("a.csv:2", {"text": "one"}),
            Problem("a.csv:3", "a quote in this row is never closed", ends_reading=True),
        ]

    def test_a_row_with_bytes_that_are_not_utf8_is_skipped(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.csv", b'text,n\n"one\ncaf\xe9\n",1\ntwo,2\n') == [
            Problem("a.csv:3", "byte 0xe9 is not UTF-8, near 'caf\ufffd'; save the file as UTF-8"),
            Record("a.csv:5", {"text": "two", "n": "2"}),
        ]

    def test_nothing_is_read_after_a_header_that_is_not_utf8(self, tmp_path: Path) -> None:
        [problem] = read(tmp_path, "a.csv", b"t\xe9xt\none\n")
        assert problem.place == "a.csv:1"

    def test_a_header_that_names_a_column_twice_is_a_problem(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.csv", "text,text\na,b\n") == [
            Problem("a.csv:1", "the header names 'text' more than once", ends_reading=True)
        ]

    def test_a_long_cell_is_read(self, tmp_path: Path) -> None:
        [record] = read(tmp_path, "a.csv", "text\n" + "a" * 200_000)
        assert record == Record("a.csv:2", {"text": "a" * 200_000})


class TestParquet:
    def test_rows_are_numbered_from_one(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        rows = [{"messages": [{"role": "user", "content": "Hi"}]}, {"messages": None}]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
        assert list(read_records(tmp_path / "a.parquet")) == [
            Record("a.parquet, row 1", rows[0]),
            Record("a.parquet, row 2", {"messages": None}),
        ]

    def test_a_truncated_file_is_a_problem(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        [problem] = read(tmp_path, "a.parquet", b"PAR1 and then nothing")
        assert isinstance(problem, Problem)
        assert problem.what.startswith("the Parquet file is damaged (")

    def test_the_error_without_pyarrow_names_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(UserError) as caught:
            read(tmp_path, "a.parquet", b"")
        assert caught.value.fix == "pip install 'mlx-suite[parquet]'"


class TestOtherFiles:
    def test_a_text_file_is_one_record(self, tmp_path: Path) -> None:
        assert read(tmp_path, "a.txt", "one\r\n\ntwo\n") == [Record("a.txt", "one\r\n\ntwo\n")]
        assert read(tmp_path, "b.txt", " \n") == []

    def test_each_line_of_text_that_is_not_utf8_is_a_problem(self, tmp_path: Path) -> None:
        places = [found.place for found in read(tmp_path, "a.txt", b"caf\xe9\none\n\xff\n")]
        assert places == ["a.txt:1", "a.txt:3"]

    def test_the_error_for_an_unknown_suffix_lists_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            read(tmp_path, "a.xlsx", b"")
        assert caught.value.what == "the file has the unknown suffix .xlsx"
        assert caught.value.fix == "use one of .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .txt"

    def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="the file cannot be read: No such file or directory"):
            list(read_records(tmp_path / "a.jsonl"))

    def test_a_suffix_is_recognised_regardless_of_case_and_compression(self) -> None:
        assert data_suffix("A.JSONL.gz") == ".jsonl"
        assert data_suffix("a.parquet.gz") == data_suffix("a.gz") == data_suffix("a") == ""
