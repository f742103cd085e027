"""Rows with true labels, from a file or from the microworld."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mlx_suite.curation.dataset import object_in, read_collection
from mlx_suite.curation.rows import Record
from mlx_suite.curation.set_aside import SetAside
from mlx_suite.data.questions import Question, Questions
from mlx_suite.microworld import make_world
from mlx_suite.microworld.tagging import QUESTIONS as KNOWN
from mlx_suite.microworld.tagging import sample_tagged
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.text.message import ASSISTANT, USER


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """The rows of a dataset that have true labels."""

    rows: "tuple[Labelled, ...]"
    total: int
    """Number of rows in the data."""
    set_aside: tuple[SetAside, ...] = ()
    """Rows that cannot be read or have an unknown label."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A row and its true labels."""

    messages: Sequence[Mapping[str, Any]]
    truth: Mapping[str, str]
    """True label by question, not empty."""


def read_labelled(source: str | Path, questions: Questions, *, strict: bool = False, split: str = "") -> LabelledRows:
    """Read the rows of a dataset that have true labels: in `labels`, in `tags`, or in fields named like the questions.

    Labels are matched ignoring case. Rows that cannot be read or have an unknown label are set aside, unless `strict`.
    Raises UserError if no row has a label, listing every unknown one.
    """
    collection = read_collection(source, strict=strict, split=split)
    unknown: list[SetAside] = []
    labelled: list[Labelled] = []
    for position, row in zip(collection.positions, collection.rows, strict=True):
        problems: list[str] = []
        truth = _truth(row, questions, problems)
        if problems:
            place, reasons = f"row {position + 1}", tuple(problems)
            unknown.append(SetAside(position=position, place=place, reasons=reasons, value=row))
        elif truth:
            labelled.append(Labelled(messages=row["messages"], truth=truth))
    if not labelled or (strict and unknown):
        names = ", ".join(question.name for question in questions.questions)
        details = [f"{row.place}: {reason}" for row in unknown for reason in row.reasons]
        raise UserError(
            f"{len(details):,} labels are unknown" if details else "No row has a true label",
            where=str(source),
            fix=f'write {{"messages": […], "labels": {{…}}}} with labels for {names}',
            details=shortened(details),
        )
    set_aside = sorted((*collection.set_aside, *unknown), key=lambda row: row.position)
    return LabelledRows(rows=tuple(labelled), total=collection.total, set_aside=tuple(set_aside))


def microworld_rows(count: int, questions: Questions, seed: int = 0) -> tuple[Labelled, ...]:
    """`count` held-out rows for each question to which the microworld knows the answer.

    Raises UserError if there is no such question, or if one lacks some of the microworld's labels.
    """
    world = make_world()
    known = [question for question in questions.questions if question.name in KNOWN]
    unknown = [f"{each.name}: {label}" for each in known for label in KNOWN[each.name][1] if label not in each.labels]
    if unknown or not known:
        raise UserError(
            "The questions lack some of the microworld's labels"
            if unknown
            else "The microworld can answer none of the questions",
            where="the questions",
            fix=f"ask {', '.join(KNOWN)} with the microworld's labels, or give a file of labelled rows",
            details=shortened(unknown),
        )
    rows: list[Labelled] = []
    for question in known:
        rng = Random(f"labelled {question.name} {seed}")
        for _ in range(count):
            tagged = sample_tagged(rng, world, question.name, heldout=True)
            messages = [{"role": USER, "content": tagged.instruction}]
            if tagged.answer is not None:
                messages.append({"role": ASSISTANT, "content": tagged.answer})
            rows.append(Labelled(messages=messages, truth={question.name: tagged.labels[question.name]}))
    return tuple(rows)


def _truth(row: Record, questions: Questions, problems: list[str]) -> dict[str, str]:
    labels = object_in(row, "labels") or {**row, **object_in(row, "tags")}
    truth = {}
    for question in questions.questions:
        value = labels.get(question.name)
        if value is None:
            continue
        label = {known.casefold(): known for known in question.labels}.get(str(value).strip().casefold())
        if label is None:
            problems.append(f"{question.name} is {value!r}{_hint(str(value), question)}")
        else:
            truth[question.name] = label
    return truth


def _hint(value: str, question: Question) -> str:
    near = difflib.get_close_matches(value, question.labels, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; use one of {', '.join(question.labels)}"
