"""A chat template in Go's template language, which Ollama speaks, derived from the checkpoint's own Jinja.

Jinja is not translated. Conversations are rendered, and what the template writes between their contents is noted by
who spoke before and who speaks now. Where that is always the same text, the Go template writes the same; where it is
not (it depends on contents, dates or tools), there is none.
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
"""A system text, a question, an answer and a second question."""

"""The date that Llama 3.1's and 3.2's template writes where it is told none: a file cannot know today's."""

USUAL = {USER: ASSISTANT, ASSISTANT: USER}
"""Who speaks before each in most turns: its text is written for whoever else did, so that no message is ever lost."""

Place = tuple[str, str]
"""Who spoke before, and who speaks now; nobody is ""."""


@dataclass(frozen=True, kw_only=True)
class Turns:
    """What a chat template writes around the contents of messages."""

    gaps: Mapping[Place, str]
    """Text by place; ("", "user") begins a conversation, ("user", "") leads to an answer that is not there yet."""
    system: Literal["turn", "last", "folded"]
    """Where system text goes: first, as a turn; in front of the last question (Mistral); or, where the template
    refuses it (Gemma), in front of the first question, a blank line between."""


def read_turns(tokenizer: Tokenizer, template: ChatTemplate) -> Turns | None:
    """The texts between messages, BOS included; None where they are not the same in all conversations.

    None too where the template fails, or refuses a user who speaks first.
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
        return Turns(gaps=_behind_system(gaps), system="last")
    return None


def go_template(turns: Turns, bos: str = "") -> str:
    """The Go template; `bos`, where Ollama adds it, is left out of it.

    Ollama joins messages of one role in a row before it renders, and ends in an answer only to have it continued.
    """
    gaps = {place: text.removeprefix(bos) if place[0] == "" else text for place, text in turns.gaps.items()}
    roles = (USER, ASSISTANT) if turns.system == "last" else (SYSTEM, USER, ASSISTANT)
    lines = ['{{- $before := "" }}', "{{- range $i, $_ := .Messages }}"]
    for number, role in enumerate(roles):
        openings = {before: _literal(text) for (before, now), text in gaps.items() if now == role}
        wish = _wish(gaps) if role == USER and turns.system == "last" else ""
        said = f'{wish}{{{{- .Content }}}}{{{{- $before = "{role}" }}}}'
        lines.append(f'{{{{- {"else " * bool(number)}if eq .Role "{role}" }}}}')
        lines += _cases({before: text + said for before, text in openings.items()}, USUAL.get(role))
    lines += ["{{- end }}", "{{- end }}", *_cases({USER: _literal(gaps[USER, ""])}, None)]
    return "\n".join(lines)


def _cases(texts: Mapping[str, str], usual: str | None) -> list[str]:
    """Lines that write the text for who spoke before: the usual speaker's for anyone not named, else nothing."""
    rest = texts.get(usual) if usual is not None else None
    cases = [(before, text) for before, text in texts.items() if before != usual and text != rest]
    if not cases:
        return [rest or ""]
    lines = [
        f'{{{{- {"else " * bool(number)}if eq $before "{before}" }}}}{text}'
        for number, (before, text) in enumerate(cases)
    ]
    return [*lines, *([f"{{{{- else }}}}{rest}"] if rest else []), "{{- end }}"]


def _wish(gaps: Mapping[Place, str]) -> str:
    """System text in front of the last question."""
    text = f"{{{{- $.System }}}}{_literal(gaps[SYSTEM, USER])}"
    return f"{{{{- if and $.System (eq (len (slice $.Messages $i)) 1) }}}}{text}{{{{- end }}}}"


def _literal(text: str) -> str:
    """Text as a quoted string: bare text would lose its blank lines to the trim marks beside it."""
    return f"{{{{- {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _learned(
    gaps: dict[Place, str], tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Message]
) -> list[int] | None:
    """Note the gaps of one conversation, with the header of the next answer; the order in which messages are written.

    None where the template fails, a content is changed, or a gap differs from one that was noted.
    """
    try:
        pieces = chat_pieces(tokenizer, template, messages, add_generation_prompt=True)
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
    """The gap between an answer and a system turn, where the template takes one there."""
    gaps: dict[Place, str] = {}
    system, question, answer, again = PROBES[0]
    late = [Message(USER, question), Message(ASSISTANT, answer), Message(SYSTEM, system), Message(USER, again)]
    order = _learned(gaps, tokenizer, template, late)
    return {(ASSISTANT, SYSTEM): gaps[ASSISTANT, SYSTEM]} if order == [0, 1, 2, 3] else {}


def _behind_system(gaps: Mapping[Place, str]) -> dict[Place, str]:
    """Without the gaps in front of a system text that stands inside a question: they are the question's."""
    return {place: text for place, text in gaps.items() if place[1] != SYSTEM}
