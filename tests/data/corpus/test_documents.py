"""Texts of a corpus: of every kind of file, in pieces if they are long, with a place for every problem."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.corpus import documents
from mlx_suite.data.corpus.documents import BLANK_LINE, CorpusText, read_corpus
from mlx_suite.data.read.records import Problem
from mlx_suite.runtime.errors import UserError


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def shown(source: Path, *, field: str = "text", separator: str | None = None) -> list[str]:
    """Each text with its place, `a.txt: Hi`; `…` marks one that is unfinished, `!` a problem."""
    return [
        f"! {item}" if isinstance(item, Problem) else f"{item.place}: {item.text}{'…' if item.unfinished else ''}"
        for item in read_corpus(source, field=field, separator=separator)
    ]


# ---- text files


def test_a_text_file_is_one_document_with_all_its_whitespace(tmp_path: Path) -> None:
    assert shown(write(tmp_path / "a.txt", "One.\n\nTwo.\n")) == ["a.txt: One.\n\nTwo.\n"]


def test_a_separator_splits_a_text_file_into_documents_without_the_whitespace_around_them(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md", "\nOne.\nStill one.\n<|endoftext|>\nTwo.\n<|endoftext|>\n\n<|endoftext|>")
    assert shown(file, separator="<|endoftext|>") == ["a.md:2: One.\nStill one.", "a.md:5: Two."]


def test_blank_lines_separate_whatever_their_number_and_line_ends(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "One.\r\n\r\nTwo.\n  \n\t\n\nThree.\n")
    assert shown(file, separator=BLANK_LINE) == ["a.txt:1: One.", "a.txt:3: Two.", "a.txt:7: Three."]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    assert shown(write(tmp_path / "a.txt", b"\xef\xbb\xbfOne.")) == ["a.txt: One."]
    [problem] = shown(write(tmp_path / "b.txt", "One.".encode("utf-16")))
    assert problem == "! b.txt: the file is UTF-16; save it as UTF-8"


def test_a_document_with_other_bytes_than_utf8_is_a_problem_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"One.\n\nTwo,\ncaf\xe9.\n\nThree.")
    assert shown(file, separator=BLANK_LINE) == [
        "a.txt:1: One.",
        "! a.txt:4: byte 0xe9 is not UTF-8, near 'Two,\\ncaf\ufffd.'; save the file as UTF-8",
        "a.txt:6: Three.",
    ]


def test_an_empty_file_is_a_blank_text(tmp_path: Path) -> None:
    assert shown(write(tmp_path / "a.txt", "")) == ["a.txt: "]


# ---- pieces


def test_a_long_document_arrives_in_pieces_cut_before_whitespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PIECE", 10)
    monkeypatch.setattr(documents, "BLOCK", 4)
    file = write(tmp_path / "a.txt", "one two  three\nfour<end>five")
    assert shown(file, separator="<end>") == [
        "a.txt:1: one two…",
        "a.txt:1:   three…",
        "a.txt:1: \nfour",
        "a.txt:2: five",
    ]


def test_a_word_longer_than_a_piece_is_cut_between_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PIECE", 9)
    monkeypatch.setattr(documents, "BLOCK", 4)
    texts = [
        item.text for item in read_corpus(write(tmp_path / "a.txt", "日本語日本語")) if isinstance(item, CorpusText)
    ]
    assert texts == ["日本語", "日本語"]


def test_of_a_document_with_a_bad_byte_the_pieces_before_it_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PIECE", 8)
    monkeypatch.setattr(documents, "BLOCK", 4)
    file = write(tmp_path / "a.txt", b"one two\nthr\xffee\nfour five six\n\nseven")
    assert shown(file, separator=BLANK_LINE) == [
        "a.txt:1: one two…",
        "! a.txt:2: byte 0xff is not UTF-8, near 'thr\ufffdee'; save the file as UTF-8",
        "a.txt:5: seven",
    ]


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(st.text("ab é日\n ", max_size=30), max_size=6),
    separator=st.sampled_from([None, "<end>", BLANK_LINE]),
    piece=st.integers(5, 40),
    block=st.integers(1, 25),
)
def test_the_pieces_of_a_file_make_up_its_documents(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], separator: str | None, piece: int, block: int
) -> None:
    file = write(tmp_path_factory.mktemp("pieces") / "a.txt", (separator or "").join(texts))
    whole = [item.text for item in read_corpus(file, separator=separator) if isinstance(item, CorpusText)]
    joined = [""]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PIECE", piece)
        patch.setattr(documents, "BLOCK", block)
        for item in read_corpus(file, separator=separator):
            assert isinstance(item, CorpusText)
            joined[-1] += item.text
            joined += [""] * (not item.unfinished)
    assert joined == [*whole, ""]


# ---- records


def test_records_of_every_format_give_the_field_with_the_text(tmp_path: Path) -> None:
    rows = [{"story": "One.", "id": 1}, {"story": "Two.", "id": 2}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write(tmp_path / "a.jsonl", lines)
    write(tmp_path / "b.json", json.dumps(rows))
    write(tmp_path / "c.csv", "story,id\nOne.,1\nTwo.,2\n")
    write(tmp_path / "d.jsonl.gz", gzip.compress(lines.encode()))
    places = [
        "a.jsonl:1",
        "a.jsonl:2",
        "b.json, row 1",
        "b.json, row 2",
        "c.csv:2",
        "c.csv:3",
        "d.jsonl.gz:1",
        "d.jsonl.gz:2",
    ]
    assert shown(tmp_path, field="story") == [
        f"{place}: {text}" for place, text in zip(places, ["One.", "Two."] * 4, strict=True)
    ]


def test_parquet_gives_rows_by_number(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["One.", None]}), tmp_path / "a.parquet")
    assert shown(tmp_path / "a.parquet") == ["a.parquet, row 1: One.", "a.parquet, row 2: "]


def test_a_missing_field_names_the_fields_there_are(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"content": "One.", "id": 1}\n{"text": ["Two."]}\n')
    assert shown(file) == [
        "! a.jsonl:1: there is no field 'text'; its fields are 'content', 'id'",
        "! a.jsonl:2: 'text' is a list; expected text",
    ]


def test_damaged_gzip_is_a_problem_after_the_texts_before_it(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b'{"text": "%d"}\n' % number for number in range(9000)))
    write(tmp_path / "a.jsonl.gz", packed[: len(packed) // 2])
    *texts, problem = shown(tmp_path / "a.jsonl.gz")
    assert texts[0] == "a.jsonl.gz:1: 0"
    assert problem.startswith("! a.jsonl.gz: the compressed file is damaged (")
    write(tmp_path / "b.txt.gz", packed[: len(packed) // 2])
    assert shown(tmp_path / "b.txt.gz")[-1].startswith("! b.txt.gz: the compressed file is damaged (")


# ---- folders


def test_a_folder_is_read_with_its_subfolders_and_without_what_is_held_out(tmp_path: Path) -> None:
    for name in ("b/c.md", "a.txt", "the-test.txt", "test.txt", "dev.md", "README.md", ".hidden/d.txt", "b/notes.pdf"):
        write(tmp_path / name, "text")
    for name in ("e.jsonl", "valid.jsonl", "data/test-00000-of-00001.jsonl"):
        write(tmp_path / name, '{"text": "text"}\n')
    assert [line.partition(":")[0] for line in shown(tmp_path)] == ["a.txt", "b/c.md", "e.jsonl", "the-test.txt"]


def test_of_a_synthesized_folder_only_the_texts_are_read(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl", '{"text": "One."}\n')
    write(tmp_path / "texts.jsonl", '{"pairs": []}\n')
    write(tmp_path / "completions.jsonl", '{"tokens": 3}\n')
    assert shown(tmp_path) == ["corpus.jsonl:1: One."]


def test_a_source_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data that can be read"):
        shown(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        shown(tmp_path / "missing")
