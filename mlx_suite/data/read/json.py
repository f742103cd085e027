"""JSON as records: one object a line, an array of objects, or an object around an array."""

import json
import re
from pathlib import Path
from typing import Any

from mlx_suite.data.read.lines import EXCERPT, UTF16, decoded_lines, not_utf8, open_data
from mlx_suite.data.read.problems import Problem
from mlx_suite.data.read.record import Found, Record, record_of

_SPACE = re.compile(r"[ \t\r\n]*")


def read_jsonl(path: Path, name: str) -> Found:
    """One object a line."""
    for number, line in decoded_lines(path, name):
        if isinstance(line, Problem):
            yield line
        elif number == 1 and line.startswith("[", _behind_space(line, 0)):
            # An array under the wrong name: each of its lines would be wrong for itself.
            yield from read_json(path, name)
            return
        elif line.strip():
            yield _parsed_line(line.strip("\r\n"), f"{name}:{number}")


def _parsed_line(line: str, place: str) -> Record | Problem:
    try:
        return record_of(json.loads(line), place)
    except json.JSONDecodeError as error:
        return Problem(place, f"column {error.colno}: {_mistake(error)}, near {_excerpt(line, error.pos)}")
    except (ValueError, RecursionError) as error:
        return Problem(place, _limit(error))


def read_json(path: Path, name: str) -> Found:
    """An array of objects; an object that holds one; one object; or, after all, one object a line."""
    with open_data(path) as file:
        raw = file.read()
    if raw.startswith(UTF16):
        yield Problem(name, "the file is UTF-16; save it as UTF-8")
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        yield not_utf8(f"{name}:{line}", error)
        return
    del raw
    start = _behind_space(text, 0)
    if text.startswith("[", start):
        yield from _array(text, start, name)
    elif _one_object_a_line(text, start):
        yield from read_jsonl(path, name)
    elif start < len(text):
        yield from _object(text, start, name)


def _one_object_a_line(text: str, start: int) -> bool:
    end = text.find("\n", start)
    return end > 0 and text[start:end].rstrip().endswith("}") and _behind_space(text, end) < len(text)


def _array(text: str, start: int, name: str) -> Found:
    """The elements of the array at `start`, each with the line on which it begins."""
    decode = json.JSONDecoder().raw_decode
    at = _behind_space(text, start + 1)
    line, counted = text.count("\n", 0, at) + 1, at
    more = not text.startswith("]", at)
    while more:
        line, counted = line + text.count("\n", counted, at), at
        place = f"{name}:{line}"
        try:
            value, end = decode(text, at)
            yield record_of(value, place)
            at = _behind_space(text, end)
            if text.startswith(",", at):
                at = _behind_space(text, at + 1)
            elif text.startswith("]", at):
                more = False
            else:
                raise json.JSONDecodeError("Expecting ',' or ']' behind a record", text, at)
        except (ValueError, RecursionError) as error:
            yield _end_of_reading(text, error, name, place)
            return
    behind = _behind_space(text, at + 1)
    if behind < len(text):
        yield _end_of_reading(text, json.JSONDecodeError("Extra data behind the array", text, behind), name, name)


def _object(text: str, start: int, name: str) -> Found:
    """The records in the only list of an object, or the object as a record."""
    place = f"{name}:{text.count(chr(10), 0, start) + 1}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield _end_of_reading(text, error, name, place)
        return
    lists = {key: held for key, held in value.items() if isinstance(held, list)} if isinstance(value, dict) else {}
    if not any(map(_are_records, lists.values())):
        yield record_of(value, place)
    elif len(lists) > 1:
        keys = ", ".join(f'"{key}"' for key in lists)
        yield Problem(name, f"the object holds several lists ({keys}); expected one list of records")
    else:
        for held in lists.values():
            for number, record in enumerate(held, start=1):
                yield record_of(record, f"{name}#{number}")


def _are_records(held: list[Any]) -> bool:
    """Whether a list holds objects, and not the turns of one conversation."""
    objects = [element for element in held if isinstance(element, dict)]
    return bool(objects) and not any("role" in element or "from" in element for element in objects)


def _behind_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _mistake(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at").removesuffix(" starting")


def _excerpt(text: str, at: int) -> str:
    """The line around a mistake, with control characters spelled out: it goes to a terminal."""
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    before, behind = max(begin, at - EXCERPT), min(end, at + EXCERPT)
    return ("…" if before > begin else "") + repr(text[before:behind]) + ("…" if behind < end else "")


def _limit(error: Exception) -> str:
    return "the record is nested too deeply" if isinstance(error, RecursionError) else f"it cannot be read: {error}"


def _end_of_reading(text: str, error: Exception, name: str, place: str) -> Problem:
    """One mistake in an array hides where the next element begins."""
    stop = "; what follows is not read"
    if not isinstance(error, json.JSONDecodeError):
        return Problem(place, _limit(error) + stop)
    where = f"column {error.colno}: {_mistake(error)}, near {_excerpt(text, error.pos)}"
    return Problem(f"{name}:{error.lineno}", where + stop)
