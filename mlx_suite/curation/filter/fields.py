"""What a row holds under a name: a tag, a score, a length, or anything else that stands in it.

category, difficulty, input_quality, answer_quality, language, safety      tags
ifd, reward, reward_difference, …                                          scores
nearest                                                                    cosine to the nearest other row
instruction, answer                                                        texts, from all turns
turns, instruction_chars, instruction_words, instruction_lines, answer_…   counted
model, sampling.temperature, confidence.category, …                        as they stand in the row
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.dataset import texts_of
from mlx_suite.curation.rows import Record
from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS
from mlx_suite.text.message import ASSISTANT, USER

SCALES = ("difficulty", "input_quality", "answer_quality")
"""Tags whose labels are in order, from the lowest to the highest."""
_TAG = "mlx-suite magpie tag DATA MODEL"
HOW_TO_MAKE: Mapping[str, str] = {
    **{question.name: f"`{_TAG}` tags them" for question in FULL_QUESTIONS.questions},
    "ifd": f"`{_TAG} --scores ifd` computes it",
    "reward": f"`{_TAG} --scores reward` computes it, with a reward model",
    "reward_difference": f"`{_TAG} --scores reward_difference` computes it, with a base model",
    "nearest": "a run with embeddings has it",
    "answer_tokens": "rows of `mlx-suite magpie` have it; answer_words and answer_chars are there in any",
    "instruction_tokens": "rows of `mlx-suite magpie` have it; instruction_words is there in any",
}
"""By field, what to do where no row has it."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One thing to ask of every row."""

    name: str
    get: Callable[[Record], Any]
    """Its value in a row; None where the row has none."""
    scale: tuple[str, ...] = ()
    """Labels from the lowest to the highest; empty where they have no order."""
    labels: tuple[str, ...] = ()
    """Labels it can have, whether or not a row has them."""


def find_field(name: str, rows: Sequence[Record], problems: list[str]) -> Field | None:
    """The field of this name; None, and a problem, if there is none or no row has it."""
    name = name.replace("-", "_")
    field = _field(name)
    if any(field.get(row) is not None for row in rows):
        return field
    if name in HOW_TO_MAKE:
        problems.append(f"no row has {name}: {HOW_TO_MAKE[name]}")
        return None
    known = sorted({*HOW_TO_MAKE, *_COUNTED, *_names_in(rows)})
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    problems.append(
        f"no row has {name}: " + (f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}")
    )
    return None


def text_of(row: Record, role: str) -> str:
    """What one side says in all its turns."""
    return "\n\n".join(texts_of(row, role))


def length_of(row: Record) -> int:
    """Characters of the answers."""
    return len(text_of(row, ASSISTANT))


def _field(name: str) -> Field:
    if name in _COUNTED:
        return Field(name=name, get=_COUNTED[name])
    if name == "nearest":
        return Field(name=name, get=lambda row: _at(row, ("nearest", "cosine")))
    question = next((each for each in FULL_QUESTIONS.questions if each.name == name), None)
    if question is not None:
        return Field(
            name=name,
            get=lambda row: _at(row, ("tags", name)),
            scale=question.labels if name in SCALES else (),
            labels=question.labels,
        )
    path = tuple(name.split("."))
    return Field(name=name, get=lambda row: _anywhere(row, path))


def _anywhere(row: Record, path: tuple[str, ...]) -> Any:
    """In the row itself, else among its scores, else among its tags."""
    for before in ((), ("scores",), ("tags",)):
        value = _at(row, (*before, *path))
        if value is not None and not isinstance(value, dict | list):
            return value
    return None


def _at(row: Any, path: Iterable[str]) -> Any:
    for key in path:
        row = row.get(key) if isinstance(row, Mapping) else None
    return row


def _names_in(rows: Sequence[Record]) -> set[str]:
    """The names that rows use, those of objects with a dot."""
    names: set[str] = set()
    for row in rows:
        for key, value in row.items():
            if key in ("tags", "scores") and isinstance(value, dict):
                names.update(value)
            elif isinstance(value, dict):
                names.update(f"{key}.{inner}" for inner in value)
            elif not isinstance(value, list):
                names.add(key)
    return names


_COUNTED: Mapping[str, Callable[[Record], Any]] = {
    "instruction": lambda row: text_of(row, USER),
    "answer": lambda row: text_of(row, ASSISTANT),
    "turns": lambda row: sum(message["role"] == USER for message in row["messages"]),
    "instruction_chars": lambda row: len(text_of(row, USER)),
    "instruction_words": lambda row: len(text_of(row, USER).split()),
    "instruction_lines": lambda row: text_of(row, USER).count("\n") + 1,
    "answer_chars": length_of,
    "answer_words": lambda row: len(text_of(row, ASSISTANT).split()),
    "answer_lines": lambda row: text_of(row, ASSISTANT).count("\n") + 1,
}
