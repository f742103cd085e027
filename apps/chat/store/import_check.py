"""The check of an exported JSON document before anything of it is imported: every problem at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mlx_suite.data.read.records import described
from mlx_suite.runtime.errors import UserError, nearest_name, shortened

from .conversation import COMPLETE, ROLES, STOPPED, Conversation, StoredMessage, timestamp

FORMAT = "mlx-suite chat"
VERSION = 1

_CONVERSATION = ("title", "model", "system", "sampling", "created", "updated", "leaf", "messages")
_MESSAGE = ("id", "parent", "role", "content", "created", "state", "facts")

Trees = list[tuple[Conversation, tuple[StoredMessage, ...]]]


def read_trees(text: str | bytes, where: str = "") -> Trees:
    """The conversations of an exported document, with the ids that they have in it.

    Raises UserError that lists every problem.
    """
    problems: list[str] = []
    trees: Trees = []
    document = _parsed(text, problems)
    if not problems:
        _refuse_newer(document, where)
        trees = _trees(document, problems)
    if problems:
        count = len(problems)
        raise UserError(
            f"The file has {'a problem' if count == 1 else f'{count:,} problems'}; nothing was imported",
            where=where,
            fix="correct it, or export the conversations again",
            details=shortened(problems),
        )
    return trees


def _parsed(text: str | bytes, problems: list[str]) -> Any:
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        return json.loads(decoded, parse_constant=_refuse_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        problems.append(f"line {error.lineno}, column {error.colno}: {error.msg}; expected JSON")
    except UnicodeDecodeError as error:
        problems.append(f"byte 0x{error.object[error.start]:02x} at {error.start:,} is not UTF-8")
    except RecursionError:
        problems.append("the JSON is nested too deeply")
    except ValueError as error:
        problems.append(f"the JSON cannot be read: {error}")
    return None


def _refuse_newer(document: Any, where: str) -> None:
    version = document.get("version") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if type(version) is int and version > VERSION:
        raise UserError(
            f"The file was exported by a newer mlx-suite (version {version}; this one knows {VERSION})",
            where=where,
            fix="pip install --upgrade mlx-suite",
        )


def _refuse_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _trees(document: Any, problems: list[str]) -> Trees:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = f'"format" {_shown(document.get("format"))}' if isinstance(document, dict) else described(document)
        problems.append(f'expected an object with "format" {FORMAT!r}; found {found}')
        return []
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        problems.append(f'"version" is {_shown(version)}; expected {VERSION}')
        return []
    fields = _Fields(document, "the file", problems)
    fields.only(("format", "version", "conversations"))
    trees = []
    for number, value in enumerate(fields.list("conversations"), start=1):
        label = f"conversation {number}"
        if isinstance(value, dict):
            trees.append(_tree(_Fields(value, label, problems)))
        else:
            problems.append(f"{label} is {described(value)}; expected an object")
    return trees


class _Fields:
    """The values of an object; one that is missing or wrong is a problem, and replaced so that reading continues."""

    def __init__(self, value: Mapping[str, Any], label: str, problems: list[str]) -> None:
        self.value = value
        self.label = label
        self.problems = problems

    def wrong(self, name: str, expected: str) -> None:
        """Note that the value of a name is missing or is not what is expected."""
        found = "is missing" if name not in self.value else f"is {_shown(self.value[name])}"
        self.problems.append(f'{self.label}: "{name}" {found}; expected {expected}')

    def only(self, names: tuple[str, ...]) -> None:
        for name in self.value:
            if name not in names:
                self.problems.append(f"{self.label}: unknown key {_shown(name)}; {nearest_name(name, names)}")

    def text(self, name: str) -> str:
        value = self.value.get(name)
        if not isinstance(value, str):
            self.wrong(name, "text")
            return ""
        self._encodable(name, value)
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.value.get(name)
        if value not in choices:
            self.wrong(name, f"one of {', '.join(choices)}")
            return choices[0]
        return str(value)

    def object(self, name: str) -> dict[str, Any]:
        value = self.value.get(name)
        if not isinstance(value, dict):
            self.wrong(name, "an object")
            return {}
        self._encodable(name, json.dumps(value, ensure_ascii=False))
        return value

    def list(self, name: str) -> list[Any]:
        value = self.value.get(name)
        if not isinstance(value, list):
            self.wrong(name, "a list")
            return []
        return value

    def time(self, name: str) -> str:
        value = self.value.get(name)
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
            if moment is not None and moment.tzinfo is not None:
                return timestamp(moment)
        except (ValueError, OverflowError):
            pass
        self.wrong(name, "a time with its zone, such as 2026-01-31T12:00:00+00:00")
        return ""

    def _encodable(self, name: str, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = ascii(text[error.start])
            self.problems.append(f'{self.label}: "{name}" contains half of a surrogate pair, {half}')


def _tree(fields: _Fields) -> tuple[Conversation, tuple[StoredMessage, ...]]:
    fields.only(_CONVERSATION)
    messages: list[StoredMessage] = []
    known: set[int] = set()
    for number, value in enumerate(fields.list("messages"), start=1):
        label = f"{fields.label}, message {number}"
        if isinstance(value, dict):
            messages.append(_message(_Fields(value, label, fields.problems), known))
        else:
            fields.problems.append(f"{label} is {described(value)}; expected an object")
    leaf = fields.value.get("leaf")
    if known and (type(leaf) is not int or leaf not in known):
        fields.wrong("leaf", "the id of one of the messages")
    elif not known and not fields.value.get("messages") and (leaf is not None or "leaf" not in fields.value):
        fields.wrong("leaf", "null, since there are no messages")
    conversation = Conversation(
        id=0,
        title=fields.text("title"),
        model=fields.text("model"),
        system=fields.text("system"),
        sampling=fields.object("sampling"),
        created=fields.time("created"),
        updated=fields.time("updated"),
        leaf=leaf,
    )
    return conversation, tuple(messages)


def _message(fields: _Fields, known: set[int]) -> StoredMessage:
    fields.only(_MESSAGE)
    parent = fields.value.get("parent")
    if "parent" not in fields.value or (parent is not None and (type(parent) is not int or parent not in known)):
        fields.wrong("parent", "null, or the id of a message before this one")
    number = fields.value.get("id")
    if type(number) is not int or number in known:
        fields.wrong("id", "a whole number that no message before has")
        number = 0
    else:
        known.add(number)
    return StoredMessage(
        id=number,
        conversation=0,
        parent=parent,
        role=fields.choice("role", ROLES),
        content=fields.text("content"),
        created=fields.time("created"),
        state=fields.choice("state", (COMPLETE, STOPPED)),
        facts=fields.object("facts"),
    )


def _shown(value: Any) -> str:
    """A value for an error message: a short text as it is, with control characters escaped."""
    return repr(value[:40]) if isinstance(value, str) else described(value)
