"""Check that a run resumes only with the settings it was started with; differences are listed.

A folder or file stores, as JSON, everything its content depends on. Before it is resumed, the stored values are
compared with the current ones. For long values, only the part that differs is shown.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlx_suite.runtime.errors import UserError

Facts = Mapping[str, Any]
LONGEST = 100
"""Maximum length of values that are shown in full."""
CONTEXT = 20
"""Characters shown on either side of the first difference of longer values."""


def stored_facts(path: Path, kind: str) -> dict[str, Any]:
    """Read the JSON object that `facts_text` wrote.

    Args:
        kind: The file's `kind`, such as "mlx-suite magpie", which distinguishes our files from others of the same name.

    Raises UserError for a file that cannot be read or has another `kind`.
    """
    problem = "it was not written by this command"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored, problem = None, "it is missing"
    except (OSError, ValueError, RecursionError) as error:
        stored, problem = None, f"it cannot be read: {error}"
    if not isinstance(stored, dict) or stored.get("kind") != kind:
        raise UserError(
            f"{path.name} does not record the settings of this run: {problem}",
            where=str(path),
            fix="restore the file, or choose another folder with --out",
        )
    return stored


def facts_text(kind: str, facts: Facts) -> str:
    """The content of a file for `stored_facts`."""
    return json.dumps({"kind": kind, **facts}, indent=2, ensure_ascii=False) + "\n"


def differences(stored: Facts, facts: Facts, *, ignored: Collection[str] = ()) -> list[str]:
    """One line for each of `facts` that differs from the stored value, with dots between nested keys.

    Args:
        ignored: Keys that are not compared, at any depth.
    """
    return list(_lines("", stored, as_json(facts), frozenset(ignored)))


def refuse_other(changes: Collection[str], where: Path | str, *, what: str = "folder") -> None:
    """Raise UserError that lists `changes`, if there are any. `what` is "folder" or "file"."""
    if changes:
        raise UserError(
            f"The {what} was started with other settings",
            where=str(where),
            fix=f"choose another {what} with --out, or use the settings it was started with",
            details=list(changes),
        )


def change(name: str, before: object, now: object) -> str:
    """A line that shows two different values, cut to the part that differs if they are long."""
    was, will = _text(before), _text(now)
    if max(len(was), len(will)) > LONGEST:
        start = next((i for i, (a, b) in enumerate(zip(was, will, strict=False)) if a != b), min(len(was), len(will)))
        was, will = (_around(each, start) for each in (was, will))
    return f"{name}: was {was}, now {will}"


def as_json(value: Any) -> Any:
    """The value as JSON returns it: tuples become lists."""
    return json.loads(json.dumps(value))


def _lines(prefix: str, stored: Facts, facts: Facts, ignored: frozenset[str]) -> Iterator[str]:
    for name in dict.fromkeys((*facts, *(stored if prefix else ()))):
        before, now = stored.get(name), facts.get(name)
        if name in ignored or before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _lines(f"{prefix}{name}.", before, now, ignored)
        else:
            yield change(f"{prefix}{name}", before, now)


def _text(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _around(text: str, start: int) -> str:
    begin, end = max(0, start - CONTEXT), start + 2 * CONTEXT
    return f"{'… ' if begin else ''}{text[begin:end]}{' …' if end < len(text) else ''}"
