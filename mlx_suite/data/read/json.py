"""Records of JSON files: one object per line, an array of objects, or an object with an array."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_suite.data.read.records import (
    EXCERPT,
    UTF16,
    Problem,
    Record,
    Records,
    decoded_lines,
    not_utf8,
    open_data,
    record_of,
    utf16,
)

_SPACE = re.compile(r"[ \t\r\n]*")


def read_jsonl(path: Path, name: str) -> Records:
    """Read one object per line."""
    first = True
    for number, line in decoded_lines(path, name):
        if isinstance(line, Problem):
            yield line
        elif number == 1 and line.startswith("[", _skip_space(line, 0)):
            # An array with the wrong suffix: every one of its lines would be a problem.
            yield from read_json(path, name)
            return
        elif line.strip():
            record = _parsed_line(line.strip("\r\n"), f"{name}:{number}")
            if isinstance(record, Problem) and first:
                end = _end_of_first_object(path)
                if end:
                    lines = f"the first object spans lines {number} to {number + end}"
                    fix = f"write each on one line: jq -c . {name}"
                    yield Problem(name, f"the file is not one object per line: {lines}; {fix}", ends_reading=True)
                    return
            yield record
            first = False


def _end_of_first_object(path: Path) -> int:
    """Number of line breaks in the object that a file begins with; 0 if it begins with none."""
    with open_data(path) as file:
        text = file.read().decode("utf-8-sig", "replace")
    start = _skip_space(text, 0)
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return 0
    return text.count("\n", start, end) if isinstance(value, dict) else 0


def _parsed_line(line: str, place: str) -> Record | Problem:
    try:
        return record_of(json.loads(line), place)
    except json.JSONDecodeError as error:
        return Problem(place, f"column {error.colno}: {_mistake(error)}, near {_excerpt(line, error.pos)}")
    except (ValueError, RecursionError) as error:
        return Problem(place, _limit(error))


def read_json(path: Path, name: str) -> Records:
    """Read an array of objects, an object with such an array, a single object, or one object per line."""
    with open_data(path) as file:
        raw = file.read()
    if raw.startswith(UTF16):
        yield utf16(name)
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        yield replace(not_utf8(f"{name}:{line}", error), ends_reading=True)
        return
    del raw
    start = _skip_space(text, 0)
    if text.startswith("[", start):
        yield from _array(text, start, name)
    elif _one_object_a_line(text, start):
        yield from read_jsonl(path, name)
    elif start < len(text):
        yield from _object(text, start, name)


def _one_object_a_line(text: str, start: int) -> bool:
    end = text.find("\n", start)
    return end > 0 and text[start:end].rstrip().endswith("}") and _skip_space(text, end) < len(text)


def _array(text: str, start: int, name: str) -> Records:
    """Read the elements of the array at `start`, each with the line on which it begins, or its number on the line."""
    decode = json.JSONDecoder().raw_decode
    at = _skip_space(text, start + 1)
    line, counted = text.count("\n", 0, at) + 1, at
    more = not text.startswith("]", at)
    on_one_line = _is_one_line(text)
    number = last_line = 0
    while more:
        line, counted = line + text.count("\n", counted, at), at
        number += 1
        shared = on_one_line or line == last_line
        place = (name if on_one_line else f"{name}:{line}") + (f", row {number}" if shared else "")
        last_line = line
        try:
            value, end = decode(text, at)
            yield record_of(value, place)
            at = _skip_space(text, end)
            if text.startswith(",", at):
                at = _skip_space(text, at + 1)
            elif text.startswith("]", at):
                more = False
            else:
                raise json.JSONDecodeError("Expecting ',' or ']' after a record", text, at)
        except (ValueError, RecursionError) as error:
            yield _end_of_reading(text, error, name, place)
            return
    after = _skip_space(text, at + 1)
    if after < len(text):
        yield _end_of_reading(text, json.JSONDecodeError("Extra data after the array", text, after), name, name)


def _object(text: str, start: int, name: str) -> Records:
    """Read the only list of records in an object; without one, the object itself as a record."""
    place = f"{name}:{text.count(chr(10), 0, start) + 1}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield _end_of_reading(text, error, name, place)
        return
    lists = {key: item for key, item in value.items() if isinstance(item, list)} if isinstance(value, dict) else {}
    if not any(map(_are_records, lists.values())):
        yield record_of(value, place)
    elif len(lists) > 1:
        keys = ", ".join(f'"{key}"' for key in lists)
        what = f"the object has several lists ({keys}); expected one list of records"
        yield Problem(name, what, ends_reading=True)
    else:
        for elements in lists.values():
            for number, record in enumerate(elements, start=1):
                yield record_of(record, f"{name}, row {number}")


def _are_records(elements: list[Any]) -> bool:
    """Whether a list has objects that are not the turns of one conversation."""
    objects = [element for element in elements if isinstance(element, dict)]
    return bool(objects) and not any("role" in element or "from" in element for element in objects)


def _is_one_line(text: str) -> bool:
    """Whether all rows are on one line, so that its number says nothing."""
    first = text.find("\n")
    return first < 0 or _skip_space(text, first) == len(text)


def _skip_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None
    return space.end()


def _mistake(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at").removesuffix(" starting")


def _excerpt(text: str, at: int) -> str:
    """The line around a mistake, with control characters escaped because it is shown in a terminal."""
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    first, last = max(begin, at - EXCERPT), min(end, at + EXCERPT)
    return ("…" if first > begin else "") + repr(text[first:last]) + ("…" if last < end else "")


def _limit(error: Exception) -> str:
    return "the record is nested too deeply" if isinstance(error, RecursionError) else f"cannot be read: {error}"


def _end_of_reading(text: str, error: Exception, name: str, place: str) -> Problem:
    """A Problem that ends reading: after a mistake in an array, the start of the next element is unknown."""
    stop = "; what follows is not read"
    if not isinstance(error, json.JSONDecodeError):
        return Problem(place, _limit(error) + stop, ends_reading=True)
    where = f"column {error.colno}: {_mistake(error)}, near {_excerpt(text, error.pos)}"
    return Problem(place if _is_one_line(text) else f"{name}:{error.lineno}", where + stop, ends_reading=True)
