"""Output folders of the stages that generate texts: pairs and reflection.

`settings.json` holds everything the texts depend on; a folder is resumed only with the same settings. Each text is
appended to a journal immediately, and all other files are written from it at the end, atomically, so a new margin or
row limit needs no new texts.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlx_suite.curation.rows import Record
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.lock import LOCK_NAME, folder_lock
from mlx_suite.runtime.resume import Facts, differences, facts_text, refuse_other, stored_facts
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

SETTINGS_FILE = "settings.json"


@contextmanager
def open_stage(folder: Path, kind: str, facts: Facts) -> Iterator[None]:
    """Lock the folder for this process, creating it if necessary.

    Args:
        kind: The stage, as stored in the settings: "mlx-suite magpie pairs".
        facts: Everything the texts depend on, as JSON values.

    Raises UserError for a folder that is not ours, was started with other settings, or is in use.
    """
    path = folder / SETTINGS_FILE
    with disk_errors(folder):
        if folder.is_dir() and not path.exists():
            _check_empty(folder)
        with folder_lock(folder):
            if path.exists():
                # The model's name is for the record; its weights decide.
                refuse_other(differences(stored_facts(path, kind), facts, ignored=["model"]), folder)
            else:
                write_atomically(path, facts_text(kind, facts))
            yield


def prompt_of(record: Record) -> tuple[Message, ...]:
    """The messages before the last response: a system text, earlier turns, the instruction."""
    turns = [Message(each["role"], each["content"]) for each in record["messages"]]
    while turns and turns[-1].role != USER:
        turns.pop()
    return tuple(turns)


def final_response(record: Record) -> str | None:
    """The final response; None if the row ends with an instruction."""
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
            f"The folder holds {foreign[0]!r} but no {SETTINGS_FILE} that says how it was made",
            where=str(folder),
            fix="choose another folder with --out",
        )
