"""Following a journal that another process writes."""

from pathlib import Path

import pytest

from mlx_suite.magpie.shards import Board, read_board
from mlx_suite.magpie.tail import Tail
from mlx_suite.runtime.errors import UserError


def add(path: Path, text: str) -> None:
    with path.open("ab") as file:
        file.write(text.encode())


def test_each_line_is_read_once_and_a_torn_one_when_it_is_complete(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "rows.jsonl")
    assert list(tail.records()) == []
    add(tail.path, '{"a": 1}\n{"b"')
    assert list(tail.records()) == [(1, {"a": 1})]
    assert list(tail.records()) == []
    add(tail.path, ': "é"}\n{"c": 3}\n')
    assert list(tail.records()) == [(2, {"b": "é"}), (3, {"c": 3})]


def test_a_reader_that_stops_midway_continues_after_its_last_line(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "rows.jsonl")
    add(tail.path, '{"a": 1}\n{"b": 2}\n')
    assert next(tail.records()) == (1, {"a": 1})
    assert list(tail.records()) == [(2, {"b": 2})]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"index": 1, "sum": "00000000"}'])
def test_a_line_that_is_not_a_draft_is_reported(tmp_path: Path, line: str) -> None:
    tail = Tail(tmp_path / "drafts-1.jsonl")
    add(tail.path, f"{line}\n")
    with pytest.raises(UserError) as caught:
        list(tail.drafts())
    assert caught.value.where == f"{tail.path}:1"


def test_the_board_of_another_run_is_ignored(tmp_path: Path) -> None:
    assert read_board(tmp_path, 7) == Board(run=7)
    Board(run=6, ended="complete", again=(3, 1)).write(tmp_path)
    assert read_board(tmp_path, 7) == Board(run=7)
    assert read_board(tmp_path, 6) == Board(run=6, ended="complete", again=(3, 1))
