"""Held-out items in a corpus: found in every part, counted, and reported with their places."""

import json
from pathlib import Path

import pytest

from mlx_suite.curation.duplicates.decontamination import Contamination
from mlx_suite.data.corpus import documents
from mlx_suite.pretrain.leaks import Leak, find_leaks
from mlx_suite.pretrain.settings import CorpusPart
from mlx_suite.runtime.errors import UserError

LONG = "A farmer keeps hens and cows, which together have seventy heads and two hundred legs. How many hens are there?"
SHORT = "What is the capital of Wales?"


def write(path: Path, *texts: str) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def part(name: str, path: Path) -> CorpusPart:
    return CorpusPart(path=str(path), name=name)


@pytest.fixture
def held_out(tmp_path: Path) -> Contamination:
    return Contamination.from_files([write(tmp_path / "held.jsonl", LONG, SHORT, "Nobody has ever written this down.")])


def test_items_are_counted_by_part_with_the_first_place(tmp_path: Path, held_out: Contamination) -> None:
    web = write(tmp_path / "web.jsonl", "Clean.", f"Homework: {SHORT.upper()}", f"{SHORT} {LONG}")
    books = write(tmp_path / "books.jsonl", "Clean.", f"Once upon a time … {LONG}")

    report = find_leaks([part("web", web), part("books", books)], held_out)

    assert report.leaks == (
        Leak(item="held.jsonl:2", part="web", texts=2, first="web.jsonl:2"),
        Leak(item="held.jsonl:1", part="books", texts=1, first="books.jsonl:2"),
        Leak(item="held.jsonl:1", part="web", texts=1, first="web.jsonl:3"),
    )
    assert (report.leaked, report.held_out) == (2, 3)
    assert report.lines == [
        "2 of 3 held-out items occur in the corpus (66.67%)",
        "web: 2 in 3 texts",
        "books: 1 in 2 texts",
        "held.jsonl:2: in 2 texts of web, first web.jsonl:2",
        "held.jsonl:1: in 1 text of books, first books.jsonl:2",
        "held.jsonl:1: in 1 text of web, first web.jsonl:3",
    ]


def test_a_clean_corpus_has_a_report_without_leaks(tmp_path: Path, held_out: Contamination) -> None:
    report = find_leaks([part("web", write(tmp_path / "web.jsonl", "Hens lay eggs."))], held_out)
    assert report.lines == ["0 of 3 held-out items occur in the corpus (0.00%)", "web: 0 in 1 text"]


def test_texts_that_cannot_be_read_are_counted(tmp_path: Path, held_out: Contamination) -> None:
    web = write(tmp_path / "web.jsonl", SHORT)
    web.write_text('{"story": "?"}\n' + web.read_text())
    assert find_leaks([part("web", web)], held_out).lines[1] == "web: 1 in 1 text; 1 could not be read"


def test_an_item_across_two_pieces_of_a_long_document_is_found(
    tmp_path: Path, held_out: Contamination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PIECE", 70)
    monkeypatch.setattr(documents, "BLOCK", 10)
    book = tmp_path / "book.txt"
    book.write_text(f"It was a dark night. {LONG} Nobody knew, and {LONG}")
    assert [str(leak) for leak in find_leaks([part("book", book)], held_out).leaks] == [
        "held.jsonl:1: in 1 text of book, first book.txt"
    ]


def test_a_document_that_breaks_off_is_searched_up_to_there(
    tmp_path: Path, held_out: Contamination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PIECE", 50)
    monkeypatch.setattr(documents, "BLOCK", 10)
    book = tmp_path / "book.txt"
    book.write_bytes(f"{SHORT} Nobody knew, so they went on to the next town and ".encode() + b"\xff.")
    assert find_leaks([part("book", book)], held_out).lines == [
        "1 of 3 held-out items occur in the corpus (33.33%)",
        "book: 1 in 1 text; 1 could not be read",
        "held.jsonl:2: in 1 text of book, first book.txt",
    ]


def test_a_missing_corpus_is_refused(tmp_path: Path, held_out: Contamination) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        find_leaks([part("web", tmp_path / "missing")], held_out)
