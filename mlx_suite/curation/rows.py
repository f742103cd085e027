"""Rows of any dataset as conversations with tags and scores.

A row in any format (OpenAI messages, ShareGPT, Alpaca, prompt and completion, preference pairs) becomes an object with
`messages` and keeps its other fields. The Magpie sets on the hub keep labels as flat fields (`task_category`,
`instruct_reward`, …; magpie-align/magpie, `exp/unitag.py` and `exp/gen_dis.py`). They become

    "tags": {"category": "Math", "difficulty": "easy"}, "scores": {"reward": -3.2}, "nearest": {"id": …, "cosine": 0.83}

so that the same names filter their rows and ours. Null tags are dropped.

A preference pair is read as its prompt with the chosen response, and keeps both responses:

    {"messages": [… up to the instruction], "chosen": "…", "rejected": "…"}          what `magpie pairs` writes
    {"prompt": "…", "chosen": "…", "rejected": "…"}                                  texts
    {"prompt": […], "chosen": [turns], "rejected": [turns]}                          turns, with or without the prompt
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mlx_suite.data.example import Example, with_context
from mlx_suite.data.read.conversation import OPENAI_ROLES, REASONING_KEYS, Spelling, read_turns
from mlx_suite.data.read.formats import SYSTEMS, Format, detect, fields_of, read_example, read_keys
from mlx_suite.data.read.records import Faults, Problem, described, instruction_text, optional_text, response_text
from mlx_suite.data.read.records import Record as FileRecord
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

Record = dict[str, Any]

TAG_FIELDS: Mapping[str, str] = {
    "task_category": "category",
    "difficulty": "difficulty",
    "input_quality": "input_quality",
    "language": "language",
    "llama_guard_2": "safety",
}
SCORE_FIELDS = {"instruct_reward": "reward", "base_reward": "base_reward", "reward_difference": "reward_difference"}
COSINE_DECIMALS = 9
"""Decimals of a cosine, so that no distance above 0 becomes 0."""
NUMBERS = ("answer_tokens", "instruction_tokens", "input_length", "output_length", "index", "repeat_count")
"""Fields parsed as numbers, even if a table stores them as text."""
REASONING = REASONING_KEYS[0]
"""Key of a response's reasoning in `messages`, whatever the dataset calls it."""
LANGUAGES: Mapping[str, str] = {
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "pl": "Polish",
    "ru": "Russian",
    "tr": "Turkish",
    "ar": "Arabic",
    "hi": "Hindi",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
}
"""Languages by ISO 639-1 code, which the released sets use."""
_SIDES = ("chosen", "rejected")
_REPEATED = ("instruction", "response", "prompt", "output")
"""Keys under which released sets repeat texts of the conversation."""


def format_of(records: Iterable[FileRecord | Problem]) -> Format | None:
    """The conversation format of a file's records; None if they hold no conversations."""
    values = [record.value for record in records if isinstance(record, FileRecord)]
    if values and all(isinstance(value, dict) and PAIRS.fits(value) for value in values):
        return PAIRS
    form = detect(records)
    return None if form is None or form.name == "text" else form


def read_row(record: FileRecord, form: Format, report: Callable[[Problem], None]) -> Record | None:
    """Convert a record to a row with `messages`, `tags` and `scores`; None after reporting its problems."""
    example = read_example(record, form)
    if not isinstance(example, Example):
        for problem in example:
            report(problem)
        return None
    fields = fields_of(record)
    consumed = read_keys(fields, form)
    rest = {key: value for key, value in fields.items() if key not in consumed and value is not None}
    if example.tool_turns is not None and example.tool_turns.tools:
        rest["tools"] = list(example.tool_turns.tools)
    if example.context:
        rest["input"] = example.context  # so that an export to Alpaca can separate it again
    messages = _messages(example)
    contents = {message["content"] for message in messages}
    for key in _REPEATED:
        if isinstance(rest.get(key), str) and rest[key] in contents:
            del rest[key]
    head: Record = {key: rest[key] for key in ("id", "index", "seed") if key in rest}  # the key order of a run's rows
    sides = {side: _response(fields[side], side, []) for side in _SIDES} if form is PAIRS else {}
    faults: list[str] = []
    row = with_tags_and_scores({**head, "messages": messages, **sides, **rest}, faults)
    for fault in faults:
        report(Problem(record.place, fault))
    return None if faults else row


def _messages(example: Example) -> list[dict[str, Any]]:
    if example.tool_turns is not None:
        pairs = zip(example.tool_turns.turns, example.tool_turns.trained, strict=True)
        return [{**turn} if is_trained else {**turn, "train": False} for turn, is_trained in pairs]
    messages = list(example.messages)
    first = next((place for place, message in enumerate(messages) if message.role == USER), None)
    if example.context and first is not None:
        turn = messages[first]
        messages[first] = Message(USER, with_context(turn.content, example.context), turn.trained)
    return list(map(_message, messages))


def _message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn[REASONING] = message.reasoning
    return turn if message.trained else {**turn, "train": False}


# ---- tags and scores


