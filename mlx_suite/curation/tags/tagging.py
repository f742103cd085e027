"""Tag a conversation by queries on a fork of its KV cache; a tag is the most probable label.

Nothing is generated, so nothing has to be parsed. A question follows the conversation as the user's next turn, in the
checkpoint's own template:

    … instruction <stop> | listening turn, question, generation prompt | label
    … response <stop>    | question, generation prompt                 | label

The tokens between the bars are fed on the fork; the row's own sequence is unchanged.

A label is cut to its shortest prefix that no other label shares. A full label's probability is the product over its
tokens, which favours short labels, and tokens after the point where a label is unique carry no information. Cut this
way, labels exclude each other, most are a single token, and all questions fit into one forward pass.
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
from mlx_suite.engine import Given, Program, Queries, Query, Reply
from mlx_suite.engine.chat_model import EncodedConversation
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, EncodedChat, Message, PreQuery, TemplateRefusal, Tokenizer, derive_pre_query
from mlx_suite.text.chat import encode_chat
from mlx_suite.text.message import ASSISTANT, USER

Replies = Sequence[Reply] | None
"""Replies to `Queries`; None if they did not fit in the context."""
Tokens = tuple[int, ...]
_INSTRUCTION, _RESPONSE = Message(USER, "What is 2 + 2?"), Message(ASSISTANT, "4")
"""Placeholder turns before a question while its tokens are derived; their texts do not matter."""


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A label the model chose."""

    label: str
    confidence: float
    """Probability among the question's labels, rounded to three decimals."""


@dataclass(frozen=True, kw_only=True)
class Tagger:
    """Questions in a checkpoint's own tokens; see `make_tagger`."""

    questions: Questions
    embed: bool
    """Whether the last query on the instruction returns an embedding."""
    instruction: Queries
    """Queries for a sequence that ends with the instruction's stop token. Must not be run if empty."""
    answer: Queries
    """Queries for a sequence that ends with the response's stop token. Must not be run if empty."""

    def instruction_tags(self, replies: Replies) -> dict[str, Tag]:
        """Tags by question; empty if the queries did not fit in the context."""
        return self._tags("instruction", replies)

    def answer_tags(self, replies: Replies) -> dict[str, Tag]:
        """Tags by question; empty if the queries did not fit in the context."""
        return self._tags("answer", replies)

    def embedding(self, replies: Replies) -> npt.NDArray[np.float32] | None:
        """Embedding of the instruction, a unit vector (d,), from the replies to `instruction`."""
        if not self.embed or not replies:
            return None
        state = replies[-1].state
        assert state is not None, "the last query returns a state"
        unit: npt.NDArray[np.float32] = (state / np.linalg.norm(state)).astype(np.float32)
        return unit

    def _tags(self, about: About, replies: Replies) -> dict[str, Tag]:
        questions = self.questions.about(about)
        return {question.name: _tag(question, reply) for question, reply in zip(questions, replies or (), strict=False)}


def make_tagger(tokenizer: Tokenizer, template: ChatTemplate, questions: Questions, *, embed: bool) -> Tagger:
    """Encode questions as the checkpoint's own template would render them after a conversation.

    With `embed`, the last query on the instruction returns the hidden state from which the response would start. It
    represents the full message, like the last state of a prompt to sum it up in one word (arXiv 2307.16645), but needs
    no prompt and costs nothing: every question passes through it.

    Raises UserError if the template does not show where turns begin and end or alters their text, and if two labels
    have the same tokens.
    """
    encoder = _QuestionEncoder(tokenizer=tokenizer, template=template, turns=derive_pre_query(tokenizer, template))
    about_instruction = [encoder.query(questions, question) for question in questions.about("instruction")]
    if embed:
        about_instruction.append(Query(tokens=encoder.turns.to_assistant_ids, state=True))
    about_answer = tuple(encoder.query(questions, question) for question in questions.about("answer"))
    return Tagger(
        questions=questions, embed=embed, instruction=Queries(tuple(about_instruction)), answer=Queries(about_answer)
    )


def questions_for(checkpoint_folder: Path | None, given: Path | None = None) -> Questions:
    """Questions of the given file, else those the checkpoint was trained on, else `FULL_QUESTIONS`.

    Raises UserError for a file without valid questions.
    """
    if given is not None:
        return read_questions(given)
    own = None if checkpoint_folder is None else checkpoint_folder / QUESTIONS_FILE
    return read_questions(own) if own is not None and own.is_file() else FULL_QUESTIONS


def only(questions: Questions, names: Sequence[str]) -> Questions:
    """The questions with these names, in their original order. Raises UserError for unknown names."""
    known = [question.name for question in questions.questions]
    problems = [f"{name}: {_nearest(name, known)}" for name in names if name not in known]
    if problems:
        raise UserError("No such question", where="the questions", fix="correct the names", details=problems)
    return replace(questions, questions=tuple(each for each in questions.questions if each.name in names))


def probabilities(log_probs: Sequence[float]) -> list[float]:
    """Softmax over the labels' log-probabilities."""
    top = max(log_probs)
    weights = [exp(each - top) for each in log_probs]
    return [weight / sum(weights) for weight in weights]


