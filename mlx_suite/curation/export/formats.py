"""Export formats: the shapes in which other programs read rows.

messages     {"id": …, "messages": [{"role", "content"}, …], "tags": …, "scores": …}      OpenAI, TRL, mlx-suite
alpaca       {"instruction": …, "input": …, "output": …}                                  one instruction, one response
sharegpt     {"id": …, "conversations": [{"from": "human", "value"}, …]}
mlx-lm       {"messages": […]}                                                            mlx_lm.lora --data
pairs        {"prompt": [turns], "chosen": [turn], "rejected": [turn]}                    TRL's conversations
pairs-text   {"system": …, "prompt": …, "chosen": …, "rejected": …}                       mlx-lm-lora
parquet      every field of the rows
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import json_line
from mlx_suite.curation.rows import REASONING, Record
from mlx_suite.curation.set_aside import SetAside
from mlx_suite.data.example import without_context
from mlx_suite.data.read.table import PARQUET_EXTRA
from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.runtime.errors import UserError, nearest_name
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER
from mlx_suite.text.reasoning import with_reasoning

SHAREGPT = {SYSTEM: "system", USER: "human", ASSISTANT: "gpt", "tool": "observation"}
EXTRA_FIELDS = ("tags", "scores", "model")
"""Fields exported along with the messages."""


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """One export format."""

    name: str
    shape: Callable[[Record], Record]
    """Converts a row."""
    problem: Callable[[Record], str]
    """Why a row does not fit the format; empty if it does."""
    suffix: str = ".jsonl"
    valid_share: float = 0.0
    """Default share of rows for validation."""
    test_share: float = 0.0
    """Default share of rows for testing."""

    def write(self, path: Path, rows: Iterable[Record]) -> None:
        """Write rows to a file. Raises UserError for Parquet without pyarrow."""
        shaped = map(self.shape, rows)
        if self.suffix == ".parquet":
            _write_parquet(path, list(shaped))
        elif self.suffix == ".json":
            path.write_bytes(b"[\n" + b",\n".join(json_line(row).rstrip(b"\n") for row in shaped) + b"\n]\n")
        else:
            path.write_bytes(b"".join(map(json_line, shaped)))


def format_named(name: str) -> ExportFormat:
    """The format of this name. Raises UserError that suggests the nearest name."""
    if name in EXPORT_FORMATS:
        return EXPORT_FORMATS[name]
    fix = nearest_name(name, EXPORT_FORMATS, cutoff=0.5)
    raise UserError(f"There is no format {name!r}", where="--to", fix=fix)


def turns_of(row: Record) -> list[Record]:
    """The messages with roles and texts only; reasoning stands in its tags before the response, calls are JSON."""
    return [{"role": message["role"], "content": _text(message)} for message in row["messages"]]


def _text(message: Record) -> str:
    return with_reasoning(message.get(REASONING, ""), spoken_text(message))


def _native(message: Record) -> Record:
    """A message with its calls and results in OpenAI's form, and reasoning in its tags."""
    rest: Record = {key: message[key] for key in ("tool_calls", "tool_call_id", "name") if key in message}
    text = with_reasoning(message.get(REASONING, ""), message["content"])
    return {"role": message["role"], "content": text, **rest}


def _texts(row: Record) -> dict[str, str]:
    return {message["role"]: _text(message) for message in row["messages"]}


def _messages(row: Record) -> Record:
    return {
        **_named(row),
        "messages": row["messages"],
        **_tools(row),
        **{key: row[key] for key in EXTRA_FIELDS if key in row},
    }


def _tools(row: Record) -> Record:
    return {"tools": row["tools"]} if "tools" in row else {}


def _alpaca(row: Record) -> Record:
    texts = _texts(row)
    system = {"system": texts[SYSTEM]} if SYSTEM in texts else {}
    bare = without_context(texts[USER], row.get("input"))
    split = {"instruction": texts[USER], "input": ""} if bare is None else {"instruction": bare, "input": row["input"]}
    return {**system, **split, "output": texts[ASSISTANT]}


def _sharegpt(row: Record) -> Record:
    turns = [_sharegpt_turn(message) for message in row["messages"]]
    tools = [tool.get("function", tool) for tool in row.get("tools", ())]
    named = {"tools": json.dumps(tools, ensure_ascii=False)} if tools else {}
    return {**_named(row), "conversations": turns, **named}


