"""The judges' prompts.

A file given with `--prompt` replaces a prompt. It must contain the same fields in braces, except that `{reference}` is
optional. Braces around anything else are plain text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message
from mlx_suite.text.message import SYSTEM, USER

SYSTEM_TEXT = "You grade answers. You are strict, fair and brief, and a longer answer is not a better one."

SCORE = """\
Grade an answer to an instruction with a whole number from 0 to 100.

100: right, complete and to the point. 50: half right, or half of what was asked. 0: wrong, empty or about something
else. Do not reward length, politeness or form for their own sake.

Reply with the number and nothing else.

### Instruction
{instruction}

### A right answer, to compare with
{reference}

### The answer to grade
{answer}

Which number from 0 to 100 does the answer deserve?"""

PAIR = """\
Two assistants, A and B, answered the same instruction. Decide who answered better.

Look at what is right and what was asked for. The order of the two means nothing, and a longer answer is not a better
one.

Reply with one letter, A or B, and nothing else.

### Instruction
{instruction}

### A right answer, to compare with
{reference}

### Answer A
{first}

### Answer B
{second}

Which answer is better, A or B?"""

NO_REFERENCE = re.compile(r"### A right answer, to compare with\n\{reference\}\n\n")
"""Prompt section omitted when there is no reference."""

SCORE_LABELS = tuple(str(score) for score in range(0, 101, 10))
PAIR_LABELS = ("A", "B")

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class JudgePrompt:
    """A judge's prompt template and system text."""

    source: str
    """The template, with fields in braces."""
    system: str = SYSTEM_TEXT

    def fill(self, fields: Mapping[str, str | None]) -> tuple[Message, ...]:
        """The filled-in conversation; without a reference its section is omitted."""
        source = self.source
        if fields.get("reference") is None:
            source = NO_REFERENCE.sub("", source)
        text = _FIELD.sub(
            lambda found: (fields.get(found[1], found[0]) or "") if found[1] in fields else found[0], source
        )
        return (Message(SYSTEM, self.system), Message(USER, text))


SCORE_PROMPT = JudgePrompt(source=SCORE)
PAIR_PROMPT = JudgePrompt(source=PAIR)


def read_prompt(path: Path, required: Sequence[str]) -> JudgePrompt:
    """Read a custom prompt.

    Raises UserError if the file is unreadable or lacks a required field.
    """
    try:
        source = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The prompt cannot be read: {error}", where=str(path), fix="give a UTF-8 text file") from error
    held = set(_FIELD.findall(source))
    missing = [f"{{{name}}}" for name in required if name not in held]
    if missing:
        raise UserError(
            f"The prompt lacks {' and '.join(missing)}",
            where=str(path),
            fix="add each field, in braces, where its text belongs",
        )
    return JudgePrompt(source=source)


def conversation_text(turns: Sequence[Message]) -> str:
    """The conversation as text: a single turn as it is, several turns each with its role."""
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"[{turn.role}] {turn.content}" for turn in turns)
