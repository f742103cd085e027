"""JSON files that a user gives: read in one place, so that every wrong value is named with what it should be."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, shortened

LARGEST = 2**31 - 1
"""Largest whole number that sizes and token ids may have."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a value must be."""

    name: str
    """In words, after "not": `a whole number`."""
    holds: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_number(value: Any) -> bool:
    # JSON's whole numbers have any length; those beyond a float's range cannot be computed with.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _is_text(value: Any) -> bool:
    # JSON may spell half of a character, which no file and no tokenizer can hold.
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


TEXT = Kind(name="a text", holds=_is_text)
TEXTS = Kind(name="a list of texts", holds=_is_list_of(_is_text))
WHOLE = Kind(name="a whole number", holds=_is_whole)
POSITIVE = Kind(name="a positive whole number", holds=lambda value: _is_whole(value) and value > 0)
NUMBER = Kind(name="a number", holds=_is_number)
FLAG = Kind(name="true or false", holds=lambda value: isinstance(value, bool))
OBJECT = Kind(name="an object", holds=_is_object)
WHOLES = Kind(name="a list of whole numbers", holds=_is_list_of(_is_whole))
OBJECTS = Kind(name="a list of objects", holds=_is_list_of(_is_object))
TOKEN_IDS = Kind(
    name="a token id or a list of token ids",
    holds=lambda value: _is_whole(value) or (isinstance(value, list) and bool(value) and all(map(_is_whole, value))),
)
TOKEN = Kind(
    name="a token: a text, or an object with its content",
    holds=lambda value: _is_text(value) or (_is_object(value) and _is_text(value.get("content"))),
)


FROM_MODEL = "correct it, or take the file from the original model"


def read_object(path: Path, kinds: Mapping[str, Kind] | None = None, *, fix: str = FROM_MODEL) -> dict[str, Any]:
    """The JSON object in `path`; {} if there is no such file.

    Args:
        kinds: What the values of known keys must be; a key may be missing or null.
        fix: What to do about a file that is not a JSON object.

    Raises UserError if the file cannot be read, is not a JSON object, or lists every key with a wrong value.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path.name} cannot be read: {reason}", str(path), "check the file and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, f"is not UTF-8 text: {error.reason} at byte {error.start}", fix) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"is not JSON: {error}", fix) from error
    if not isinstance(value, dict):
        raise _damaged(path, f"contains {json_kind(value)}, not an object", fix)
    check_kinds(value, kinds or {}, path)
    return value


def check_kinds(values: Mapping[str, Any], kinds: Mapping[str, Kind], path: Path) -> None:
    """Raise UserError that names every key whose value is of another kind, and what it should be."""
    wrong = {key for key, kind in kinds.items() if values.get(key) is not None and not kind.holds(values[key])}
    problems = [f"{key} is {shown(values[key])}, not {kinds[key].name}" for key in kinds if key in wrong]
    if not problems:
        return
    several = len(problems) > 1
    raise UserError(
        f"{path.name} has {len(problems)} wrong values" if several else problems[0],
        str(path),
        "correct them" if several else f"correct it in {path.name}",
        details=shortened(problems) if several else (),
    )


def by_name(kind: Kind) -> Kind:
    """An object whose values are all of a kind."""
    return Kind(
        name=f"an object with {kind.name} for each name",
        holds=lambda value: _is_object(value) and all(map(kind.holds, value.values())),
    )


def either(one: Kind, other: Kind) -> Kind:
    """A value of one of two kinds."""
    return Kind(name=f"{one.name} or {other.name}", holds=lambda value: one.holds(value) or other.holds(value))


def json_kind(value: object) -> str:
    """What a value is, in JSON's words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: object, width: int = 60) -> str:
    """A value as in the file, shortened."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _damaged(path: Path, problem: str, fix: str) -> UserError:
    return UserError(f"{path.name} {problem}", str(path), fix)