def unique_prefixes(labels: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """Each label's shortest prefix that no other label shares. No label may equal or be a prefix of another."""
    return tuple(
        next(
            label[:size]
            for size in range(1, len(label) + 1)
            if sum(other[:size] == label[:size] for other in labels) == 1
        )
        for label in labels
    )


def ask_row(encoded: EncodedConversation, taggers: Sequence[Tagger]) -> Program:
    """Program that feeds a conversation once and asks every tagger's questions about it.

    Returns the tags by question for each tagger; None if a question does not fit in the context. Questions
    about the response are skipped if there is none.
    """
    tags: list[dict[str, Tag]] = [{} for _ in taggers]
    end = encoded.instruction_end
    parts = [(encoded.ids[:end], [(tagger.instruction, tagger.instruction_tags) for tagger in taggers])]
    if encoded.response is not None:
        parts.append((encoded.ids[end:], [(tagger.answer, tagger.answer_tags) for tagger in taggers]))
    for tokens, asked in parts:
        yield Given(tokens)
        queries = tuple(query for segment, _ in asked for query in segment.queries)
        if not queries:
            continue
        replies = yield Queries(queries)
        if replies is None:
            return None
        for own_tags, (segment, read) in zip(tags, asked, strict=True):
            own, replies = replies[: len(segment.queries)], replies[len(segment.queries) :]
            own_tags |= read(own)
    return tags


def _tag(question: Question, reply: Reply) -> Tag:
    assert reply.index is not None, "a question has labels"
    confidence = probabilities(reply.log_probs)[reply.index]
    return Tag(label=question.labels[reply.index], confidence=round(confidence, 3))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"


@dataclass(frozen=True, kw_only=True)
class _QuestionEncoder:
    """Encodes questions in a checkpoint's chat template."""

    tokenizer: Tokenizer
    template: ChatTemplate
    turns: PreQuery

    def query(self, questions: Questions, question: Question) -> Query:
        if question.about == "instruction":
            tokens = self.after_instruction(questions, question.text)
        else:
            tokens = self.after_response(question.text)
        return Query(tokens=tokens, labels=self.labels(question))

    def after_instruction(self, questions: Questions, text: str) -> Tokens:
        """Tokens after an instruction's stop token: listening turn, question, generation prompt."""
        return self._following((_INSTRUCTION, Message(ASSISTANT, questions.listening), Message(USER, text)), 0)

    def after_response(self, text: str) -> Tokens:
        """Tokens after a response's stop token: question, generation prompt."""
        return self._following((_INSTRUCTION, _RESPONSE, Message(USER, text)), 1)

    def labels(self, question: Question) -> tuple[Tokens, ...]:
        """Distinguishing tokens of each label. The stop token is part of a label: "Other" is not "Others"."""
        stop = self.turns.assistant_stop_ids[0]
        labels: dict[Tokens, str] = {}
        for label in question.labels:
            conversation = (Message(USER, question.text), Message(ASSISTANT, label), Message(USER, question.text))
            tokens = (*self._reply(conversation), stop)
            self._require(tokens not in labels, f"{label!r} and {labels.get(tokens)!r} have the same tokens")
            labels[tokens] = label
        return unique_prefixes(tuple(labels))

    def _reply(self, conversation: Sequence[Message]) -> Tokens:
        """Tokens of turn 1 after its header, including any space that the template inserts."""
        chat = self._encode(conversation)
        begin, places = self._end(chat, conversation, 0), self._places(chat, conversation, 1)
        prompt = self.turns.to_assistant_ids
        if tuple(chat.ids[begin : begin + len(prompt)]) == prompt:
            return tuple(chat.ids[begin + len(prompt) : places[-1] + 1])
        # Past responses have a different header than the generation prompt.
        return tuple(chat.ids[place] for place in places)

    def _following(self, conversation: Sequence[Message], last: int) -> Tokens:
        """Tokens after the stop token of turn `last`, up to where a reply begins."""
        turns = self.turns
        chat = self._encode(conversation, prompt=True)
        begin = self._end(chat, conversation, last)
        end = self._end(chat, conversation, len(conversation) - 1)
        prompt = tuple(chat.ids[end:])
        # A template may have no generation prompt, or only part of one.
        self._require(turns.to_assistant_ids[: len(prompt)] == prompt, "the generation prompt depends on the turns")
        head = len(turns.header_ids)
        self._require(tuple(chat.ids[:head]) == turns.header_ids, "the header depends on the turns")
        return (*chat.ids[begin:end], *turns.to_assistant_ids)

    def _end(self, chat: EncodedChat, conversation: Sequence[Message], number: int) -> int:
        """Position after the stop token of a turn."""
        stops = self.turns.user_stop_ids if conversation[number].role == USER else self.turns.assistant_stop_ids
        place = self._places(chat, conversation, number)[-1] + 1
        self._require(chat.ids[place : place + 1] == [stops[0]], "a turn does not end with its stop token")
        return place + 1

    def _places(self, chat: EncodedChat, conversation: Sequence[Message], number: int) -> list[int]:
        """Positions of the tokens of a turn's content; checks that they are contiguous and complete."""
        places = [place for place, owner in enumerate(chat.owner) if owner == number]
        text = conversation[number].content
        rendered = self.tokenizer.decode([chat.ids[place] for place in places])
        self._require(rendered.strip() == text.strip(), f"it renders {text!r} as {rendered!r}")
        self._require(places == list(range(places[0], places[-1] + 1)), f"it does not keep {text!r} in one piece")
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
            f"This chat template cannot be used for questions about a turn: {problem}",
            where=self.template.origin,
            fix="use an instruction-tuned checkpoint with its own template, or correct the template",
        )
