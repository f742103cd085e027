"""The folder of a stage that lets a model write: guarded by what its texts depend on, and continued after a kill.

`settings.json` in it says what it was begun with. What a model has written goes to a journal at once; everything else
is made of it at the end, whole or not at all. So another margin or another limit of rows costs no new text.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_suite.curation.rows import Record
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.lock import LOCK_NAME, folder_lock
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

SETTINGS_FILE = "settings.json"
Facts = Mapping[str, Any]


@contextmanager
def open_stage(folder: Path, kind: str, facts: Facts) -> Iterator[None]:
    """Hold the folder for this process; it is made if it is not there.

    Args:
        kind: What fills it, as it stands in the settings: "mlx-suite magpie pairs".
        facts: All that the texts depend on; names and values of JSON.

    Raises UserError for a folder that something else has filled, that was begun with other settings, or that is in
    use.
    """
    path = folder / SETTINGS_FILE
    facts = json.loads(json.dumps(facts))  # as they are read back
    with disk_errors(folder):
        if folder.is_dir() and not path.exists():
            _check_empty(folder)
        with folder_lock(folder):
            if path.exists():
                _check_facts(path, kind, facts)
            else:
                write_atomically(path, json.dumps({"kind": kind, **facts}, indent=2, ensure_ascii=False) + "\n")
            yield


def question_of(record: Record) -> tuple[Message, ...]:
    """The turns before the last answer: a system text, earlier exchanges, the question."""
    turns = [Message(each["role"], each["content"]) for each in record["messages"]]
    while turns and turns[-1].role != USER:
        turns.pop()
    return tuple(turns)


def last_answer(record: Record) -> str | None:
    """The answer at the end; None where nothing stands behind the question."""
    last = record["messages"][-1]
    return str(last["content"]) if last["role"] == ASSISTANT else None


def id_of(record: Record, row: int) -> str:
    """The row's own id, or its number."""
    return str(record.get("id", row))


def data_digest(rows: Sequence[Record]) -> str:
    """12 hexadecimal digits from every row's turns, to notice data that have changed."""
    digest = hashlib.sha256()
    for row in rows:
        turns = [[each["role"], each["content"]] for each in row["messages"]]
        digest.update(json.dumps(turns).encode() + b"\n")
    return digest.hexdigest()[:12]


def _check_empty(folder: Path) -> None:
    # A kill while the settings are written leaves a part of them.
    ours = (LOCK_NAME, f".{SETTINGS_FILE}.partial")
    held = sorted(each.name for each in folder.iterdir() if not each.name.startswith(ours))
    if held:
        raise UserError(
            f"The folder holds {held[0]!r} and no {SETTINGS_FILE} that says how it was made",
            where=str(folder),
            fix="choose another folder with --out",
        )


def _check_facts(path: Path, kind: str, facts: Facts) -> None:
    changes = _changes(path, kind, facts)
    if changes:
        raise UserError(
            "The folder was begun with other settings",
            where=str(path.parent),
            fix="choose another folder with --out, or go on with what it was begun with",
            details=changes,
        )


def _changes(path: Path, kind: str, facts: Facts) -> list[str]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"what it was begun with cannot be read: {error}"]
    if not isinstance(stored, dict) or stored.get("kind") != kind:
        return [f"{path.name} is about something else"]
    return list(_differences("", stored, facts))


def _differences(where: str, before: Mapping[str, Any], now: Facts) -> Iterator[str]:
    for name, value in now.items():
        was = before.get(name)
        if name == "model" or was == value:
            continue  # a name is for the record, the weights are what counts
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            yield from _differences(f"{where}{name} ", was, value)
        else:
            yield f"{where}{name}: {_short(was)} in the folder, {_short(value)} now"


def _short(value: object) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:60]} … {text[-30:]}"
