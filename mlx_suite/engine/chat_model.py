"""A row's conversation in a checkpoint's own tokens, with the places behind its instruction and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlx_suite.data.read.formats import fold_tools
from mlx_suite.data.steering import lead
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, EncodedChat, Message, PreQuery, Tokenizer, derive_pre_query, encode_chat
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

UNSPOKEN: Mapping[str, str] = {
    "no_instruction": "the row has no user's turn with text in it",
    "template": "the chat template refuses or rewrites the conversation",
    "too_long": "the conversation and a question behind it are longer than the model's context",
}
"""Why a row cannot be put to a model, as it stands in a row's `untagged`, and what it says."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One conversation, from the header to the stop token of its last answer."""

    ids: tuple[int, ...]
    asked: int
    """How many of them end with the stop token of the instruction, the first user's turn."""
    answer: tuple[int, int] | None
    """First token of the last answer, and where its stop token is; None where the conversation ends without one."""

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The answer without its stop token."""
        assert self.answer is not None, "a conversation without an answer"
        return self.ids[slice(*self.answer)]


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """How a checkpoint is spoken to."""

    tokenizer: Tokenizer
    template: ChatTemplate
    context: int
    """Tokens that a text may have."""
    name: str = ""
    """Of the checkpoint, for the record."""

    @cached_property
    def turns(self) -> PreQuery:
        """Stop tokens and headers. Raises UserError where the template does not show them."""
        return derive_pre_query(self.tokenizer, self.template)

    def speak(self, messages: Sequence[Mapping[str, Any]]) -> Spoken | str:
        """The conversation up to its last answer's stop token, or one of `UNSPOKEN`."""
        turns, first = self._turns(messages)
        if first is None:
            return "no_instruction"
        try:
            return self._spoken(turns, first)
        except UserError:
            return "template"

    def whole(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """The conversation as the template writes it, to its end; nothing where the template refuses it."""
        try:
            return tuple(encode_chat(self.tokenizer, self.template, self._turns(messages)[0]).ids)
        except UserError:
            return ()

    def _turns(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[Message], int | None]:
        """The messages as the template takes them, and the number of the instruction."""
        turns = fold_tools([Message(str(each["role"]), str(each["content"])) for each in messages])
        before: tuple[Message, ...] = ()
        if turns and turns[0].role == SYSTEM and not self.template.takes_system:
            before = lead(self.template, turns.pop(0).content)
        first = next((place for place, turn in enumerate(turns) if turn.role == USER), None)
        if first is None or not turns[first].content.strip():
            return [*before, *turns], None
        return [*before, *turns], first + len(before)

    def _spoken(self, turns: Sequence[Message], first: int) -> Spoken | str:
        chat = encode_chat(self.tokenizer, self.template, turns)
        asked = self._end(chat, first, self.turns.user_stop_ids[0])
        if asked is None:
            return "template"
        last = len(turns) - 1
        if turns[last].role != ASSISTANT or last not in chat.owner:  # none, or an empty one
            return Spoken(ids=tuple(chat.ids[:asked]), asked=asked, answer=None)
        end = self._end(chat, last, self.turns.assistant_stop_ids[0])
        if end is None or last < first:
            return "template"
        return Spoken(ids=tuple(chat.ids[:end]), asked=asked, answer=(chat.owner.index(last), end - 1))

    def _end(self, chat: EncodedChat, number: int, stop: int) -> int | None:
        """The place behind a turn's stop token; None where the template puts something else behind the turn."""
        if number not in chat.owner:
            return None
        place = max(place for place, owner in enumerate(chat.owner) if owner == number) + 1
        return place + 1 if chat.ids[place : place + 1] == [stop] else None
