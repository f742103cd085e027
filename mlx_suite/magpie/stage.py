"""Output folders of the stages in which a model generates texts: pairs and reflection.

`settings.json` holds everything the texts depend on; a folder is resumed only with the same. Generated texts are
appended to a journal at once, and all other files are written from it at the end, atomically. So another margin or
another limit of rows needs no new texts.
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
    """Lock the folder for this process, creating it if necessary.

    Args:
        kind: The stage, as stored in the settings: "mlx-suite magpie pairs".
        facts: Everything the texts depend on, as JSON values.

    Raises UserError for a folder that is not ours, was begun with other settings, or is in use.
    """
    path = folder / SETTINGS_FILE
    facts = json.loads(json.dumps(facts))  # as read back from the file
    with disk_errors(folder):
        if folder.is_dir() and not path.exists():
            _check_empty(folder)
        with folder_lock(folder):
            if path.exists():
                _check_facts(path, kind, facts)
            else:
                write_atomically(path, json.dumps({"kind": kind, **facts}, indent=2, ensure_ascii=False) + "\n")
            yield


def prompt_of(record: Record) -> tuple[Message, ...]:
    """The messages before the last response: a system text, earlier turns, the instruction."""
    turns = [Message(each["role"], each["content"]) for each in record["messages"]]
    while turns and turns[-1].role != USER:
        turns.pop()
    return tuple(turns)


def final_response(record: Record) -> str | None:
    """The response at the end; None if the row ends with an instruction."""
    last = record["messages"][-1]
    return str(last["content"]) if last["role"] == ASSISTANT else None


def id_of(record: Record, row: int) -> str:
    """The row's own id, or else its index."""
    return str(record.get("id", row))


def data_digest(rows: Sequence[Record]) -> str:
    """Hash of every row's messages, 12 hexadecimal digits, to detect changed data."""
    digest = hashlib.sha256()
    for row in rows:
        turns = [[each["role"], each["content"]] for each in row["messages"]]
        digest.update(json.dumps(turns).encode() + b"\n")
    return digest.hexdigest()[:12]


def _check_empty(folder: Path) -> None:
    # A kill while the settings are written leaves a partial file.
    ours = (LOCK_NAME, f".{SETTINGS_FILE}.partial")
    foreign = sorted(each.name for each in folder.iterdir() if not each.name.startswith(ours))
    if foreign:
        raise UserError(
            f"The folder holds {foreign[0]!r} and no {SETTINGS_FILE} that says how it was made",
            where=str(folder),
            fix="choose another folder with --out",
        )


def _check_facts(path: Path, kind: str, facts: Facts) -> None:
    changes = _changes(path, kind, facts)
    if changes:
        raise UserError(
            "The folder was begun with other settings",
            where=str(path.parent),
            fix="choose another folder with --out, or use the settings it was begun with",
            details=changes,
        )


def _changes(path: Path, kind: str, facts: Facts) -> list[str]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"{path.name} cannot be read: {error}"]
    if not isinstance(stored, dict) or stored.get("kind") != kind:
        return [f"{path.name} belongs to something else"]
    return list(_differences("", stored, facts))


def _differences(where: str, before: Mapping[str, Any], now: Facts) -> Iterator[str]:
    for name, value in now.items():
        was = before.get(name)
        if name == "model" or was == value:
            continue  # the name is for the record, the weights decide
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            yield from _differences(f"{where}{name} ", was, value)
        else:
            yield f"{where}{name}: {_short(was)} in the folder, {_short(value)} now"


def _short(value: object) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:60]} … {text[-30:]}"
