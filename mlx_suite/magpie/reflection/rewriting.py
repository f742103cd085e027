"""A model criticises an instruction or a response and rewrites it.

The criteria are those of Reflection-Tuning (arXiv 2310.11716). Each text is a separate turn of one conversation:

    user: the instruction             user: the instruction
    assistant: (listens)              assistant: the old answer
    user: what could be better?       user: what could be better?
    assistant: criticism              assistant: criticism
    user: rewrite it                  user: rewrite it
    assistant: the new instruction    assistant: the new answer

The entire last turn is the rewrite. Magpie's notebooks search a longer text for markers instead and lose responses (if
the search fails, they save a single letter). A new instruction gets its response in a separate conversation.
"""

import difflib
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlx_suite.engine import Given, Program, Request, Rewind, Sampling, Written
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.engine.program import Segment
from mlx_suite.magpie.drift import flaw_of, words_of
from mlx_suite.magpie.plan import row_seed
from mlx_suite.magpie.sanitiser.request_checks import looks_like_answer
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

Part = Literal["instruction", "answer"]

LISTENING = "I have read your message. What do you want to know about it?"
CRITICISE: Mapping[Part, str] = {
    "instruction": "Do not do yet what my message asks for. Look at the message itself: how complex is it, how much "
    "detail does it give, how much knowledge and reasoning does it take, and what in it can be understood in two ways? "
    "Say briefly what would make it a better message.",
    "answer": "Look at your answer again: does it help with what I asked, is everything in it to the point and right, "
    "and does it go into enough detail? Say briefly what would make it better.",
}
REWRITE: Mapping[Part, str] = {
    "instruction": "Now write the better message, as I would have sent it to you. Write the message and nothing else: "
    "no heading, no comment, no answer.",
    "answer": "Now write the better answer, as if it were the first one. Write the answer and nothing else: no "
    "heading, no comment, no apology.",
}
ALIKE = 0.9
"""Word similarity at which a new instruction counts as unchanged. A response may be corrected in a single word, so it
counts as unchanged only if all words match."""
_PREFACE = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[^\n]{0,40}?[!,.:]\s*)?"
    r"(?:here(?:['’]s| is| are)\b|below is\b|this is\b)?\s*(?:(?:an?|the|my|your|one)\b)?\s*"
    r"(?:better|improved|revised|new|rewritten|updated|refined|corrected)(?: and \w+)? "
    r"(?:version|message|instruction|prompt|question|answer|response)\b[^\n]{0,60}:"
    r"|you(?:['’]re| are) (?:absolutely |quite )?right\b|i apologi[sz]e\b|my apologies\b"
    r"|thank you for (?:your|the) (?:feedback|message)\b",
    re.IGNORECASE,
)
"""A comment on the new text instead of the text."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A row to rewrite."""

    row: int
    question: tuple[Message, ...]
    """The messages up to and including the instruction."""
    answer: str


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """The rewrite of a row's part, as stored in the journal."""

    row: int
    text: str
    """The new instruction or response, even if it cannot be used."""
    answer: str
    """The response to a new instruction; empty if the response itself is rewritten."""
    criticism: str
    problem: str | None
    """Why it cannot be used: `criticism_`, `text_` or `answer_` and a flaw, `unchanged`, `preface`, `template`."""


@dataclass(frozen=True, kw_only=True)
class Rewriter:
    """Rewrites one part of rows with a chat model."""

    chat: ChatModel
    part: Part
    sampling: Sampling
    limits: Mapping[str, int]
    """Token limits of `criticism`, `instruction` and `answer`."""
    seed: int

    def rewrite(self, works: Iterable[Work]) -> Iterator[Rewrite]:
        """Yield the rewrite of each row as it finishes."""
        return self.chat.run(Request(program=self._program(work), seed=row_seed(self.seed, work.row)) for work in works)

    def _program(self, work: Work) -> Program:
        answer = LISTENING if self.part == "instruction" else work.answer
        messages = (*work.question, Message(ASSISTANT, answer), Message(USER, CRITICISE[self.part]))
        prompt = self.chat.prompt(messages)
        if prompt is None:
            return self._failed(work, "template")
        yield Given(prompt)
        criticism, flaw = yield from self._write("criticism", {self.chat.response_end})
        if flaw is not None:
            return self._failed(work, f"criticism_{flaw}", criticism=criticism)
        yield Given(self.chat.follow_up(REWRITE[self.part]))
        text, flaw = yield from self._write(self.part, self.chat.response_ends)
        if flaw is not None:
            return self._failed(work, f"text_{flaw}", text, criticism)
        old = work.answer if self.part == "answer" else work.question[-1].content
        if is_unchanged(old, text, self.part):
            return self._failed(work, "unchanged", text, criticism)
        if _PREFACE.match(text) or (self.part == "instruction" and looks_like_answer(text)):
            return self._failed(work, "preface", text, criticism)
        if self.part == "answer":
            return Rewrite(row=work.row, text=text, answer="", criticism=criticism, problem=None)
        return (yield from self._answered(work, text, criticism))

    def _answered(self, work: Work, text: str, criticism: str) -> Generator[Segment, Any, Rewrite]:
        """Generate the response to a new instruction."""
        prompt = self.chat.prompt((*work.question[:-1], Message(USER, text)))
        if prompt is None:
            return self._failed(work, "template", text, criticism)
        # A rewind keeps at least one token; the first is the same in every conversation.
        yield Rewind(1)
        yield Given(prompt[1:])
        answer, flaw = yield from self._write("answer", self.chat.response_ends)
        problem = None if flaw is None else f"answer_{flaw}"
        return Rewrite(row=work.row, text=text, answer=answer, criticism=criticism, problem=problem)

    def _write(self, what: str, ends: Collection[int]) -> Generator[Segment, Any, tuple[str, str | None]]:
        """Generate one text; returns it with its flaw."""
        written: Written = yield self.chat.response(self.limits[what], self.sampling)
        text = self.chat.text(written)
        return text, flaw_of(written, text, ends)

    def _failed(self, work: Work, problem: str, text: str = "", criticism: str = "") -> Rewrite:
        return Rewrite(row=work.row, text=text, answer="", criticism=criticism, problem=problem)


def is_unchanged(old: str, new: str, part: Part) -> bool:
    """Whether a new text equals the old one, ignoring punctuation, whitespace and case."""
    before, after = words_of(old), words_of(new)
    if before == after or part == "answer":
        return before == after
    return difflib.SequenceMatcher(None, before, after, autojunk=False).ratio() >= ALIKE
