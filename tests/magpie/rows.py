"""Small datasets in files, for tests of what happens to rows after a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def row(instruction: str, response: str = "Yes.", **fields: Any) -> Row:
    """One exchange, with further fields."""
    return {
        "messages": [{"role": "user", "content": instruction}, {"role": "assistant", "content": response}],
        **fields,
    }


def conversation(*turns: str, **fields: Any) -> Row:
    """A conversation: user and assistant alternate."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)], **fields}


def with_system(text: str, given: Row) -> Row:
    """The row with a system prompt before it."""
    return {**given, "messages": [{"role": "system", "content": text}, *given["messages"]]}


def write_lines(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    """Write JSON lines; a string is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in rows))
    return path


def read_lines(path: Path) -> list[Row]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_run(folder: Path, rows: Sequence[Row], rejected: Sequence[Row] = (), **manifest: Any) -> Path:
    """Write the files of a run folder that later stages read."""
    write_lines(folder / "accepted.jsonl", rows)
    write_lines(folder / "rejected.jsonl", rejected)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def instructions_of(rows: Sequence[Row]) -> list[str]:
    """The last instruction of each row."""
    return [[turn["content"] for turn in each["messages"] if turn["role"] == "user"][-1] for each in rows]
