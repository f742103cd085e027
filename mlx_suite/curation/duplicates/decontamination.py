"""Decontamination: whether a text contains an item of an evaluation.

The rule, over words without case, layout and punctuation (`words.py`):

* An item of 13 words or more is in a text that shares a run of 13 words with it (Brown et al. 2020, appendix C).
* An item of 8 to 12 words is in a text that shares a run of 8 words with it.
* An item of 4 to 7 words is in a text that contains all of it; here `3 + 4` and `3 * 4` differ.
* A shorter item must equal the text: many texts contain "Hello".

In scripts without spaces, where every character counts as a word, the lengths are 40, 24 and 8 characters. Runs whose
words mostly lack letters, such as 1 2 3 4 5 6 7 8, are ignored.

Items are the user turns and the context of a conversation, and responses of 8 words or more: many questions have the
answer "yes". In a row of an unknown format every text of 4 words or more is an item. In a plain text file every line is
an item, and runs of words continue across lines.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.duplicates.words import is_symbol, is_without_spaces, words
from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import Format, detect, read_example
from mlx_suite.data.read.records import Problem, Record, decoded_lines
from mlx_suite.data.read.sources import data_suffix, find_files, read_records
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.text.message import USER


@dataclass(frozen=True, kw_only=True)
class _Lengths:
    """Lengths of runs, in words."""

    long: int
    middle: int
    shortest: int
    """Shortest item that is searched for inside a text."""


_WORDS = _Lengths(long=13, middle=8, shortest=4)
_CHARACTERS = _Lengths(long=40, middle=24, shortest=8)

Run = tuple[str, ...]


class Contamination:
    """An index of the runs of words in evaluations, with their places. About 200 bytes per word."""

    def __init__(self) -> None:
        self._runs: dict[int, dict[int, str]] = {}
        """Places by run length and hash of the run."""
        self._exact: dict[Run, str] = {}
        """Places of items too short to be searched for inside a text."""
        self.items = 0
        """Number of items with words."""
        self.places: set[str] = set()
        """Their places; those of several items are rows with several texts."""

    @classmethod
    def from_files(cls, paths: Iterable[str | Path]) -> "Contamination":
        """Read files, folders and hub datasets in any format that `mlx_suite.data` reads; other files as plain text.

        Raises UserError that lists every file that cannot be read or is empty.
        """
        index = cls()
        problems: list[Problem] = []
        for source in paths:
            before, bad = index.items, len(problems)
            try:
                for file in find_files(source):
                    problems += index._read_file(file.path, file.name)
            except UserError as error:
                problems.append(Problem(error.where or str(source), f"{error.what}; {error.fix}"))
            if (index.items, len(problems)) == (before, bad):
                problems.append(Problem(str(source), "it contains no words"))
        if problems:
            raise UserError(
                "The evaluation data cannot be read completely",
                where="decontamination",
                fix="correct the files: items that were not read cannot be found in the rows",
                details=shortened(problems),
            )
        return index

    def add(self, text: str, place: str) -> None:
        """Add an item. If two places have the same words, the first is reported."""
        everything = _without_markup(words(text))
        plain = [word for word in everything if not is_symbol(word)]
        lengths = _lengths(plain)
        if everything:
            self.items += 1
            self.places.add(place)
        if len(plain) >= lengths.middle:
            self._add_runs(plain, [place] * len(plain), lengths)
        elif len(plain) >= lengths.shortest:
            self._runs.setdefault(len(everything), {}).setdefault(hash(tuple(everything)), place)
        elif everything:
            self._exact.setdefault(tuple(everything), place)

    def hit(self, text: str) -> str | None:
        """The place, `file:line`, of an item that the text contains, longest runs first; None if there is none."""
        return next(self._found(text), None)

    def hits(self, text: str) -> frozenset[str]:
        """The places of all items that the text contains."""
        return frozenset(self._found(text))

    def _found(self, text: str) -> Iterator[str]:
        """The places that `hit` and `hits` return, some of them repeatedly."""
        everything = words(text)
        plain = [word for word in everything if not is_symbol(word)]
        for length in sorted(self._runs, reverse=True):
            known = self._runs[length]
            for tokens in (everything, plain) if len(plain) < len(everything) else (everything,):
                for run in _runs(tokens, length):
                    place = known.get(hash(run))
                    if place is not None:
                        yield place
        exact = self._exact.get(tuple(_without_markup(everything)))
        if exact is not None:
            yield exact

    def _add_runs(self, plain: Sequence[str], places: Sequence[str], lengths: _Lengths) -> None:
        length = lengths.long if len(plain) >= lengths.long else lengths.middle
        known = self._runs.setdefault(length, {})
        for place, run in zip(places, _runs(plain, length), strict=False):
            if 2 * sum(any(map(str.isalpha, word)) for word in run) >= length:
                known.setdefault(hash(run), place)

    def _read_file(self, path: Path, name: str) -> list[Problem]:
        if data_suffix(path.name) in ("", ".txt"):
            return self._read_text(path, name)
        records = list(read_records(path, name))
        form = detect(records)
        problems = []
        for record in records:
            if isinstance(record, Problem):
                problems.append(record)
            else:
                for text in _items(record, form):
                    self.add(text, record.place)
        return problems

    def _read_text(self, path: Path, name: str) -> list[Problem]:
        problems: list[Problem] = []
        running: list[str] = []
        places: list[str] = []
        for number, line in decoded_lines(path, name):
            if isinstance(line, Problem):
                problems.append(line)
                continue
            place = f"{name}:{number}"
            self.add(line, place)
            plain = [word for word in words(line) if not is_symbol(word)]
            running += plain
            places += [place] * len(plain)
        lengths = _lengths(running)
        if len(running) >= lengths.long:
            self._add_runs(running, places, lengths)
        return problems


def _lengths(plain: Sequence[str]) -> _Lengths:
    """Lengths of runs for a text of these words."""
    return _CHARACTERS if 2 * sum(map(is_without_spaces, plain)) > len(plain) else _WORDS


def _without_markup(everything: Sequence[str]) -> Sequence[str]:
    """The words without symbols at either end: list bullets, # of a heading, ** of emphasis."""
    kept = [place for place, word in enumerate(everything) if not is_symbol(word)]
    return everything[kept[0] : kept[-1] + 1] if kept else everything


def _runs(tokens: Sequence[str], length: int) -> Iterator[Run]:
    return zip(*(tokens[begin:] for begin in range(length)), strict=False)


def _items(record: Record, form: Format | None) -> Iterator[str]:
    """The items of a row."""
    read = None if form is None else read_example(record, form)
    if not isinstance(read, Example):
        yield from (text for text in _texts(record.value) if _is_long(text, "shortest"))
        return
    if read.text is not None:
        yield read.text
    if read.context:
        yield read.context
    for message in read.messages:
        if message.role == USER or _is_long(message.content, "middle"):
            yield message.content


def _is_long(text: str, least: str) -> bool:
    plain = [word for word in words(text) if not is_symbol(word)]
    return len(plain) >= getattr(_lengths(plain), least)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
