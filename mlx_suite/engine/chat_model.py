"""A model, its tokenizer and its chat template: prompts, encoded conversations, greedy responses, label preferences."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.data.encode.styles import CHAT, Writer
from mlx_suite.data.example import ToolTurns
from mlx_suite.data.read.formats import fold_tools
from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.data.steering import lead
from mlx_suite.engine.engine import Engine, context_length
from mlx_suite.engine.never_sampled import banning, embedding_rows, untrained
from mlx_suite.engine.program import Given, Program, Queries, Query, Request, Sample, Sampling, Written
from mlx_suite.engine.step import GREEDY
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, EncodedChat, Message, PreQuery, Tokenizer, derive_pre_query, encode_chat
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER
from mlx_suite.text.template import dated

NOT_ENCODED: Mapping[str, str] = {
    "no_instruction": "the row has no user turn with text",
    "template": "the chat template refuses or rewrites the conversation",
    "too_long": "the conversation and a question after it exceed the model's context",
}
"""Reasons why a row cannot be encoded for a model, as stored in the row's `untagged`, with explanations."""
TOO_LONG = "context"
"""Reason of an empty response to a prompt that fills the context."""

LogProbs = tuple[float, ...]
"""Log-probability of each label, in nats."""


@dataclass(frozen=True, kw_only=True)
class EncodedConversation:
    """Token ids of a conversation, from the header to the stop token of its last response."""

    ids: tuple[int, ...]
    instruction_end: int
    """Length up to and including the stop token of the instruction, the first user turn."""
    response: tuple[int, int] | None
    """Start of the last response and index of its stop token; None if there is no final response."""

    @property
    def response_ids(self) -> tuple[int, ...]:
        """Ids of the last response, without its stop token."""
        assert self.response is not None, "a conversation without a response"
        return self.ids[slice(*self.response)]


@dataclass(frozen=True, kw_only=True)
class Response:
    """A generated response."""

    text: str
    reason: str
    """Why it ended: `stop`, `limit` (maximum tokens) or `context` (context full)."""


