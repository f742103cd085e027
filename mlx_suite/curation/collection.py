"""Rows to tag, filter, report on and export: the folder of a run, or any dataset that can be trained on.

However a row was written (OpenAI messages, ShareGPT, Alpaca, prompt and completion, preference pairs), it comes out as
an object with `messages`; what else it had stays beside them. The flat fields of the Magpie sets on the hub become
`tags` and `scores` (`released.py`), so that theirs and ours are filtered by the same names.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.pair_format import PAIRS, sides_of
from mlx_suite.curation.released import with_tags_and_scores
from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import (
    ANSWERS,
    CONTEXTS,
    CONVERSATIONS,
    OUTPUTS,
    QUESTIONS,
    SYSTEMS,
    Format,
    detect,
    read_example,
    unknown_format,
)
from mlx_suite.data.read.problems import Problem
from mlx_suite.data.read.record import Record as FileRecord
from mlx_suite.data.read.records import read_records
from mlx_suite.data.read.sources import ACCEPTED, TRAIN, DataFile, find_files
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Message
from mlx_suite.text.message import USER

Record = dict[str, Any]

_SPOKEN: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "messages": (("messages",),),
    "sharegpt": (CONVERSATIONS,),
    "alpaca": (("instruction",), CONTEXTS, OUTPUTS),
    "completion": (QUESTIONS, ANSWERS, ("context",)),
    PAIRS.name: (("prompt",), ("messages",), ("chosen",), ("rejected",)),
}
"""By format, the keys whose texts become the messages: of each group, the first that a row has."""
_REPEATED = ("instruction", "response", "prompt", "output")
"""Keys beside a conversation that released sets keep its texts under a second time."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Rows of one place."""

    name: str
    """Of the folder, the file or the dataset of the hub."""
    rows: tuple[Record, ...]
    """Each with `messages`, a list of {"role", "content"}, and all other fields of the row."""
    folder: Path | None = None
    """Of a Magpie run, or of what `filter` made: it holds `accepted.jsonl`. None for other data."""


def read_collection(source: str | Path) -> Collection:
    """Read the folder of a run, a file, another folder, or a dataset of the hub, `owner/repo`.

    Of a folder with parts, the rows to train on are read: those to test on stay out of what is made of the others.
    Alpaca's input stands behind its instruction, after a blank line. A line that a run is just writing is left out.

    Raises UserError that lists every problem of every file by `file:line`.
    """
    rows: list[Record] = []
    problems: list[Problem] = []
    for file in find_files(source):
        if file.part == TRAIN:
            found, wrong = _read_file(file)
            rows += found
            problems += wrong
    if problems:
        count = len(problems)
        raise UserError(
            "There is a problem with the data" if count == 1 else f"There are {count:,} problems with the data",
            where=str(source),
            fix="mend it" if count == 1 else "mend them",
            details=shortened(problems),
        )
    path = Path(source).expanduser()
    return Collection(name=_name(path, str(source)), rows=tuple(rows), folder=_run_folder(path))


def write_rows(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, whole or not at all. Raises UserError where the disk takes no more."""
    write_atomically(path, b"".join(map(json_line, rows)))


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of JSON. What JSON does not have, NaN and infinity, becomes null; a date becomes text."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return json_line(_finite(row))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a character, which only an escape can write
        return json.dumps(row, default=str).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_file(file: DataFile) -> tuple[list[Record], list[Problem]]:
    records = deque(read_records(file.path, file.name))
    if records and isinstance(records[-1], Problem) and _is_torn(file.path):
        records.pop()
    form = _format_of(records)
    if not records:
        return [], [Problem(file.name, "the file holds no rows")]
    if form is None:
        unreadable = [record for record in records if isinstance(record, Problem)]
        return [], unreadable or [Problem(file.name, _unknown(records))]
    rows: list[Record] = []
    problems: list[Problem] = []
    while records:
        record = records.popleft()
        if isinstance(record, Problem):
            problems.append(record)
            continue
        row = _row(record, form, problems.append)
        if row is not None:
            rows.append(row)
    return rows, problems


def _format_of(records: Iterable[FileRecord | Problem]) -> Format | None:
    """The format of a file's conversations; None if it holds none."""
    values = [record.value for record in records if isinstance(record, FileRecord)]
    if values and all(isinstance(value, dict) and PAIRS.fits(value) for value in values):
        return PAIRS
    form = detect(records)
    return None if form is None or form.name == "text" else form


def _unknown(records: Iterable[FileRecord | Problem]) -> str:
    form = detect(records)
    if form is None:
        return unknown_format(records)
    return "the rows are plain text; expected conversations"


def _row(record: FileRecord, form: Format, report: Callable[[Problem], None]) -> Record | None:
    """The row as it goes on; None where something is wrong with it."""
    found = read_example(record, form)
    if not isinstance(found, Example):
        for problem in found:
            report(problem)
        return None
    assert isinstance(record.value, dict)
    spoken = _spoken(record.value, form)
    rest = {key: value for key, value in record.value.items() if key not in spoken and value is not None}
    messages = _messages(found)
    said = {message["content"] for message in messages}
    for key in _REPEATED:
        if isinstance(rest.get(key), str) and rest[key] in said:
            del rest[key]
    sides = sides_of(record.value) if form is PAIRS else {}
    faults: list[str] = []
    row = with_tags_and_scores({**_head(rest), "messages": messages, **sides, **rest}, faults)
    for fault in faults:
        report(Problem(record.place, fault))
    return None if faults else row


def _spoken(fields: Mapping[str, Any], form: Format) -> set[str]:
    """The keys of a row whose texts are in its messages."""
    groups = (*_SPOKEN[form.name], SYSTEMS, ("tools",))
    return {key for names in groups for key in [next((n for n in names if fields.get(n) is not None), "")]}


def _head(rest: Mapping[str, Any]) -> Record:
    """What stands before the messages, as in the rows of a run."""
    return {key: rest[key] for key in ("id", "index", "seed") if key in rest}


def _messages(example: Example) -> list[dict[str, Any]]:
    messages = list(example.messages)
    first = next((place for place, message in enumerate(messages) if message.role == USER), None)
    if example.context and first is not None:
        turn = messages[first]
        messages[first] = Message(USER, f"{turn.content}\n\n{example.context}", turn.trained)
    return [
        {"role": message.role, "content": message.content, **({} if message.trained else {"train": False})}
        for message in messages
    ]


def _is_torn(path: Path) -> bool:
    """Whether the last line of a run's rows was not written to its end."""
    if path.name != ACCEPTED or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"


def _name(path: Path, source: str) -> str:
    if path.is_dir():
        return path.resolve().name
    return path.name if path.is_file() else source


def _run_folder(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    is_run = (folder / ACCEPTED).is_file() and (path.is_dir() or path.name == ACCEPTED)
    return folder if is_run else None
