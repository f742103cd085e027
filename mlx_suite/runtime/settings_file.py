"""Settings of a run as YAML: a frozen dataclass whose fields are the keys of the file.

A key may be a number, text, true or false, a list, or a mapping whose keys are the fields of another dataclass. Every
problem of a file is reported at once.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from mlx_suite.runtime.errors import UserError

_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d+")
NAME = "config.yaml"
"""File in a run folder with the settings of the run."""


class SettingsError(Exception):
    """Problems of a nested value, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.problems = tuple(problems)


def read_settings(path: Path | str, settings: type, example: str) -> dict[str, Any]:
    """Values of the fields of `settings` that a YAML file sets, with names and types checked.

    Args:
        example: A valid line, for the error about a file without settings.

    Raises UserError for a file that is missing, is not YAML, or has unknown settings.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("The configuration cannot be read", where=str(path), fix="check the path") from error
    except UnicodeDecodeError as error:
        raise UserError("The configuration is not UTF-8 text", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise UserError(
            f"The configuration is not YAML: {what}", where=f"{path}{line}", fix="correct this line"
        ) from error
    if not isinstance(values, dict):
        raise UserError(
            "The configuration is not a mapping of settings", where=str(path), fix=f"write lines like {example}"
        )
    return settings_from(values, str(path), settings)


def settings_from(values: Mapping[Any, Any], where: str, settings: type) -> dict[str, Any]:
    """Convert keys and values, as parsed by YAML, to fields of `settings`.

    Raises UserError listing every unknown key, with the closest known one, and every value of the wrong type.
    """
    converted, problems = _fields_from(values, settings)
    if problems:
        raise UserError("The configuration file is invalid", where=where, details=problems, fix="correct these lines")
    return converted


def settings_text(settings: Any, origin: Mapping[str, str], repeat: str) -> str:
    """All settings as YAML, each with its origin in a comment; `repeat` is the command that repeats the run."""
    lines = [f"# {repeat} repeats this run."]
    for name, value in asdict(settings).items():
        lines.append(f"{f'{name}: {_on_one_line(value)}':<40}  # {origin.get(name, 'default')}")
    return "\n".join(lines) + "\n"


def required(settings: type) -> tuple[str, ...]:
    """Names of the fields without a default."""
    return tuple(
        field.name for field in fields(settings) if field.default is MISSING and field.default_factory is MISSING
    )


def did_you_mean(value: object, allowed: Sequence[str]) -> str:
    """A hint for an invalid value: the closest allowed value, or all allowed values if they are few."""
    near = difflib.get_close_matches(str(value), allowed, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"one of {', '.join(allowed)}" if len(allowed) <= 8 else "there is no such setting"


def _fields_from(values: Mapping[Any, Any], settings: type) -> tuple[dict[str, Any], list[str]]:
    """Converted values by field, and a line for each problem."""
    hints = get_type_hints(settings)
    known = {field.name: hints[field.name] for field in fields(settings)}
    problems: list[str] = []
    converted: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            problems.append(f"{key}: {did_you_mean(name, tuple(known))}")
            continue
        try:
            converted[name] = _converted(value, known[name])
        except SettingsError as error:
            problems.extend(f"{key}: {problem}" for problem in error.problems)
        except (TypeError, ValueError, OverflowError):
            problems.append(f"{key} is {value!r}: expected {_expected(known[name])}")
    return converted, problems


def _converted(value: Any, hint: Any) -> Any:
    """`value`, as parsed by YAML, converted to the type `hint`. Raises TypeError, ValueError or SettingsError."""
    kinds = _kinds(hint)
    if value is None:
        if type(None) not in kinds:
            raise TypeError
        return None
    nested = next((kind for kind in kinds if is_dataclass(kind)), None)
    if nested is not None:
        return _nested(value, nested)
    items = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple), None)
    if items is not None:
        return tuple(_items(value, items))
    if isinstance(value, dict) and any(get_origin(kind) is Mapping for kind in kinds):
        return {key: _number_or(each) for key, each in value.items()}
    if bool in kinds:
        if not isinstance(value, bool):
            raise TypeError
        return value
    if isinstance(value, bool | list | dict):
        raise TypeError
    if int in kinds:
        if float(value) != int(float(value)):
            raise ValueError
        return int(float(value))
    if float in kinds:
        return float(value)  # YAML parses 2e-4 as a string
    return str(value)


def _number_or(value: Any) -> Any:
    """A number that YAML parses as text, such as 1e-5; any other value unchanged."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _items(value: Any, hint: Any) -> Iterator[Any]:
    """The elements of a list, or of text with commas; one mapping is a list of one."""
    if is_dataclass(hint):
        problems: list[str] = []
        for item in value if isinstance(value, list) else [value]:
            try:
                yield _nested(item, hint)
            except SettingsError as error:
                problems += error.problems
        if problems:
            raise SettingsError(problems)
        return
    items = value if isinstance(value, list) else [part.strip() for part in str(value).split(",") if part.strip()]
    yield from (str(item) if hint is str else hint(item) for item in items)


def _nested(value: Any, settings: Any) -> Any:
    """A dataclass from a mapping of its fields, or from a plain value for its first field."""
    first = fields(settings)[0].name
    given = value if isinstance(value, dict) else {first: value}
    converted, problems = _fields_from(given, settings)
    missing = [name for name in required(settings) if name not in given and not problems]
    problems += [f"{name} is missing" for name in missing]
    if problems:
        raise SettingsError(problems)
    return settings(**converted)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _expected(hint: Any) -> str:
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        tuple[str, ...]: "a list",
        tuple[int, ...]: "a list of whole numbers",
    }
    kinds = _kinds(hint)
    if any(get_origin(kind) is Mapping for kind in kinds):
        return "a mapping, or the path of a config.json"
    found = next((text for kind, text in names.items() if kind in kinds), None)
    return found or "a path, or a mapping of settings"


def _on_one_line(value: Any) -> str:
    """A value as YAML on one line, with newlines escaped."""
    plain = _plain(value)
    quoted = '"' if not all(text.isprintable() for text in _texts(plain)) else None
    # Inside a list, a value is written without the document end marker.
    inside = yaml.safe_dump(
        [plain], default_flow_style=True, default_style=quoted, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return str(inside).rstrip("\n")[1:-1]


def _plain(value: Any) -> Any:
    """Tuples as lists, and mappings without the keys that are None, at every depth."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