def _sharegpt_turn(message: Record) -> Record:
    """A turn; one that is calls alone, and the result of a tool, as LLaMA-Factory names them."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    if calls and not message["content"]:
        value = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
        return {"from": "function_call", "value": with_reasoning(message.get(REASONING, ""), value)}
    return {"from": SHAREGPT[message["role"]], "value": _text(message)}


def _mlx_lm(row: Record) -> Record:
    return {"messages": list(map(_native, row["messages"])), **_tools(row)}


def _pairs(row: Record) -> Record:
    *prompt, _ = turns_of(row)
    return {"prompt": prompt, **{side: [{"role": ASSISTANT, "content": row[side]}] for side in ("chosen", "rejected")}}


def _pairs_text(row: Record) -> Record:
    texts = _texts(row)
    system = {"system": texts[SYSTEM]} if SYSTEM in texts else {}
    return {**system, "prompt": texts[USER], "chosen": row["chosen"], "rejected": row["rejected"]}


def _named(row: Record) -> Record:
    return {"id": row["id"]} if "id" in row else {}


def _no_problem(row: Record) -> str:
    return ""


def _not_one_exchange(row: Record) -> str:
    roles = [message["role"] for message in row["messages"] if message["role"] != SYSTEM]
    if roles == [USER, ASSISTANT]:
        return ""
    return f"{len(roles)} turns ({', '.join(roles[:4])}{', …' if len(roles) > 4 else ''}), but the format allows two"


def _no_pair(row: Record) -> str:
    missing = [side for side in ("chosen", "rejected") if not isinstance(row.get(side), str)]
    return f"no {' and no '.join(missing)}" if missing else ""


def _no_short_pair(row: Record) -> str:
    return _no_pair(row) or _not_one_exchange(row)


_FORMATS = (
    ExportFormat(name="messages", shape=_messages, problem=_no_problem),
    ExportFormat(name="alpaca", shape=_alpaca, problem=_not_one_exchange, suffix=".json"),
    ExportFormat(name="sharegpt", shape=_sharegpt, problem=_no_problem, suffix=".json"),
    ExportFormat(name="mlx-lm", shape=_mlx_lm, problem=_no_problem, valid_share=0.1, test_share=0.1),
    ExportFormat(name="pairs", shape=_pairs, problem=_no_pair),
    ExportFormat(name="pairs-text", shape=_pairs_text, problem=_no_short_pair),
    ExportFormat(name="parquet", shape=dict, problem=_no_problem, suffix=".parquet"),
)
EXPORT_FORMATS: Mapping[str, ExportFormat] = {each.name: each for each in _FORMATS}
"""Formats by name."""


def misfits(rows: Sequence[Record], positions: Sequence[int], form: ExportFormat) -> dict[int, SetAside]:
    """The rows that do not fit the format, by index; `positions` are their places among all rows of the data."""
    problems = ((number, row, form.problem(row)) for number, row in enumerate(rows))
    return {
        number: SetAside(position=position, place=f"row {position + 1}{_id(row)}", reasons=(problem,), value=row)
        for (number, row, problem), position in zip(problems, positions, strict=True)
        if problem
    }


def _id(row: Record) -> str:
    return f" ({json.dumps(row['id'])})" if "id" in row else ""


def _write_parquet(path: Path, rows: Sequence[Record]) -> None:
    """Write one column per key; a column of mixed types is stored as JSON text."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Writing Parquet needs pyarrow", where="--to parquet", fix=PARQUET_EXTRA) from error
    columns = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        try:
            columns[key] = pyarrow.array(values)
            if _has_empty_struct(columns[key].type):
                raise pyarrow.ArrowTypeError("Parquet has no empty struct")
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
            texts = [None if value is None else json.dumps(value, default=str) for value in values]
            columns[key] = pyarrow.array(texts, type=pyarrow.string())
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def _has_empty_struct(kind: Any) -> bool:
    """True if a pyarrow type contains a struct without fields."""
    inner = [kind.field(number) for number in range(kind.num_fields)]
    return (str(kind) == "struct<>") or any(_has_empty_struct(field.type) for field in inner)
