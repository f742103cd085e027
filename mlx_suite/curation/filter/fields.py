"""Fields of a row that conditions can use: tags, scores, lengths, and any other value in the row.

category, difficulty, input_quality, answer_quality, language, safety      tags
ifd, reward, reward_difference, …                                          scores
nearest                                                                    cosine similarity to the nearest other row
task_category, instruct_reward, min_neighbor_distance, …                   the same by the released sets' names
instruction, answer                                                        texts of all turns
turns, instruction_chars, instruction_words, instruction_lines, answer_…   counts
model, sampling.temperature, confidence.category, …                        the row's own keys
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.dataset import texts_of
from mlx_suite.curation.rows import COSINE_DECIMALS, SCORE_FIELDS, TAG_FIELDS, Record
from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS
from mlx_suite.text.message import ASSISTANT, USER

SCALES = ("difficulty", "input_quality", "answer_quality")
"""Tags with ordered labels, from the lowest to the highest."""
_TAG = "mlx-suite magpie tag DATA MODEL"
HOW_TO_ADD: Mapping[str, str] = {
    **{question.name: f"add it with `{_TAG}`" for question in FULL_QUESTIONS.questions},
    "ifd": f"add it with `{_TAG} --scores ifd`",
    "reward": f"add it with `{_TAG} --scores reward` and a reward model",
    "reward_difference": f"add it with `{_TAG} --scores reward_difference`, a reward model and a base model",
    "nearest": "run `mlx-suite magpie` with embeddings",
    "answer_tokens": "only rows of `mlx-suite magpie` have it; use answer_words or answer_chars",
    "instruction_tokens": "only rows of `mlx-suite magpie` have it; use instruction_words",
}
"""How to add a field that no row has."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A named value of a row."""

    name: str
    get: Callable[[Record], Any]
    """The value in a row; None if the row has none."""
    scale: tuple[str, ...] = ()
    """Labels from the lowest to the highest; empty if unordered."""
    labels: tuple[str, ...] = ()
    """All possible labels, whether or not a row has them."""


class UnknownField(Exception):
    """A field that no row has, with how to add it or similar names."""


def find_field(name: str, rows: Sequence[Record]) -> Field:
    """The field of this name. Raises UnknownField if no row has it."""
    name = name.replace("-", "_")
    field = _field(_ALIASES.get(name, name))
    if any(field.get(row) is not None for row in rows):
        return field
    known = sorted({*HOW_TO_ADD, *_COUNTED, *_names_in(rows)})
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    advice = f"did you mean {' or '.join(near)}?" if near else f"the fields are {', '.join(known)}"
    raise UnknownField(f"no row has {name}: {HOW_TO_ADD.get(name, advice)}")


def text_of(row: Record, role: str) -> str:
    """The texts of one role, joined by blank lines."""
    return "\n\n".join(texts_of(row, role))


def length_of(row: Record) -> int:
    """Characters of all responses of a row."""
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
    """The value in the row itself, its scores or its tags, in this order."""
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
    """All field names in the rows; nested keys are joined by a dot."""
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


def _distance(row: Record) -> float | None:
    """Squared distance to the nearest other row, as the released sets have it: |a - b|² = 2 - 2 cos."""
    cosine = _at(row, ("nearest", "cosine"))
    return None if cosine is None else round(2 * (1 - cosine), COSINE_DECIMALS - 1)


_ALIASES: Mapping[str, str] = {**TAG_FIELDS, **SCORE_FIELDS, "min_similar_conversation_id": "nearest.id"}
"""Columns of the released sets whose values `rows` keeps under our names."""
_COUNTED: Mapping[str, Callable[[Record], Any]] = {
    "instruction": lambda row: text_of(row, USER),
    "answer": lambda row: text_of(row, ASSISTANT),
    "min_neighbor_distance": _distance,
    "turns": lambda row: sum(message["role"] == USER for message in row["messages"]),
    "instruction_chars": lambda row: len(text_of(row, USER)),
    "instruction_words": lambda row: len(text_of(row, USER).split()),
    "instruction_lines": lambda row: text_of(row, USER).count("\n") + 1,
    "answer_chars": length_of,
    "answer_words": lambda row: len(text_of(row, ASSISTANT).split()),
    "answer_lines": lambda row: text_of(row, ASSISTANT).count("\n") + 1,
}
