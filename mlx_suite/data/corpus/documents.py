"""The texts of a corpus, streamed: of a file, a folder or a hub dataset, of any size.

A .txt or .md file is one document, or several with a separator between them; other files hold one document per record,
in the field `text`. A long document of a text file arrives in pieces, so that no file has to fit into memory.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_suite.data.read.hub import is_hub_name
from mlx_suite.data.read.records import UTF16, Problem, Record, described, not_utf8, open_data, utf16
from mlx_suite.data.read.sources import (
    PART_WORDS,
    TEST,
    TRAIN,
    VALID,
    DataFile,
    data_names,
    find_files,
    guarded,
    nothing_to_read,
    part_of,
    read_records,
)

FIELD = "text"
"""Default name of the field that holds a document."""
BLANK_LINE = "\n\n"
"""Separator of documents with blank lines between them: any number, with or without spaces in them."""
SYNTHESIZED_FILE, SYNTHESIZED_LOG = "corpus.jsonl", "texts.jsonl"
"""Files written by `mlx-suite synthesize run`: its documents, and what each was made from. Only the first is read."""
PLAIN = (".txt", ".md")
"""Suffixes of plain text."""
PIECE = 1 << 20
"""Bytes after which a document of a text file is cut, at the next whitespace before."""
BLOCK = 1 << 20
"""Bytes read at a time."""

_BLANK_LINES = re.compile(rb"\r?\n(?:[ \t]*\r?\n)+")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class CorpusText:
    """A document, or a piece of a long one."""

    text: str
    place: str
    """`file:line` or `file#row` of its record; the file name for a text file that is one document."""
    unfinished: bool = False
    """Whether the next text continues this document; a Problem in between ends it too."""


CorpusTexts = Iterator[CorpusText | Problem]


def read_corpus(source: str | Path, *, field: str = FIELD, separator: str | None = None) -> CorpusTexts:
    """Stream the texts of `source` in order, with a Problem instead of each that cannot be read.

    Args:
        source: A file, a folder, `owner/repo` of the hub, or a folder written by `mlx-suite synthesize run`.
        field: The field of a record that holds its text.
        separator: What stands between the documents of a text file, such as `<|endoftext|>` or BLANK_LINE; None if
            every file is one document.

    Texts may be blank. Raises UserError if there are no files, or one cannot be opened.
    """
    for file in corpus_files(source):
        yield from read_corpus_file(file, field=field, separator=separator)


def corpus_files(source: str | Path) -> tuple[DataFile, ...]:
    """The files of a corpus, sorted by name: of a folder all that hold data, but none named as held out.

    Held out are tables such as `valid.jsonl` and `data/test-00000.parquet`, and text files whose whole name says so:
    `test.txt`, but not `the-test.txt`, which may be a document. Raises UserError if nothing is left.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if (path / SYNTHESIZED_FILE).is_file() and (path / SYNTHESIZED_LOG).is_file():
            return (DataFile(path=path / SYNTHESIZED_FILE, name=SYNTHESIZED_FILE, part=TRAIN),)
        names = [name for name in data_names(path, path.rglob("*"), also=PLAIN) if _part(name) not in (VALID, TEST)]
        if not names:
            raise nothing_to_read(path, str(source))
        return tuple(DataFile(path=path / name, name=name, part=TRAIN) for name in names)
    files = find_files(source)
    return tuple(file for file in files if file.part == TRAIN) if is_hub_name(str(source)) else files


def read_corpus_file(file: DataFile, *, field: str = FIELD, separator: str | None = None) -> CorpusTexts:
    """Stream the texts of one file of a corpus."""
    if is_plain(file.path):
        yield from guarded(_read_text(file.path, file.name, separator), file.path, file.name)
        return
    for record in read_records(file.path, file.name):
        yield record if isinstance(record, Problem) else _field_text(record, field)


def is_plain(path: Path) -> bool:
    """Whether a file is plain text by its name, compressed or not."""
    return Path(path.name.lower().removesuffix(".gz")).suffix in PLAIN


def _part(name: str) -> str:
    path = Path(name.lower())
    if not is_plain(path):
        return part_of(name)
    return PART_WORDS.get(path.name.partition(".")[0], TRAIN)


def _field_text(record: Record, field: str) -> CorpusText | Problem:
    assert isinstance(record.value, dict)
    if field not in record.value:
        names = ", ".join(map(repr, record.value)) or "none"
        return Problem(record.place, f"there is no field {field!r}; its fields are {names}")
    value = record.value[field]
    if value is None:
        return CorpusText(text="", place=record.place)
    if not isinstance(value, str):
        return Problem(record.place, f"{field!r} is {described(value)}; expected text")
    return CorpusText(text=value, place=record.place)


def _read_text(path: Path, name: str, separator: str | None) -> CorpusTexts:
    """The documents of a text file; one with bytes that are not UTF-8 ends before the piece with the first of them."""
    starts, broken = True, False
    for line, raw, unfinished in _pieces(path, separator):
        if line == 1 and raw.startswith(UTF16):
            yield utf16(name)
            return
        place = name if separator is None else f"{name}:{line}"
        try:
            if not broken and (raw or not starts or separator is None):
                yield CorpusText(text=raw.decode(), place=place, unfinished=unfinished)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            yield not_utf8(f"{name}:{line}", error)
            broken = True
        starts = not unfinished
        broken = broken and unfinished


def _pieces(path: Path, separator: str | None) -> Iterator[tuple[int, bytes, bool]]:
    """Line, bytes, and whether the next piece continues the document. Pieces between separators are stripped."""
    mark = _mark(separator)
    reserve = len(separator.encode()) if separator else 0
    line, ended, starts = 1, False, True
    with open_data(path) as file:
        rest = file.read(BLOCK).removeprefix(_BOM)
        while not ended:
            block = file.read(BLOCK)
            ended = not block
            rest += block
            at = 0
            for found in mark.finditer(rest) if mark else ():
                if found.end() == len(rest) and not ended:
                    break  # More blank lines may follow.
                yield from _stripped(line, rest[at : found.start()], first=starts, last=True)
                line += rest.count(b"\n", at, found.end())
                at, starts = found.end(), True
            rest = rest[at:]
            while len(rest) > PIECE + reserve:
                cut = _cut(rest)
                if mark:
                    yield from _stripped(line, rest[:cut], first=starts, last=False)
                else:
                    yield line, rest[:cut], True
                line += rest.count(b"\n", 0, cut)
                rest, starts = rest[cut:], False
    if mark:
        yield from _stripped(line, rest, first=starts, last=True)
    else:
        yield line, rest, False


def _mark(separator: str | None) -> re.Pattern[bytes] | None:
    if not separator:
        return None
    return _BLANK_LINES if separator == BLANK_LINE else re.compile(re.escape(separator.encode()))


def _stripped(line: int, raw: bytes, *, first: bool, last: bool) -> Iterator[tuple[int, bytes, bool]]:
    """A piece without the whitespace around its document."""
    text = raw.lstrip() if first else raw
    line += raw.count(b"\n", 0, len(raw) - len(text))
    yield line, text.rstrip() if last else text, not last


def _cut(raw: bytes) -> int:
    """Where to cut `raw`, at most PIECE bytes in: before whitespace if there is any, else between two characters."""
    cut = max(raw.rfind(space, 0, PIECE) for space in (b" ", b"\n"))
    while cut > 0 and raw[cut - 1 : cut].isspace():
        cut -= 1
    if cut <= 0:
        cut = PIECE
        while cut > PIECE - 4 and raw[cut] & 0xC0 == 0x80:
            cut -= 1
    return cut
