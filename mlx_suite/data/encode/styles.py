"""Prompt styles: a model's own chat template, or one of three plain-text templates.

    chat      the model's chat template
    alpaca    ### Instruction: … ### Input: … ### Response: …   (Stanford Alpaca; Raschka, Build a Large Language Model,
              chapter 7)
    phi3      <|user|> … <|assistant|> …                        (the same chapter's second style, as its text shows it;
              the solution of exercise 7.1 writes `<|assistant|>:` instead, without the blank line before it)
    plain     the response directly after the prompt

A text style is a chat template too. It is saved with the models trained on it, so that prompts at inference have the
format of training.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from mlx_suite.data.encode.responses import with_whole_responses
from mlx_suite.data.example import ToolTurns
from mlx_suite.data.read.conversation import TOOL
from mlx_suite.data.read.formats import fold_tools
from mlx_suite.data.read.tool_turns import one_call_each
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, EncodedChat, Message, TemplateRefusal, Tokenizer, fold_system
from mlx_suite.text.chat import Turn, chat_pieces, turn_pieces
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER
from mlx_suite.text.pieces import DEFINITIONS, Piece
from mlx_suite.text.reasoning import CLOSE, OPEN, split_reasoning, with_reasoning

T = TypeVar("T")

CHAT = "chat"
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
"""Default system prompt of the Alpaca style."""
BLANK_LINE = "\n\n"
MARKERS = (
    *("[INST]", "[/INST]", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<｜User｜>", "<｜Assistant｜>"),
)
"""What chat templates of common families write around turns."""
REASONING = "reasoning_content"
"""Key of a turn's reasoning in OpenAI's form, as templates read it."""

_SYSTEM, _QUESTION, _ANSWER = Message(SYSTEM, "Be brief."), Message(USER, "Hi"), Message(ASSISTANT, "Hello")


_PROGRAM = """\
{%- for message in messages %}
{%- if message['role'] not in headers %}{{- raise_exception('no role ' + message['role']) }}{% endif %}
{%- if not loop.first %}{{- between[message['role']] }}
{%- elif opening and message['role'] != 'system' %}{{- opening + between[message['role']] }}{% endif %}
{{- headers[message['role']] + CONTENT }}
{%- if message['role'] == 'assistant' %}{{- stop }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- between['assistant'] + headers['assistant'] }}{% endif %}
"""


@dataclass(frozen=True, kw_only=True)
class TextStyle:
    """A plain-text template."""

    headers: Mapping[str, str]
    """Text before the content of a turn, by role."""
    before_answer: str = BLANK_LINE
    """Separator between an instruction and the header of its response; other turns are separated by a blank line."""
    opening: str = ""
    """Text at the start of a conversation without a system prompt."""
    context: str = BLANK_LINE
    """Separator between the first instruction and its context."""
    trims: bool = True
    """Whether contents are stripped of surrounding whitespace, as in most chat templates."""

    def template(self, name: str, bos: str, stop: str) -> ChatTemplate:
        """The style as a chat template, with `bos` at the start and `stop` after each response."""
        texts = {
            "headers": self.headers,
            "between": dict.fromkeys(self.headers, BLANK_LINE) | {ASSISTANT: self.before_answer},
            "opening": self.opening,
            "stop": stop,
        }
        lines = [f"{{%- set {key} = {json.dumps(value, ensure_ascii=False)} %}}" for key, value in texts.items()]
        program = _PROGRAM.replace("CONTENT", "message['content'] | trim" if self.trims else "message['content']")
        begin = [f"{{{{- {json.dumps(bos)} }}}}"] if bos else []
        return ChatTemplate(source="\n".join([*lines, *begin, program]), special_tokens={}, origin=f"style {name}")


TEXT_STYLES: Mapping[str, TextStyle] = {
    "alpaca": TextStyle(
        headers={SYSTEM: "", USER: "### Instruction:\n", ASSISTANT: "### Response:\n"},
        opening=PREAMBLE,
        context="\n\n### Input:\n",
    ),
    "phi3": TextStyle(
        headers={SYSTEM: "<|system|>\n", USER: "<|user|>\n", ASSISTANT: "<|assistant|>\n"},
        context="\n",
    ),
    # Not trimmed: a leading space belongs to the completion.
    "plain": TextStyle(headers={SYSTEM: "", USER: "", ASSISTANT: ""}, before_answer="", trims=False),
}
STYLES = (CHAT, *TEXT_STYLES)


@dataclass(frozen=True, kw_only=True)
class WrittenChat:
    """A conversation as a style writes it."""

    turns: list[Message]
    chat: EncodedChat
    """Tokens; owners are indices of `turns`."""
    cut: int = 0
    """Turns of which the template drops text, such as the reasoning of earlier turns."""
    tools_as_text: bool = False
    """Whether tool definitions and calls were written as text, because the template has no words for them."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes conversations for one model in one style. Which roles the template supports is tested once."""

    style: str
    """One of STYLES."""
    tokenizer: Tokenizer
    template: ChatTemplate | None = None
    """The model's own chat template, for the style `chat`; None for a base model."""
    reasoning: bool = True
    """Whether the reasoning before a response is written."""
    read_special_tokens: bool = False
    """Whether names of special tokens in the texts are read as these tokens."""

    def write(self, messages: Sequence[Message], context: str = "", tool_turns: ToolTurns | None = None) -> WrittenChat:
        """The turns as written, and their tokens. `tool_turns`: the same conversation for a template that takes tools.

        A response owns everything from where its generation prompt ends to its last letter. Turns whose role the
        template does not support are folded into others. Raises UserError if the template rejects the conversation or
        omits a turn.
        """
        if tool_turns is not None and self.takes_tools:
            return self._with_few_calls(tool_turns, self._written_tools)
        prepared = self._folded(self._with_context(map(self._reasoned, messages), context))
        return self._written(prepared, [_as_turn(message) for message in prepared], None, tool_turns is not None)

    def _with_few_calls(self, chat: ToolTurns, write: Callable[[ToolTurns], T]) -> T:
        """`write` of the conversation, with one call in a turn if the template refuses several."""
        try:
            return write(chat)
        except TemplateRefusal:
            split = one_call_each(chat.turns)
            if len(split) == len(chat.turns):
                raise
            numbers, turns = zip(*split, strict=True)
            return write(replace(chat, turns=turns, trained=tuple(chat.trained[number] for number in numbers)))

    def _written_tools(self, chat: ToolTurns) -> WrittenChat:
        messages, turns = self._as_messages(chat)
        return self._written(messages, turns, list(chat.tools) or None, False)

    def _asked_tools(self, chat: ToolTurns) -> list[int]:
        _, turns = self._as_messages(chat)
        return self._encoded(self._pieces(turns, list(chat.tools) or None, add_generation_prompt=True)).ids

    def _as_messages(self, chat: ToolTurns) -> tuple[list[Message], list[dict[str, Any]]]:
        """The turns as messages and in OpenAI's form, with reasoning where this writer puts it."""
        turns = [
            {key: value for key, value in turn.items() if self.reasoning or key != REASONING} for turn in chat.turns
        ]
        messages = [
            self._reasoned(Message(turn["role"], turn["content"], is_trained, turn.get(REASONING, "")))
            for turn, is_trained in zip(turns, chat.trained, strict=True)
        ]
        return messages, [turn | _as_turn(message) for turn, message in zip(turns, messages, strict=True)]

    def _written(
        self, messages: list[Message], turns: Sequence[Turn], tools: Sequence[Turn] | None, as_text: bool
    ) -> WrittenChat:
        pieces = self._pieces(turns, tools)
        _check_complete(pieces, messages, self.program)
        cut = sum(_is_cut(message, number, pieces) for number, message in enumerate(messages))
        if self.style == CHAT:
            pieces = with_whole_responses(
                pieces,
                [number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT],
                lambda number: self._pieces(turns[:number], tools, add_generation_prompt=True),
            )
        return WrittenChat(turns=messages, chat=self._encoded(pieces), cut=cut, tools_as_text=as_text)

    def ask(self, messages: Sequence[Message], context: str = "", tool_turns: ToolTurns | None = None) -> list[int]:
        """Token ids of the prompt, up to where the response begins. `tool_turns`: as in `write`."""
        if tool_turns is not None and self.takes_tools:
            return self._with_few_calls(tool_turns, self._asked_tools)
        turns = self._folded(self._with_context(map(self._reasoned, messages), context))
        return self._encoded(self._pieces(list(map(_as_turn, turns)), add_generation_prompt=True)).ids

    @cached_property
    def program(self) -> ChatTemplate:
        """The template that writes this style."""
        if self.style == CHAT and self.template is not None:
            return self.template
        name = "plain" if self.style == CHAT else self.style
        bos = self.tokenizer.token_of(self.tokenizer.bos_id) if self.tokenizer.bos_id is not None else None
        return TEXT_STYLES[name].template(name, bos if bos and self.tokenizer.adds_bos else "", self.stop_token)

    @cached_property
    def stop_id(self) -> int:
        """Stop token to use if the template writes none: EOS, if it is one of the model's stop tokens."""
        known = self.tokenizer.stop_ids
        name = self.tokenizer.settings.roles.get("eos_token")
        eos = None if name is None else self.tokenizer.id_of(name)
        if eos is not None and (eos in known or not known):
            return eos
        if known:
            return min(known)
        raise UserError(
            "the tokenizer has no stop token, so a model could not learn to stop",
            where=self.tokenizer.origin,
            fix='set "eos_token" in tokenizer_config.json',
        )

    @cached_property
    def stop_token(self) -> str:
        """Name of the stop token."""
        marks = self.tokenizer.backend.marks
        named = next((name for name, mark in marks.items() if mark.id == self.stop_id), None)
        if named is None:
            raise UserError(
                f"stop token {self.stop_id} is not a special token, so ordinary text could contain it",
                where=self.tokenizer.origin,
                fix='set "eos_token" in tokenizer_config.json to a special token',
            )
        return named

    @cached_property
    def stops(self) -> frozenset[int]:
        """All stop tokens: the model's own, and the special token that the template writes after a response."""
        known = self.tokenizer.stop_ids | {self.stop_id}
        try:
            chat = self._encoded(chat_pieces(self.program, [_QUESTION, _ANSWER]))
        except TemplateRefusal:
            return known
        end = max((place for place, owner in enumerate(chat.owner) if owner == 1), default=len(chat.ids)) + 1
        after = [index for index in chat.ids[end:] if index in self.tokenizer.special_ids]
        return known | set(after[:1])

    @cached_property
    def plain_markers(self) -> tuple[str, ...]:
        """Those of MARKERS that are no special tokens of this tokenizer."""
        special = self.tokenizer.special_ids
        return tuple(marker for marker in MARKERS if self.tokenizer.id_of(marker) not in special)

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template writes definitions, calls and results in words of its own."""
        call = {"id": "call00000", "type": "function", "function": {"name": "probe", "arguments": {"key": "value"}}}
        turns: list[Turn] = [
            {"role": USER, "content": "Hi"},
            {"role": ASSISTANT, "content": "", "tool_calls": [call]},
            {"role": TOOL, "content": "42", "name": "probe", "tool_call_id": "call00000"},
            {"role": ASSISTANT, "content": "Hello"},
        ]
        described = {"name": "probe", "description": "A probe", "parameters": {"type": "object", "properties": {}}}
        try:
            pieces = turn_pieces(self.program, turns, [{"type": "function", "function": described}])
        except UserError:
            return False
        texts: dict[int, str] = {}
        for piece in pieces:
            texts[piece.owner] = texts.get(piece.owner, "") + piece.text
        return (
            "A probe" in texts.get(DEFINITIONS, "")
            and all(text in texts.get(1, "") for text in ("probe", "key", "value"))
            and "42" in texts.get(2, "")
        )

    @cached_property
    def takes_reasoning(self) -> bool:
        """Whether the template writes the reasoning that is given apart from a response."""
        turns = [_as_turn(_QUESTION), {**_as_turn(_ANSWER), REASONING: "Why"}]
        try:
            return any(piece.owner == 1 and "Why" in piece.text for piece in turn_pieces(self.program, turns))
        except UserError:
            return False

    def _reasoned(self, message: Message) -> Message:
        """A turn with its reasoning where this writer puts it: apart, in the response, or nowhere."""
        if message.role != ASSISTANT:
            return message
        if not self.reasoning:
            opened = CLOSE in message.content and OPEN not in message.content
            _, answer = split_reasoning(message.content, opened=opened) or ("", message.content)
            return replace(message, content=answer, reasoning="")
        if message.reasoning and not self.takes_reasoning:
            return replace(message, content=with_reasoning(message.reasoning, message.content), reasoning="")
        return message

    @cached_property
    def _takes_system(self) -> bool:
        return self._shows([_SYSTEM, _QUESTION, _ANSWER], SYSTEM)

    @cached_property
    def _takes_tools(self) -> bool:
        return self._shows([_QUESTION, _ANSWER, Message(TOOL, "42"), _ANSWER], TOOL)

    def _shows(self, messages: Sequence[Message], role: str) -> bool:
        """Whether the template writes the turns of this role.

        Some templates reject it, some omit it, and some write it only in a prompt (Mistral's system prompt).
        """
        try:
            pieces = chat_pieces(self.program, messages)
        except UserError:
            return False
        written = {piece.owner for piece in pieces if piece.text}
        return all(owner in written for owner, message in enumerate(messages) if message.role == role)

    def _folded(self, messages: Sequence[Message]) -> list[Message]:
        roles = {message.role for message in messages}
        if TOOL in roles and not self._takes_tools:
            messages = fold_tools(messages)
        if SYSTEM in roles and not self._takes_system:
            messages = fold_system(messages)
        return list(messages)

    def _pieces(
        self, turns: Sequence[Turn], tools: Sequence[Turn] | None = None, *, add_generation_prompt: bool = False
    ) -> list[Piece]:
        if self.read_special_tokens:
            # The template writes the stop token.
            turns = [
                {**turn, "content": turn["content"].removesuffix(self.stop_token)}
                if turn["role"] == ASSISTANT
                else turn
                for turn in turns
            ]
        pieces = turn_pieces(self.program, turns, tools, add_generation_prompt=add_generation_prompt)
        if self.read_special_tokens:
            pieces = [replace(piece, trusted=piece.owner >= 0) for piece in pieces]
        if self.style == CHAT:
            return pieces
        # A prompt at inference ends where the response begins, so no token may span that boundary.
        answers = {number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT}
        return [replace(piece, apart=piece.owner in answers) for piece in pieces]

    def _with_context(self, messages: Iterable[Message], context: str) -> list[Message]:
        """Append the context to the first instruction."""
        turns = list(messages)
        first = next((place for place, message in enumerate(turns) if message.role == USER), None)
        if context and first is not None:
            between = BLANK_LINE if self.style == CHAT else TEXT_STYLES[self.style].context
            turns[first] = replace(turns[first], content=f"{turns[first].content}{between}{context}")
        return turns

    def _encoded(self, pieces: Sequence[Piece]) -> EncodedChat:
        return self.tokenizer.with_one_bos(self.tokenizer.encode_pieces(pieces))


def _as_turn(message: Message) -> dict[str, Any]:
    """A message in OpenAI's form."""
    turn = {"role": message.role, "content": message.content}
    return turn | {REASONING: message.reasoning} if message.reasoning else turn


def _is_cut(message: Message, number: int, pieces: Sequence[Piece]) -> bool:
    """Whether the template writes fewer letters of a turn than it has; the tags of reasoning are the template's."""
    said = message.reasoning + message.content.replace(OPEN, "", 1).replace(CLOSE, "", 1)
    written = "".join(piece.text for piece in pieces if piece.owner == number)
    return len("".join(written.split())) < len("".join(said.split()))


def _check_complete(pieces: Sequence[Piece], turns: Sequence[Message], template: ChatTemplate) -> None:
    """Raise UserError if a non-empty turn is missing from the rendered text."""
    written = {piece.owner for piece in pieces if piece.text}
    lost = [
        f"{number} ({turn.role})"
        for number, turn in enumerate(turns, start=1)
        if number - 1 not in written and turn.content.strip()
    ]
    if lost:
        raise UserError(
            f"the chat template omits turn {', '.join(lost)}",
            template.origin,
            "use a template that supports this role, or another style",
        )
