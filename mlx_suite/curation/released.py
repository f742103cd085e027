"""Tags and scores of a row under our names, whoever wrote it.

The Magpie sets on the hub keep them as flat fields (`task_category`, `instruct_reward`, …; magpie-align/magpie,
`exp/unitag.py` and `exp/gen_dis.py`). Here a row has

    "tags": {"category": "Math", "difficulty": "easy"}, "scores": {"reward": -3.2}, "nearest": {"id": …, "cosine": 0.83}

A tag that could not be read by whoever made the set is null there, and missing here.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from mlx_suite.data.read.faults import Faults
from mlx_suite.data.read.record import described

Record = dict[str, Any]

TAG_FIELDS: Mapping[str, str] = {
    "task_category": "category",
    "difficulty": "difficulty",
    "input_quality": "input_quality",
    "language": "language",
    "llama_guard_2": "safety",
}
SCORE_FIELDS: Mapping[str, str] = {
    "instruct_reward": "reward",
    "base_reward": "base_reward",
    "reward_difference": "reward_difference",
}
NUMBERS = ("answer_tokens", "instruction_tokens", "input_length", "output_length", "index", "repeat_count")
"""Fields that are numbers, also in tables of text."""
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
"""ISO 639-1, as the released sets write languages."""


def with_tags_and_scores(row: Mapping[str, Any], faults: Faults) -> Record:
    """The row with `tags`, `scores` and `nearest` in place of the flat fields; each only where there is something.

    Tables of text hold objects as JSON and numbers as digits: they are read. Other datasets have fields of these names
    too, such as a list of tags: those stay, as `other_tags`. Whatever is wrong goes to `faults`.
    """
    found = dict(row)
    ours = {key: _ours(found, key, of_kind) for key, of_kind in _OBJECTS.items() if key in found}
    given: Record = {
        "tags": _moved(found, TAG_FIELDS, _label, faults),
        "scores": _moved(found, SCORE_FIELDS, _number, faults),
        "nearest": _nearest(found, faults),
    }
    objects = {key: {**given.get(key, {}), **ours.get(key, {})} for key in (*ours, *given)}
    for key, of_kind, wanted in (("tags", _is_text, "text"), ("scores", _is_number, "a number")):
        faults += [
            f'{key.removesuffix("s")} "{name}" is {described(value)}; expected {wanted}'
            for name, value in objects[key].items()
            if not of_kind(value)
        ]
    for key in NUMBERS:
        if isinstance(found.get(key), str):
            found[key] = _number(found[key], key, faults)
    found |= {key: values for key, values in objects.items() if values}
    return {key: found[key] for key in dict.fromkeys((*row, *found)) if key in found}  # in the row's own order


def _ours(found: Record, key: str, of_kind: Callable[[Any], bool]) -> Record:
    """Take an object out of the row. What is not one of ours stays in it under another name."""
    value = given = found.pop(key)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            pass
    # Without what is null: Parquet gives every row all the keys of any.
    held = {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else {}
    if any(map(of_kind, held.values())):
        return held
    if given not in ("", {}) and (held or not isinstance(value, dict)):
        found[f"other_{key}"] = given
    return {}


def _moved(found: Record, names: Mapping[str, str], read: Callable[[Any, str, Faults], Any], faults: Faults) -> Record:
    """Take fields out of the row. One that is no label at all belongs to something else and stays."""
    values = {}
    for old, new in names.items():
        value = read(found[old], old, faults) if old in found else None
        if value is not None or found.get(old, "") in (None, ""):
            found.pop(old, None)
        if value is not None:
            values[new] = value
    return values


def _label(value: Any, key: str, faults: Faults) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    if key == "language":
        return LANGUAGES.get(value.lower(), value)
    if key == "llama_guard_2":
        return value.split()[0].lower()  # "unsafe", and then the numbers of its classes
    return value


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


def _nearest(found: Record, faults: Faults) -> Record:
    """From a squared distance of unit vectors, as FAISS gives it: |a - b|² = 2 - 2 cos."""
    if "min_neighbor_distance" not in found:
        return {}
    distance = _number(found.pop("min_neighbor_distance"), "min_neighbor_distance", faults)
    other = found.pop("min_similar_conversation_id", None)
    if distance is None:
        return {}
    return {**({} if other is None else {"id": other}), "cosine": round(1 - distance / 2, 6)}


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
"""Fields of ours that are objects, and what they hold."""
