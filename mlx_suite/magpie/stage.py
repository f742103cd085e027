"""Rows in the stages that generate texts: pairs and reflection."""

import hashlib
import json
from collections.abc import Sequence

from mlx_suite.curation.rows import Record
from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER


def prompt_of(record: Record) -> tuple[Message, ...]:
    """The messages before the last response: a system text, earlier turns, the instruction."""
    turns = [Message(each["role"], spoken_text(each)) for each in record["messages"]]
    while turns and turns[-1].role != USER:
        turns.pop()
    return tuple(turns)


def final_response(record: Record) -> str | None:
    """The final response; None if the row ends with an instruction."""
    last = record["messages"][-1]
    return spoken_text(last) if last["role"] == ASSISTANT else None


def id_of(record: Record, row: int) -> str:
    """The row's own id, or else its index."""
    return str(record.get("id", row))


def data_digest(rows: Sequence[Record]) -> str:
    """Hash of every row's messages, 12 hexadecimal digits, to detect changed data."""
    digest = hashlib.sha256()
    for row in rows:
        turns = [[each["role"], spoken_text(each)] for each in row["messages"]]
        digest.update(json.dumps(turns).encode() + b"\n")
    return digest.hexdigest()[:12]
