"""Tags that a model gives to a conversation it holds: questions asked aside, answered by the most probable label.

Nothing is generated, so nothing has to be parsed. A question stands behind the conversation as a user's next turn,
with the checkpoint's own template around it:

    … instruction <stop> | listening turn, question, generation prompt | label
    … answer <stop>      | question, generation prompt                 | label

What is between the bars is fed aside: the row's keys and values are used and stay as they were.

A label is cut to its shortest beginning that no other label shares. A whole label's probability is the product over
its tokens, which would favour short ones; behind the point where a label is the only one left its tokens say nothing.
So cut, labels exclude each other, most of them are a single token, and all questions fit into one forward pass.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS
from mlx_suite.data.questions import QUESTIONS_FILE, About, Question, Questions, read_questions
from mlx_suite.engine import Aside, Query, Reply
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, EncodedChat, Message, PreQuery, TemplateRefusal, Tokenizer, derive_pre_query
from mlx_suite.text.chat import encode_chat
from mlx_suite.text.message import ASSISTANT, USER

Replies = Sequence[Reply] | None
"""What an aside became; None where the context had no room for it."""
Tokens = tuple[int, ...]
ASKED, ANSWERED = Message(USER, "What is 2 + 2?"), Message(ASSISTANT, "4")
"""What stands before a question while its tokens are looked up; which texts they are makes no difference."""


@dataclass(frozen=True, kw_only=True)
class Tag:
    """What the model says."""

    label: str
    confidence: float
    """Its probability among the question's labels, with three decimals."""


@dataclass(frozen=True, kw_only=True)
class Tagger:
    """Questions in a checkpoint's own tokens. Made by `make_tagger`."""

    questions: Questions
    embed: bool
    """Whether the last of the queries about the instruction asks for an embedding."""
    instruction: Aside
    """Asked where the sequence ends with the instruction's stop token. Not to be asked without queries."""
    answer: Aside
    """Asked where the sequence ends with the answer's stop token. Not to be asked without queries."""

    def instruction_tags(self, replies: Replies) -> dict[str, Tag]:
        """Tags by the names of their questions; none where there was no room to ask."""
        return self._tags("instruction", replies)

    def answer_tags(self, replies: Replies) -> dict[str, Tag]:
        """Tags by the names of their questions; none where there was no room to ask."""
        return self._tags("answer", replies)

    def embedding(self, replies: Replies) -> npt.NDArray[np.float32] | None:
        """What the instruction is about, a unit vector (d,), from the replies to `instruction`."""
        if not self.embed or not replies:
            return None
        state = replies[-1].state
        assert state is not None, "the last query asks for a state"
        unit: npt.NDArray[np.float32] = (state / np.linalg.norm(state)).astype(np.float32)
        return unit

    def _tags(self, about: About, replies: Replies) -> dict[str, Tag]:
        questions = self.questions.about(about)
        return {question.name: _tag(question, reply) for question, reply in zip(questions, replies or (), strict=False)}


def make_tagger(tokenizer: Tokenizer, template: ChatTemplate, questions: Questions, *, embed: bool) -> Tagger:
    """The questions as the checkpoint's own template would put them behind a conversation.

    With `embed` the last query about the instruction asks for the hidden state from which the answer would begin. It
    stands for the whole message, as the last state does that is to sum it up in a word (arXiv 2307.16645); here nothing
    is asked for it, and it costs nothing: every question passes through it.

    Raises UserError where the template does not show where the turns begin and end, or shows another text than it was
    given, and where two labels are the same to the tokenizer.
    """
    asker = _Asker(tokenizer=tokenizer, template=template, turns=derive_pre_query(tokenizer, template))
    about_instruction = [asker.query(questions, question) for question in questions.about("instruction")]
    if embed:
        about_instruction.append(Query(tokens=asker.turns.to_assistant_ids, state=True))
    about_answer = tuple(asker.query(questions, question) for question in questions.about("answer"))
    return Tagger(
        questions=questions, embed=embed, instruction=Aside(tuple(about_instruction)), answer=Aside(about_answer)
    )


def questions_for(checkpoint_folder: Path | None, given: Path | None = None) -> Questions:
    """Those of the file that is given; else those the checkpoint was trained on; else `FULL_QUESTIONS`.

    Raises UserError for a file that holds no questions.
    """
    if given is not None:
        return read_questions(given)
    own = None if checkpoint_folder is None else checkpoint_folder / QUESTIONS_FILE
    return read_questions(own) if own is not None and own.is_file() else FULL_QUESTIONS


def only(questions: Questions, names: Sequence[str]) -> Questions:
    """Those of these names, in the order in which they are asked. Raises UserError for names that there are not."""
    known = [question.name for question in questions.questions]
    problems = [f"{name}: {_nearest(name, known)}" for name in names if name not in known]
    if problems:
        raise UserError("There is no such question", where="the questions", fix="name some of those", details=problems)
    return replace(questions, questions=tuple(each for each in questions.questions if each.name in names))


