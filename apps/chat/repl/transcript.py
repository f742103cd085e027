"""Conversations in files: `{"messages": [{"role": …, "content": …}, …]}`, which `mlx-suite finetune` reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import FORMATS, fold_tools, read_example
from mlx_suite.data.read.json import read_json
from mlx_suite.data.read.records import Record
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Message

FORMAT = FORMATS["messages"]


def save_messages(path: Path, messages: Sequence[Message]) -> tuple[str, ...]:
    """Write a conversation atomically. Returns what keeps finetune from reading it; empty if nothing does.

    Responses that are not complete get `"weight": 0`, so that no model learns to stop there. Raises UserError if the
    file cannot be written.
    """
    row = {"messages": [_turn(message) for message in messages]}
    write_atomically(path, json.dumps(row, ensure_ascii=False, indent=1) + "\n")
    found = read_example(Record(path.name, row), FORMAT)
    return () if isinstance(found, Example) else tuple(problem.what for problem in found)


def load_messages(path: Path) -> tuple[Message, ...]:
    """Read the conversation of a file; tool results become user turns.

    Raises UserError for a file that cannot be read, and for one without a conversation or with several.
    """
    try:
        records = list(read_json(path, path.name))
    except OSError as error:
        raise UserError(
            f"The conversation cannot be read: {error.strerror}", where=str(path), fix="give a file written by /save"
        ) from error
    if len(records) != 1:
        raise UserError(
            f"The file has {len(records):,} conversations; expected one" if records else "The file is empty",
            where=str(path),
            fix="give a file written by /save",
        )
    [record] = records
    found = read_example(record, FORMAT) if isinstance(record, Record) else (record,)
    if not isinstance(found, Example):
        raise UserError(
            "The file is not a conversation",
            where=str(path),
            fix="give a file written by /save",
            details=shortened([problem.what for problem in found]),
        )
    return tuple(fold_tools(found.messages))


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    return turn if message.trained else {**turn, "weight": 0}
