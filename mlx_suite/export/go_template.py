"""Ollama's chat template, in Go's template language, derived from the checkpoint's Jinja template.

Jinja is not translated. Sample conversations are rendered, and the text between contents is recorded by the previous
and the present role. If that text is always the same, the Go template writes it; if it depends on contents, dates or
tools, there is no Go template.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.chat import chat_pieces
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER, Message
from mlx_suite.text.pieces import TEMPLATE
from mlx_suite.text.template import ChatTemplate, dated
from mlx_suite.text.tokenizer import Tokenizer

PROBES = (
    ("Be brief.", "Hi", "Hello! How can I help?", "Thanks."),
    ("Answer in French.\nAlways.", "What is 2 + 2?", "It is 4.\n\nSure.", "Und 3 + 3?"),
)
"""System text, instruction, response and second instruction of each sample conversation."""

USUAL = {USER: ASSISTANT, ASSISTANT: USER}
"""The usual previous role of each role. Its text is used for any other previous role, so that no message is lost."""

Place = tuple[str, str]
"""Previous and present role; "" before the first and after the last message."""


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Text that a chat template writes around the contents of messages."""

    gaps: Mapping[Place, str]
    """Text by place; ("", "user") starts a conversation, ("user", "") is the header of the next response."""
    system: Literal["turn", "last", "folded"]
    """Place of system text: a turn at the start; before the last instruction (Mistral); or, if the template refuses
    it (Gemma), before the first instruction with a blank line between."""


def read_turns(tokenizer: Tokenizer, template: ChatTemplate) -> Turns | None:
    """The texts between messages, BOS included; None if they differ between conversations.

    None too if the template fails, or refuses a conversation that starts with the user.
    """
    template = dated(template)
    gaps: dict[Place, str] = {}
    for _, question, answer, again in PROBES:
        asked = [Message(USER, question)]
        for messages in (asked, [*asked, Message(ASSISTANT, answer), Message(USER, again)]):
            if _learned(gaps, tokenizer, template, messages) != list(range(len(messages))):
                return None
    if not template.takes_system:
        gaps |= {("", SYSTEM): gaps["", USER], (SYSTEM, USER): "\n\n"}
        return Turns(gaps=gaps, system="folded")
    orders = []
    for system, question, answer, again in PROBES:
        first = [Message(SYSTEM, system), Message(USER, question)]
        second = [*first, Message(ASSISTANT, answer), Message(USER, again)]
        orders.append(_learned(gaps, tokenizer, template, second))
        orders.append(_learned(gaps, tokenizer, template, first))
    if all(order == list(range(len(order or ()))) and order for order in orders):
        return Turns(gaps=gaps | _late_system(tokenizer, template), system="turn")
    if orders == [[1, 2, 0, 3], [0, 1]] * len(PROBES):
        return Turns(gaps=_without_system_gaps(gaps), system="last")
    return None


def go_template(turns: Turns, bos: str = "") -> str:
    """The Go template, without `bos` if Ollama adds it.

    Ollama joins consecutive messages of one role before rendering; a last message of the assistant is to be continued.
    """
    gaps = {place: text.removeprefix(bos) if place[0] == "" else text for place, text in turns.gaps.items()}
    roles = (USER, ASSISTANT) if turns.system == "last" else (SYSTEM, USER, ASSISTANT)
    lines = ['{{- $before := "" }}', "{{- range $i, $_ := .Messages }}"]
    for number, role in enumerate(roles):
        openings = {before: _literal(text) for (before, now), text in gaps.items() if now == role}
        system = _last_system(gaps) if role == USER and turns.system == "last" else ""
        content = f'{system}{{{{- .Content }}}}{{{{- $before = "{role}" }}}}'
        lines.append(f'{{{{- {"else " * bool(number)}if eq .Role "{role}" }}}}')
        lines += _cases({before: text + content for before, text in openings.items()}, USUAL.get(role))
    lines += ["{{- end }}", "{{- end }}", *_cases({USER: _literal(gaps[USER, ""])}, None)]
    return "\n".join(lines)


def _cases(texts: Mapping[str, str], usual: str | None) -> list[str]:
    """Lines that write the text for each previous role, and for all others that of the `usual` role, if any."""
    rest = texts.get(usual) if usual is not None else None
    cases = [(before, text) for before, text in texts.items() if before != usual and text != rest]
    if not cases:
        return [rest or ""]
    lines = [
        f'{{{{- {"else " * bool(number)}if eq $before "{before}" }}}}{text}'
        for number, (before, text) in enumerate(cases)
    ]
    return [*lines, *([f"{{{{- else }}}}{rest}"] if rest else []), "{{- end }}"]


def _last_system(gaps: Mapping[Place, str]) -> str:
    """System text before the last instruction."""
    text = f"{{{{- $.System }}}}{_literal(gaps[SYSTEM, USER])}"
    return f"{{{{- if and $.System (eq (len (slice $.Messages $i)) 1) }}}}{text}{{{{- end }}}}"


def _literal(text: str) -> str:
    """Text as a quoted string: plain text would lose blank lines to adjacent trim markers."""
    return f"{{{{- {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _learned(
    gaps: dict[Place, str], tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Message]
) -> list[int] | None:
    """Record the gaps of one conversation and of the next response's header; returns the order of the messages.

    None if the template fails or changes a content, or a gap differs from a recorded one.
    """
    try:
        pieces = chat_pieces(template, messages, add_generation_prompt=True)
    except UserError:
        return None
    order: list[int] = []
    text, before = "", ""
    for piece in pieces:
        if piece.owner == TEMPLATE:
            text += piece.text
            continue
        message = messages[piece.owner]
        if piece.text != message.content or gaps.setdefault((before, message.role), text) != text:
            return None
        order.append(piece.owner)
        text, before = "", message.role
    if gaps.setdefault((before, ""), text) != text:
        return None
    return order


def _late_system(tokenizer: Tokenizer, template: ChatTemplate) -> dict[Place, str]:
    """The gap between a response and a system turn, if the template accepts one there."""
    gaps: dict[Place, str] = {}
    system, question, answer, again = PROBES[0]
    late = [Message(USER, question), Message(ASSISTANT, answer), Message(SYSTEM, system), Message(USER, again)]
    order = _learned(gaps, tokenizer, template, late)
    return {(ASSISTANT, SYSTEM): gaps[ASSISTANT, SYSTEM]} if order == [0, 1, 2, 3] else {}


def _without_system_gaps(gaps: Mapping[Place, str]) -> dict[Place, str]:
    """Drop the gaps before a system text inside an instruction; they belong to the instruction."""
    return {place: text for place, text in gaps.items() if place[1] != SYSTEM}
