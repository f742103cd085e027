"""Questions about a conversation that a label answers: Magpie's tags (arXiv 2406.08464, section 3).

Each is appended to the conversation as a user turn:

    user: What is 2 + 2?          user: What is 2 + 2?
    assistant: Yes?               assistant: 4
    user: Category?               user: Is this answer good?
    assistant: Math               assistant: excellent

`listening` is the assistant turn between an instruction and a question about it, so that roles alternate in every
template. A checkpoint that was trained to tag has its questions in `tag_questions.json`:

    {"listening": "Yes?",
     "questions": [{"name": "category", "about": "instruction", "text": "Category?", "labels": ["Math", …]}, …]}
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.json_file import TEXT, read_object

QUESTIONS_FILE = "tag_questions.json"
QUALITIES = ("very poor", "poor", "average", "good", "excellent")
"""Labels of the two quality questions, from the lowest to the highest."""
TAGGED = ("category", "difficulty", "language")
"""Dimensions of quotas whose value is a tag; the value of any other dimension is what the row was steered to."""
About = Literal["instruction", "answer"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question and the labels that may answer it."""

    name: str
    """Name of the tag: `category`, `difficulty`, `input_quality`, …"""
    about: About
    """Part of the conversation that the question is about."""
    text: str
    labels: tuple[str, ...]
    """Possible answers; on a scale, from the lowest to the highest."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """All questions about a row."""

    listening: str
    """Assistant turn between an instruction and a question about it."""
    questions: tuple[Question, ...]

    def about(self, part: About) -> tuple[Question, ...]:
        """The questions about one part of the conversation."""
        return tuple(question for question in self.questions if question.about == part)

    def named(self, name: str) -> Question:
        """The question with this name. Raises KeyError if there is none."""
        for question in self.questions:
            if question.name == name:
                return question
        raise KeyError(name)


def read_questions(path: Path) -> Questions:
    """Read a file of questions. Raises UserError that lists every problem."""
    if not path.is_file():
        raise UserError("The file of questions does not exist", where=str(path), fix="check the path")
    value = read_object(path, fix="correct the file")
    problems: list[str] = []
    questions = _questions(value, problems)
    if problems:
        raise UserError(
            "The questions are not valid",
            where=str(path),
            fix='write {"listening": …, "questions": [{"name", "about", "text", "labels"}, …]}',
            details=problems,
        )
    return Questions(listening=value["listening"], questions=questions)


def write_questions(questions: Questions, path: Path) -> None:
    """Write a file for `read_questions`."""
    write_atomically(path, json.dumps(asdict(questions), indent=2, ensure_ascii=False) + "\n")


def _questions(value: Mapping[str, Any], problems: list[str]) -> tuple[Question, ...]:
    if not isinstance(value.get("questions"), list):
        problems.append('expected an object with "listening" and a list "questions"')
        return ()
    if not _is_text(value.get("listening")):
        problems.append('"listening" must be non-empty text')
    found: list[Question] = []
    for number, each in enumerate(value["questions"], start=1):
        question = _question(each, f"question {number}", problems)
        if question is not None and any(question.name == other.name for other in found):
            problems.append(f"question {number}: the name {question.name!r} is used twice")
        elif question is not None:
            found.append(question)
    return tuple(found)


def _question(value: Any, label: str, problems: list[str]) -> Question | None:
    """Read one question; None if it is invalid, with the reasons appended to `problems`."""
    before = len(problems)
    if not isinstance(value, Mapping):
        problems.append(f"{label} is not an object")
        return None
    problems += [f'{label}: "{key}" must be non-empty text' for key in ("name", "text") if not _is_text(value.get(key))]
    if value.get("about") not in get_args(About):
        problems.append(f'{label}: "about" must be {" or ".join(get_args(About))}')
    labels = value.get("labels")
    if not isinstance(labels, list) or not all(map(_is_text, labels)) or not len(set(labels)) == len(labels) >= 2:
        problems.append(f'{label}: "labels" must be two or more different texts')
    if len(problems) > before:
        return None
    assert isinstance(labels, list)
    return Question(name=value["name"], about=value["about"], text=value["text"], labels=tuple(labels))


def _is_text(value: Any) -> bool:
    return TEXT.holds(value) and bool(value.strip())