@dataclass(frozen=True, kw_only=True)
class ChatModel:
    """A model with its tokenizer and chat template."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    """Chat template; None for a model without one, which needs a `style`."""
    model: Any = None
    """Our model or mlx-lm's; None if conversations are only encoded."""
    name: str = ""
    """Name of the checkpoint, for records."""
    folder: Path | None = None
    """Folder of the checkpoint, which may hold the tag questions it was trained on."""
    style: str = CHAT
    """Prompt style, one of `data.encode.styles.STYLES`; a finetuned model uses the one it was trained in."""
    slots: int = 16
    """Batch size of the engine; it does not affect the texts (in fp32)."""
    max_context: int | None = None
    """Maximum sequence length in tokens; None for the model's context."""

    # ---- fixed tokens

    @cached_property
    def context(self) -> int:
        """Maximum tokens of prompt and response together."""
        return self.max_context or context_length(self.model)

    @cached_property
    def turns(self) -> PreQuery:
        """Headers and stop tokens of turns. Raises UserError if they cannot be derived from the template."""
        return derive_pre_query(self.tokenizer, self.own_template)

    @cached_property
    def own_template(self) -> ChatTemplate:
        assert self.template is not None, "this model has no chat template"
        return self.template

    @property
    def response_end(self) -> int:
        """The stop token that the template writes after a response."""
        return self.turns.assistant_stop_ids[0]

    @cached_property
    def response_ends(self) -> frozenset[int]:
        """Stop tokens of a complete response: the template's own and those of the tokenizer."""
        return self.tokenizer.stop_ids | {self.response_end}

    @cached_property
    def response_stops(self) -> tuple[int, ...]:
        """Tokens at which sampling a response stops, the template's own first.

        Beside `response_ends` these are the markers that open turns: a model that begins another turn has ended its
        own. For a style or a template from which no turns can be derived they are `stop_ids`.
        """
        if self.style == CHAT and self.template is not None:
            with suppress(UserError):
                return self.turns.assistant_stop_ids
        return self.stop_ids

    @cached_property
    def never_sampled(self) -> frozenset[int]:
        """Ids that no turn contains: special tokens and those of `never_sampled.untrained`."""
        return self.tokenizer.special_ids | self.untrained

    @cached_property
    def untrained(self) -> frozenset[int]:
        """Ids that no text contains, within a chat template or without one."""
        return untrained(self.model, self.tokenizer)

    @property
    def vocabulary_size(self) -> int:
        """Rows V of the model's embedding; without a model, the tokenizer's number of ids."""
        return embedding_rows(self.model, self.tokenizer)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Stop tokens of a response in this style, the style's own first."""
        own = self._writer.stop_id
        if self.style == CHAT and self.template is not None:
            # The checkpoint's list may lack the template's own stop token.
            with suppress(UserError):
                own = self.response_end
        return (own, *sorted(self._writer.stops - {own}))

    # ---- prompts

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """The prompt for the next response; None if the last turn is not the user's or the template refuses.

        If the template has no system role, a system text becomes a first exchange, as in a Magpie row.
        """
        if not messages or messages[-1].role != USER:
            return None
        try:
            return self.prompt_ids(messages)
        except UserError:
            return None

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids of `prompt`. Raises UserError if the template rejects the messages."""
        turns = fold_tools(messages)
        if turns and turns[0].role == SYSTEM and not self.own_template.takes_system:
            turns = [*lead(self.own_template, turns[0].content), *turns[1:]]
        return tuple(encode_chat(self.tokenizer, self.own_template, turns, add_generation_prompt=True).ids)

    def styled_prompt(
        self, messages: Sequence[Message], context: str = "", tool_turns: ToolTurns | None = None
    ) -> tuple[int, ...]:
        """The prompt for the next response in this model's style; `context` belongs to the first instruction.

        `tool_turns`: the same conversation for a template that takes tools.
        """
        return tuple(self._writer.ask(messages, context, tool_turns))

    def follow_up(self, text: str) -> tuple[int, ...]:
        """Ids that follow a response's stop token: a user turn with `text`, and the header of the next response.

        Raises UserError for a template that does not show where a second turn begins.
        """
        first = (Message(USER, "Hi"),)
        start = self.prompt(first) or ()
        whole = self.prompt((*first, Message(ASSISTANT, "Hello"), Message(USER, text))) or ()
        if not start or whole[: len(start)] != start or self.response_end not in whole[len(start) :]:
            raise UserError(
                "this chat template does not show where a second turn begins",
                where=self.own_template.origin,
                fix="use an instruction-tuned checkpoint with its own template",
            )
        return whole[whole.index(self.response_end, len(start)) + 1 :]

    # ---- encoded conversations

    def encode(self, messages: Sequence[Mapping[str, Any]]) -> EncodedConversation | str:
        """A conversation up to the stop token of its last response, or a key of `NOT_ENCODED`."""
        turns, first = self._turns(messages)
        if first is None:
            return "no_instruction"
        try:
            return self._encoded(turns, first)
        except UserError:
            return "template"

    def encode_whole(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """All ids that the template writes for a conversation; empty if it refuses."""
        try:
            return tuple(encode_chat(self.tokenizer, self.own_template, self._turns(messages)[0]).ids)
        except UserError:
            return ()

    # ---- generation

    def response(self, limit: int, sampling: Sampling, salt: int = 0) -> Sample:
        """A segment that samples a response of at most `limit` tokens, without special tokens."""
        stop = frozenset(self.turns.assistant_stop_ids)
        return Sample(limit=limit, stop=stop, sampling=banning(sampling, self.never_sampled, stop), salt=salt)

    def text(self, written: Written) -> str:
        """The text of a segment without leading and trailing whitespace, which templates remove too."""
        return self.tokenizer.decode(written.tokens).strip()

    def run(self, requests: Iterable[Request]) -> Iterator[Any]:
        """Yield the results of programs as they end."""
        return _results(self.model, requests, self.slots, self.context)

    def respond(self, conversations: Iterable[Sequence[Message]], limit: int) -> Iterator[tuple[int, Response]]:
        """Yield (index, greedy response of at most `limit` tokens) for each conversation, as they end."""
        return self.complete(map(self.styled_prompt, conversations), limit)

    def complete(self, prompts: Iterable[Sequence[int]], limit: int) -> Iterator[tuple[int, Response]]:
        """Like `respond`, for prompts given as token ids."""
        stop = frozenset(self.stop_ids)
        for number, written in greedy_completions(
            self.model,
            prompts,
            limit=limit,
            stop=stop,
            slots=self.slots,
            context=self.context,
            banned=self.untrained - stop,
        ):
            yield number, Response(text=self.tokenizer.decode(written.tokens), reason=written.reason)

    def preferences(
        self, conversations: Iterable[Sequence[Message]], labels: Sequence[str]
    ) -> Iterator[tuple[int, LogProbs | None]]:
        """Yield (index, log-probability of each label as the complete response); None if the context is too short.

        The stop token is part of a label, so no label is a prefix of another: "10" is not "100".
        """
        ends = self.stop_ids[:1]
        encoded = tuple((*self.tokenizer.encode(label), *ends) for label in labels)
        return label_log_probs(
            self.model, map(self.styled_prompt, conversations), encoded, slots=self.slots, context=self.context
        )

    def facts(self) -> dict[str, Any]:
        """Everything that determines this model's texts, for a resume guard: weights, template, stop tokens."""
        return {
            "model": self.name,
            "weights": weights_digest(self.model),
            "template": hashlib.sha256(self.own_template.source.encode()).hexdigest()[:12],
            "stop_ids": sorted(self.response_ends),
        }

    def with_fixed_date(self) -> "ChatModel":
        """This model with a fixed date in its template, so that a stage can be resumed on another day."""
        return replace(self, template=dated(self.own_template))

    @cached_property
    def _writer(self) -> Writer:
        return Writer(style=self.style, tokenizer=self.tokenizer, template=self.template)

    def _turns(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[Message], int | None]:
        """The messages in the form that the template accepts, and the index of the instruction."""
        turns = fold_tools([Message(str(each["role"]), spoken_text(each)) for each in messages])
        before: tuple[Message, ...] = ()
        if turns and turns[0].role == SYSTEM and not self.own_template.takes_system:
            before = lead(self.own_template, turns.pop(0).content)
        first = next((place for place, turn in enumerate(turns) if turn.role == USER), None)
        if first is None or not turns[first].content.strip():
            return [*before, *turns], None
        return [*before, *turns], first + len(before)

    def _encoded(self, turns: Sequence[Message], first: int) -> EncodedConversation | str:
        chat = encode_chat(self.tokenizer, self.own_template, turns)
        instruction_end = _turn_end(chat, first, self.turns.user_stop_ids[0])
        if instruction_end is None:
            return "template"
        last = len(turns) - 1
        if turns[last].role != ASSISTANT or last not in chat.owner:  # no response, or an empty one
            return EncodedConversation(
                ids=tuple(chat.ids[:instruction_end]), instruction_end=instruction_end, response=None
            )
        end = _turn_end(chat, last, self.response_end)
        if end is None or last < first:
            return "template"
        return EncodedConversation(
            ids=tuple(chat.ids[:end]), instruction_end=instruction_end, response=(chat.owner.index(last), end - 1)
        )


