"""Whether a text holds something of an evaluation: what a model was trained on measures nothing.

The rule, over words without case, layout and punctuation (`words.py`):

* An item of 13 words or more is in a text that shares a run of 13 words with it (Brown et al. 2020, appendix C).
* An item of 8 to 12 words is in a text that shares a run of 8 words with it.
* An item of 4 to 7 words is in a text that holds it whole; there `3 + 4` and `3 * 4` differ.
* A shorter one is only equal to a text: "Hello" stands in many.

In scripts without spaces, where every character counts as a word, these are 40, 24 and 8 characters. A run most of
whose words have no letter, such as 1 2 3 4 5 6 7 8, shows nothing.

Items are a conversation's user turns and context, and those of its answers that have 8 words or more: many questions
have the answer "yes". Of a row in no format of ours every text of 4 words or more is an item. A file of plain text is
one item a line, and runs of words go on over its lines.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.duplicates.words import is_symbol, is_without_spaces, words
from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import Format, detect, read_example
from mlx_suite.data.read.lines import decoded_lines
from mlx_suite.data.read.problems import Problem
from mlx_suite.data.read.records import Record, data_suffix, read_records
from mlx_suite.data.read.sources import find_files
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.text.message import USER


@dataclass(frozen=True, kw_only=True)
class _Lengths:
    """Words of a run."""

    long: int
    middle: int
    shortest: int
    """Of an item that is looked for inside a text."""


_WORDS = _Lengths(long=13, middle=8, shortest=4)
_CHARACTERS = _Lengths(long=40, middle=24, shortest=8)

Run = tuple[str, ...]


class Contamination:
    """The runs of words of evaluations, each with the place where it stands. Some 200 bytes for each word of theirs."""

    def __init__(self) -> None:
        self._runs: dict[int, dict[int, str]] = {}
        """By the words in a run, the hash of each run and its place."""
        self._whole: dict[Run, str] = {}
        """Items too short to be looked for inside a text."""
        self.items = 0
        """Texts taken in that have words."""

    @classmethod
    def from_files(cls, paths: Iterable[str | Path]) -> "Contamination":
        """Files, folders and datasets of the hub in any format that `mlx_suite.data` reads; other files as plain text.

        Raises UserError with every file that cannot be read or holds nothing.
        """
        found = cls()
        problems: list[Problem] = []
        for source in paths:
            before, bad = found.items, len(problems)
            try:
                for file in find_files(source):
                    problems += found._read_file(file.path, file.name)
            except UserError as error:
                problems.append(Problem(error.where or str(source), f"{error.what}; {error.fix}"))
            if (found.items, len(problems)) == (before, bad):
                problems.append(Problem(str(source), "there are no words in it"))
        if problems:
            raise UserError(
                "The evaluation files cannot be read whole",
                where="decontamination",
                fix="mend them; what is not read would not be found in the rows",
                details=shortened(problems),
            )
        return found

    def add(self, text: str, place: str) -> None:
        """Take an item in. Of two places with the same words the first is named."""
        everything = _without_marking(words(text))
        plain = [word for word in everything if not is_symbol(word)]
        lengths = _lengths(plain)
        self.items += bool(everything)
        if len(plain) >= lengths.middle:
            self._add_runs(plain, [place] * len(plain), lengths)
        elif len(plain) >= lengths.shortest:
            self._runs.setdefault(len(everything), {}).setdefault(hash(tuple(everything)), place)
        elif everything:
            self._whole.setdefault(tuple(everything), place)

    def hit(self, text: str) -> str | None:
        """The place, `file:line`, of an item that is in the text; None if none is. The longest run decides."""
        everything = words(text)
        plain = [word for word in everything if not is_symbol(word)]
        for length in sorted(self._runs, reverse=True):
            known = self._runs[length]
            for found in (everything, plain) if len(plain) < len(everything) else (everything,):
                for run in _runs(found, length):
                    place = known.get(hash(run))
                    if place is not None:
                        return place
        return self._whole.get(tuple(_without_marking(everything)))

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
    """Of runs in a text of these words."""
    return _CHARACTERS if 2 * sum(map(is_without_spaces, plain)) > len(plain) else _WORDS


def _without_marking(everything: Sequence[str]) -> Sequence[str]:
    """Without signs at either end: the bullet of a list, the # of a heading, the ** of emphasis."""
    kept = [place for place, word in enumerate(everything) if not is_symbol(word)]
    return everything[kept[0] : kept[-1] + 1] if kept else everything


def _runs(found: Sequence[str], length: int) -> Iterator[Run]:
    return zip(*(found[begin:] for begin in range(length)), strict=False)


def _items(record: Record, form: Format | None) -> Iterator[str]:
    """What of a row must not stand in the data."""
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
    """Every text in a record, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for held in value.values():
            yield from _texts(held)
    elif isinstance(value, list):
        for held in value:
            yield from _texts(held)
