"""Conversations written as files, and read back.

json        {"format": "mlx-suite chat", "version": 1, "conversations": [{…, "messages": [{…}, …]}, …]}
            whole trees; importing and exporting gives the same text
markdown    one path, for people
messages    {"messages": [{"role": …, "content": …}, …]}: one path a line, for `mlx-suite finetune`
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import FORMATS, read_example
from mlx_suite.data.read.records import Record
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

from .conversation import STOPPED, WRITING, Conversation, StoredMessage
from .import_check import FORMAT, VERSION, read_trees
from .store import Store

_HEADINGS = {USER: "User", ASSISTANT: "Assistant"}


def export_json(store: Store, conversations: Iterable[int]) -> str:
    """Conversations with all their branches. A message that is being written is exported as stopped, as far as it is.

    Raises NotFound.
    """
    trees = [_as_object(*store.tree(number)) for number in conversations]
    document = {"format": FORMAT, "version": VERSION, "conversations": trees}
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def import_json(store: Store, text: str | bytes, where: str = "") -> tuple[Conversation, ...]:
    """Add the conversations of an export; return them in its order.

    Args:
        where: Name of the file, for errors.

    Raises UserError that lists every problem; then nothing is imported.
    """
    return store.restore(read_trees(text, where))


def export_markdown(store: Store, conversation: int, leaf: int | None = None) -> str:
    """A path as Markdown, by default the one that is shown. Raises NotFound."""
    found = store.conversation(conversation)
    parts = [f"# {' '.join(found.title.split()) or 'Conversation'}"]
    if found.system:
        parts += ["## System", _closed(found.system)]
    for message in store.path(conversation, leaf):
        parts += [f"## {_HEADINGS[message.role]}", _closed(message.content)]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def export_messages(store: Store, conversations: Sequence[int]) -> str:
    """The shown path of each conversation as a line of JSON that `mlx-suite finetune` reads.

    Raises NotFound, and UserError that lists every problem of paths that cannot be trained on.
    """
    problems: list[object] = []
    lines = []
    for number in conversations:
        found = store.conversation(number)
        system = [{"role": SYSTEM, "content": found.system}] if found.system.strip() else []
        turns = [{"role": message.role, "content": message.content} for message in store.path(number)]
        row = {"messages": [*system, *turns]}
        name = f"{found.title!r}" if found.title else f"conversation {number}"
        example = read_example(Record(name, row), FORMATS["messages"])
        if not isinstance(example, Example):
            problems += example
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    if problems:
        raise UserError(
            "A model cannot be trained on every one of these conversations",
            fix="leave them out, or choose a branch that ends with a response",
            details=shortened(problems),
        )
    return "".join(lines)


def _as_object(conversation: Conversation, messages: Sequence[StoredMessage]) -> dict[str, Any]:
    numbers: dict[int | None, int | None] = {None: None}
    numbers.update({message.id: number for number, message in enumerate(messages, start=1)})
    return {
        "title": conversation.title,
        "model": conversation.model,
        "system": conversation.system,
        "sampling": conversation.sampling,
        "created": conversation.created,
        "updated": conversation.updated,
        "leaf": numbers[conversation.leaf],
        "messages": [
            {
                "id": numbers[message.id],
                "parent": numbers[message.parent],
                "role": message.role,
                "content": message.content,
                "created": message.created,
                "state": STOPPED if message.state == WRITING else message.state,
                "facts": message.facts,
            }
            for message in messages
        ],
    }


def _closed(text: str) -> str:
    """Markdown in which a code block that is left open, as in a stopped response, ends with the text."""
    fence = ""
    for line in text.split("\n"):
        inner = line.strip()
        if len(line) - len(line.lstrip(" ")) > 3:
            continue
        if not fence:
            mark = inner[:1]
            length = len(inner) - len(inner.lstrip(mark)) if mark in ("`", "~") else 0
            if length >= 3 and not (mark == "`" and "`" in inner[length:]):
                fence = mark * length
        elif inner.startswith(fence) and not inner.strip(fence[0]):
            fence = ""
    return f"{text.rstrip()}\n{fence}" if fence else text
