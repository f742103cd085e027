"""Files of model responses: instruction, response, and the reference if known.

`mlx-suite judge answer` writes

    {"number": 0, "place": "test.jsonl:1", "messages": [{"role": "user", "content": "…"}],
     "reference": "…", "answer": "…", "reason": "stop"}

Other keys are read as well: the instruction under `instruction` (with `input`), `prompt` or `question`; the
model's response under `answer`, `model_response`, `response` or `prediction`; the reference under `reference`, `output`
or `expected`. A dataset row with a single response is read as a model's response without a reference.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.data.dataset import read_dataset
from mlx_suite.data.encode.styles import BLANK_LINE
from mlx_suite.data.example import Example
from mlx_suite.data.read.conversation import OPENAI_ROLES, Spelling, read_turns
from mlx_suite.data.read.formats import detect, read_example, unknown_format
from mlx_suite.data.read.records import Faults, Problem, described, optional_text, required_text
from mlx_suite.data.read.sources import read_records
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

ANSWERS = ("answer", "model_response", "response", "prediction")
REFERENCES = ("reference", "output", "expected")
QUESTIONS = ("messages", "instruction", "prompt", "question")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A model's response to a conversation, and the reference response if known."""

    question: tuple[Message, ...]
    """The conversation up to the response."""
    answer: str
    reference: str | None = None
    reason: str = "stop"
    """Why generation stopped; `limit` means it was truncated."""
    place: str = ""
    """Where the row was read, `file:line`."""

    @property
    def instruction(self) -> str:
        """The last user turn."""
        return next((turn.content for turn in reversed(self.question) if turn.role == USER), "")

    @property
    def key(self) -> str:
        """Key for matching: equal for equal conversations."""
        return json.dumps([[turn.role, turn.content] for turn in self.question])


def read_answers(source: str | Path, limit: int | None = None) -> tuple[Answered, ...]:
    """Read the responses of a file, or of a dataset folder (its test, validation or training part), in order.

    Raises UserError that lists every row without an instruction or a response.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        dataset = read_dataset(source)
        found: list[Answered | Problem] = [
            _of_example(example) for example in dataset.test or dataset.valid or dataset.train
        ]
    else:
        found = list(_rows(path))
    problems = [each for each in found if isinstance(each, Problem)]
    rows = [each for each in found if isinstance(each, Answered)]
    if problems or not rows:
        raise UserError(
            "The file has no rows" if not found else f"{len(problems):,} rows lack an instruction or a response",
            where=str(source),
            fix='write one {"instruction": …, "answer": …, "reference": …} per line, as mlx-suite judge answer does',
            details=shortened(problems),
        )
    return tuple(rows[:limit])


def question_of(example: Example, *, joined: bool = True) -> tuple[Message, ...]:
    """The turns before the last response; `joined` appends the context to the first user turn after a blank line."""
    turns = list(example.messages)
    last = max((place for place, turn in enumerate(turns) if turn.role == ASSISTANT), default=len(turns))
    asked = turns[:last]
    first = next((place for place, turn in enumerate(asked) if turn.role == USER), None)
    if joined and example.context and first is not None:
        asked[first] = Message(USER, f"{asked[first].content}{BLANK_LINE}{example.context}")
    return tuple(asked)


def reference_of(example: Example) -> str | None:
    """The last response of an example; None if it has none."""
    return next((turn.content for turn in reversed(example.messages) if turn.role == ASSISTANT), None)


def _rows(path: Path) -> Iterator[Answered | Problem]:
    records = list(read_records(path, path.name))
    form = None
    for record in records:
        if isinstance(record, Problem):
            yield record
            continue
        if isinstance(record.value, Mapping) and _is_answered(record.value):
            yield _read(record.value, record.place)
            continue
        form = form or detect(records)
        if form is None:
            yield Problem(record.place, unknown_format([record]))
            continue
        example = read_example(record, form)
        if isinstance(example, Example):
            yield _of_example(example)
        else:
            yield from example


def _is_answered(fields: Mapping[str, Any]) -> bool:
    """True if a row contains a model's response, as opposed to a training target."""
    answer, question = _name(fields, ANSWERS), _name(fields, QUESTIONS)
    if not answer or not question:
        return False
    # In many datasets `response` and `prediction` are training targets, unless there is a reference too.
    return answer in ("answer", "model_response") or (question != "messages" and bool(_name(fields, REFERENCES)))


def _read(fields: Mapping[str, Any], place: str) -> Answered | Problem:
    faults: Faults = []
    answer_key, reference_key = _name(fields, ANSWERS), _name(fields, REFERENCES)
    answer = fields[answer_key]
    reference = fields[reference_key] if reference_key else None
    if not isinstance(answer, str):
        faults.append(f'"{answer_key}" is {described(answer)}; expected text')
    if reference is not None and not isinstance(reference, str):
        faults.append(f'"{reference_key}" is {described(reference)}; expected text')
    name = _name(fields, QUESTIONS)
    if name == "messages":
        question, last = _conversation(fields[name], faults)
        reference = last if reference is None else reference
    else:
        question = _single(fields[name], name, fields.get("input"), faults)
    if faults:
        return Problem(place, "; ".join(faults))
    reason = fields.get("reason")
    return Answered(
        question=question,
        answer=answer,
        reference=reference,
        reason=reason if isinstance(reason, str) else "stop",
        place=place,
    )


def _conversation(turns: Any, faults: Faults) -> tuple[tuple[Message, ...], str | None]:
    """The turns before the response, and the response if there is one."""
    asks = (
        isinstance(turns, list) and turns and not (isinstance(turns[-1], dict) and turns[-1].get("role") == ASSISTANT)
    )
    # The reader requires a final response: append a placeholder and drop it again.
    read = read_turns(
        [*turns, {"role": ASSISTANT, "content": "…"}] if asks else turns,
        '"messages"',
        Spelling(roles=OPENAI_ROLES),
        faults,
    )
    return read[:-1], None if asks or not read else read[-1].content


def _single(text: Any, name: str, about: Any, faults: Faults) -> tuple[Message, ...]:
    asked = required_text(text, f'"{name}"', faults)
    about = optional_text(about, '"input"', faults)
    return (Message(USER, f"{asked}{BLANK_LINE}{about}" if about else asked),)


def _of_example(example: Example) -> Answered | Problem:
    question, answer = question_of(example), reference_of(example)
    if answer is None or not question:
        return Problem(example.place, "no instruction with a response")
    return Answered(question=question, answer=answer, place=example.place)


def _name(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """First of `names` with a value in the row, or an empty string."""
    return next((name for name in names if fields.get(name) is not None), "")