def with_tags_and_scores(row: Mapping[str, Any], faults: Faults) -> Record:
    """Replace the flat fields of released sets by `tags`, `scores` and `nearest`; empty ones are omitted.

    Text tables store objects as JSON and numbers as digits; both are parsed. A field that only shares a name with ours,
    such as a list of tags, is kept as `other_tags`. Problems are appended to `faults`.
    """
    result = dict(row)
    ours = {key: _own_object(result, key, is_valid) for key, is_valid in _OBJECTS.items() if key in result}
    flat: Record = {
        "tags": _moved(result, TAG_FIELDS, _label, faults),
        "scores": _moved(result, SCORE_FIELDS, _number, faults),
        "nearest": _nearest(result, faults),
    }
    objects = {key: {**flat.get(key, {}), **ours.get(key, {})} for key in (*ours, *flat)}
    for key, is_valid, expected in (("tags", _is_text, "text"), ("scores", _is_number, "a number")):
        faults += [
            f'{key.removesuffix("s")} "{name}" is {described(value)}; expected {expected}'
            for name, value in objects[key].items()
            if not is_valid(value)
        ]
    for key in NUMBERS:
        if isinstance(result.get(key), str):
            result[key] = _number(result[key], key, faults)
    result |= {key: values for key, values in objects.items() if values}
    return {key: result[key] for key in dict.fromkeys((*row, *result)) if key in result}  # in the order of `row`


def _own_object(row: Record, key: str, is_valid: Callable[[Any], bool]) -> Record:
    """Remove an object of ours from the row and return it; anything else under its name stays as `other_…`."""
    value = original = row.pop(key)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            pass
    # Drop nulls: Parquet gives every row the union of all keys.
    entries = {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else {}
    if any(map(is_valid, entries.values())):
        return entries
    if original not in ("", {}) and (entries or not isinstance(value, dict)):
        row[f"other_{key}"] = original
    return {}


def _moved(row: Record, names: Mapping[str, str], read: Callable[[Any, str, Faults], Any], faults: Faults) -> Record:
    """Remove flat fields from the row and return them under our names; invalid values stay in the row."""
    values = {}
    for old, new in names.items():
        value = read(row[old], old, faults) if old in row else None
        if (value is not None and not _says_more(row[old], old)) or row.get(old, "") in (None, ""):
            row.pop(old, None)
        if value is not None:
            values[new] = value
    return values


def _label(value: Any, key: str, faults: Faults) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    if key == "language":
        return LANGUAGES.get(value.lower(), value)
    if key == "llama_guard_2":
        return value.split()[0].lower()  # "unsafe", followed by hazard codes
    return value


def _says_more(value: Any, key: str) -> bool:
    """Whether a field holds more than its label: the hazard codes of an unsafe row."""
    return key == "llama_guard_2" and len(str(value).split()) > 1


def _number(value: Any, key: str, faults: Faults) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
        number = int(value) if number == int(number) and not isinstance(value, float) else number
    except (TypeError, ValueError, OverflowError):
        faults.append(f'"{key}" is {json.dumps(value, default=str)[:40]}; expected a number')
        return None
    return number


def _nearest(row: Record, faults: Faults) -> Record:
    """Nearest row, its cosine from FAISS's squared distance of unit vectors: |a - b|² = 2 - 2 cos."""
    if "min_neighbor_distance" not in row:
        return {}
    distance = _number(row.pop("min_neighbor_distance"), "min_neighbor_distance", faults)
    other = row.pop("min_similar_conversation_id", None)
    if distance is None:
        return {}
    return {**({} if other is None else {"id": other}), "cosine": round(1 - distance / 2, COSINE_DECIMALS)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_OBJECTS: Mapping[str, Callable[[Any], bool]] = {
    "tags": _is_text,
    "scores": _is_number,
    "confidence": _is_number,
    "nearest": _is_number,
    "steer": _is_text,
    "sampling": _is_number,
}
"""Our object fields, with the check for their values."""

# ---- preference pairs


def _read_pair(fields: Mapping[str, Any], faults: Faults) -> Example:
    chosen, rejected = (_response(fields[side], side, faults) for side in _SIDES)
    if not faults and chosen == rejected:
        faults.append('"chosen" and "rejected" are the same; expected two different responses')
    return Example(messages=(*_prompt(fields, chosen or "?", faults), Message(ASSISTANT, chosen)))


def _prompt(fields: Mapping[str, Any], chosen: str, faults: Faults) -> tuple[Message, ...]:
    """The turns before the response."""
    if isinstance(fields.get("prompt"), str):
        system = optional_text(next((fields[key] for key in SYSTEMS if key in fields), None), '"system"', faults)
        user = Message(USER, instruction_text(fields["prompt"], '"prompt"', faults))
        return (Message(SYSTEM, system), user) if system else (user,)
    key = next((key for key in ("messages", "prompt", "chosen") if isinstance(fields.get(key), list)), None)
    if key is None:
        faults.append('there is neither "messages" nor "prompt"; expected one of them')
        return ()
    # The reader requires a final response: append one and drop it again.
    turns = [*_before_response(fields[key]), {"role": ASSISTANT, "content": chosen}]
    return read_turns(turns, f'"{key}"', Spelling(roles=OPENAI_ROLES), faults)[:-1]


def _before_response(turns: Sequence[Any]) -> Sequence[Any]:
    last = turns[-1] if turns else None
    return turns[:-1] if isinstance(last, dict) and last.get("role") == ASSISTANT else turns


def _response(value: Any, side: str, faults: Faults) -> str:
    """The response: the value itself if it is text, or the last of a list of turns."""
    if isinstance(value, list) and value and isinstance(value[-1], dict) and value[-1].get("role") == ASSISTANT:
        value = value[-1].get("content")
    return response_text(value, f'"{side}"', faults)


PAIRS = Format(
    name="pairs",
    shape='{"messages": [… the instruction], "chosen": …, "rejected": …}',
    fits=lambda fields: all(fields.get(side) is not None for side in _SIDES),
    read=_read_pair,
    keys=(("prompt",), ("messages",), ("chosen",), ("rejected",)),
    conversation=("messages",),
)