def probabilities(log_probs: Sequence[float]) -> list[float]:
    """Of each label among all of them, in the order of the question's labels."""
    top = max(log_probs)
    weights = [exp(each - top) for each in log_probs]
    return [weight / sum(weights) for weight in weights]


def distinguished(labels: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """Each label's shortest beginning that is the beginning of no other. They must differ and none begin another."""
    return tuple(
        next(
            label[:size]
            for size in range(1, len(label) + 1)
            if sum(other[:size] == label[:size] for other in labels) == 1
        )
        for label in labels
    )


def _tag(question: Question, reply: Reply) -> Tag:
    assert reply.index is not None, "a question has labels"
    confidence = probabilities(reply.log_probs)[reply.index]
    return Tag(label=question.labels[reply.index], confidence=round(confidence, 3))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"


@dataclass(frozen=True, kw_only=True)
class _Asker:
    """A checkpoint's way of writing a turn."""

    tokenizer: Tokenizer
    template: ChatTemplate
    turns: PreQuery

    def query(self, questions: Questions, question: Question) -> Query:
        if question.about == "instruction":
            tokens = self.behind_instruction(questions, question.text)
        else:
            tokens = self.behind_answer(question.text)
        return Query(tokens=tokens, labels=self.labels(question))

    def behind_instruction(self, questions: Questions, text: str) -> Tokens:
        """From behind an instruction's stop token: the listening turn, the question, the prompt for a reply."""
        return self._aside((ASKED, Message(ASSISTANT, questions.listening), Message(USER, text)), 0)

    def behind_answer(self, text: str) -> Tokens:
        """From behind an answer's stop token: the question and the prompt for a reply."""
        return self._aside((ASKED, ANSWERED, Message(USER, text)), 1)

    def labels(self, question: Question) -> tuple[Tokens, ...]:
        """What tells each label from the others. The end of the turn belongs to a label: "Other" is not "Others"."""
        stop = self.turns.assistant_stop_ids[0]
        found: dict[Tokens, str] = {}
        for label in question.labels:
            conversation = (Message(USER, question.text), Message(ASSISTANT, label), Message(USER, question.text))
            tokens = (*self._reply(conversation), stop)
            self._require(tokens not in found, f"to the tokenizer {label!r} and {found.get(tokens)!r} are the same")
            found[tokens] = label
        return distinguished(tuple(found))

    def _reply(self, conversation: Sequence[Message]) -> Tokens:
        """The tokens of turn number 1 from where a reply begins: a space that the template puts there is one."""
        chat = self._encode(conversation)
        begin, places = self._end(chat, conversation, 0), self._places(chat, conversation, 1)
        prompt = self.turns.to_assistant_ids
        if tuple(chat.ids[begin : begin + len(prompt)]) == prompt:
            return tuple(chat.ids[begin + len(prompt) : places[-1] + 1])
        return tuple(chat.ids[place] for place in places)  # replies have another prompt than answers given before

    def _aside(self, conversation: Sequence[Message], last: int) -> Tokens:
        """The tokens behind turn number `last` and its stop token, up to where the reply begins."""
        turns = self.turns
        chat = self._encode(conversation, prompt=True)
        begin = self._end(chat, conversation, last)
        end = self._end(chat, conversation, len(conversation) - 1)
        prompt = tuple(chat.ids[end:])
        # A template may know no prompt, or a part of it.
        self._require(turns.to_assistant_ids[: len(prompt)] == prompt, "the prompt for a reply depends on the turns")
        head = len(turns.header_ids)
        self._require(tuple(chat.ids[:head]) == turns.header_ids, "the header depends on the turns")
        return (*chat.ids[begin:end], *turns.to_assistant_ids)

    def _end(self, chat: EncodedChat, conversation: Sequence[Message], number: int) -> int:
        """The place behind the stop token of a turn."""
        stops = self.turns.user_stop_ids if conversation[number].role == USER else self.turns.assistant_stop_ids
        place = self._places(chat, conversation, number)[-1] + 1
        self._require(chat.ids[place : place + 1] == [stops[0]], "a turn does not end with its stop token")
        return place + 1

    def _places(self, chat: EncodedChat, conversation: Sequence[Message], number: int) -> list[int]:
        """Where the tokens of a turn's content stand, in one piece and whole."""
        places = [place for place, owner in enumerate(chat.owner) if owner == number]
        text = conversation[number].content
        said = self.tokenizer.decode([chat.ids[place] for place in places])
        self._require(said.strip() == text.strip(), f"where {text!r} belongs stands {said!r}")
        self._require(places == list(range(places[0], places[-1] + 1)), f"{text!r} is not in one piece")
        return places

    def _encode(self, conversation: Sequence[Message], prompt: bool = False) -> EncodedChat:
        try:
            return encode_chat(self.tokenizer, self.template, conversation, add_generation_prompt=prompt)
        except TemplateRefusal as error:
            raise self._failure(error.what) from error

    def _require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise self._failure(otherwise)

    def _failure(self, problem: str) -> UserError:
        return UserError(
            f"no question can be asked behind a turn of this chat template: {problem}",
            where=self.template.origin,
            fix="use an instruction-tuned checkpoint with its own template, or mend the template",
        )