def greedy_completions(
    model: Any,
    prompts: Iterable[Sequence[int]],
    *,
    limit: int,
    stop: frozenset[int],
    slots: int,
    context: int,
    banned: Collection[int] = (),
) -> Iterator[tuple[int, Written]]:
    """Yield (index, greedy completion of at most `limit` tokens) for each prompt, as they end."""
    sampling = banning(GREEDY, banned, stop)

    def program(number: int, prompt: Sequence[int]) -> Program:
        yield Given(tuple(prompt))
        return number, (yield Sample(limit=limit, stop=stop, sampling=sampling))

    requests = (Request(program=program(number, prompt)) for number, prompt in enumerate(prompts))
    return _results(model, requests, slots, context)


def label_log_probs(
    model: Any, prompts: Iterable[Sequence[int]], labels: Sequence[Sequence[int]], *, slots: int, context: int
) -> Iterator[tuple[int, LogProbs | None]]:
    """Yield (index, log-probability of each label after the prompt) as they end; None if the context is too short."""
    query = Queries((Query(tokens=(), labels=tuple(map(tuple, labels))),))
    longest = max(map(len, labels))

    def program(number: int, prompt: Sequence[int]) -> Program:
        if len(prompt) + longest > context:
            return number, None
        yield Given(tuple(prompt))
        [reply] = yield query
        return number, reply.log_probs

    requests = (Request(program=program(number, prompt)) for number, prompt in enumerate(prompts))
    return _results(model, requests, slots, context)


def _results(model: Any, requests: Iterable[Request], slots: int, context: int) -> Iterator[Any]:
    for done in Engine(model, slots=slots, context=context).run(requests):
        yield done.result


def _turn_end(chat: EncodedChat, turn: int, stop: int) -> int | None:
    """Length up to and including a turn's stop token; None if the template writes something else there."""
    if turn not in chat.owner:
        return None
    end = max(place for place, owner in enumerate(chat.owner) if owner == turn) + 1
    return end + 1 if chat.ids[end : end + 1] == [stop] else None
