"""Magpie's pre-query header, derived from the checkpoint's own chat template and verified.

Magpie (arXiv 2406.08464) lets an aligned model write the user's turn: the prompt is the template up to the point where
a user would begin to type. Written by hand, this text easily has silent errors (a second BOS, an extra newline, a
missing default system prompt). Here conversations with known contents are encoded; the header, the stop tokens and the
tokens between turns are what remains without the contents, and must be the same for all conversations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.chat import encode_chat
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER, Message
from mlx_suite.text.pieces import TEMPLATE, EncodedChat
from mlx_suite.text.template import ChatTemplate, TemplateRefusal
from mlx_suite.text.tokenizer import Tokenizer

PROBES = (
    ("Hi", "Hello! How can I help?", "Thanks."),
    ("What is 2 + 2?", "4", "And 3 + 3?"),
    ("def f(x):\n    return x", "It returns x.\n\nNothing else.", "- why\n- how"),
    ("日本語で答えて 🦙", "はい。", "もう一つ"),
    ("'s", "\"quoted\" and 'single'", "1. one\n2. two"),
    ("Ünïcödé, <b>tags</b> & {braces}", "### Title", "# Step 1"),
)
"""An instruction, its response and a second instruction; each begins with a character that a tokenizer could merge
with the text before it."""


@dataclass(frozen=True, kw_only=True)
class PreQuery:
    """Fixed tokens around the turns of a model that writes both sides of a conversation.

    A conversation is `header_ids`, an instruction, `user_stop_ids[0]`, `to_assistant_ids`, a response,
    `assistant_stop_ids[0]`, `to_user_ids`, an instruction, and so on: the same tokens as encoded with the template.
    """

    header_ids: tuple[int, ...]
    """Tokens before the first instruction. A space that the template puts before the content is not included if it is
    part of the content's first token (Mistral): the model writes it."""
    user_stop_ids: tuple[int, ...]
    """Tokens that end an instruction: the template's own first, then the model's stop tokens and the template's
    markers. If the model ends with one of the others, feed the first instead."""
    to_assistant_ids: tuple[int, ...]
    """Tokens between an instruction's stop token and the response. Empty for Mistral, whose `[/INST]` is both."""
    to_user_ids: tuple[int, ...]
    """Tokens between a response's stop token and the next instruction."""
    assistant_stop_ids: tuple[int, ...]
    """Tokens that end a response, the template's own first."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """The checkpoint to derive a header for, and the messages before the first instruction."""

    tokenizer: Tokenizer
    template: ChatTemplate
    lead: Sequence[Message]

    def encode(self, *turns: Message, prompt: bool = False) -> EncodedChat:
        """Encode the lead and `turns`; `prompt` appends the generation prompt."""
        return encode_chat(self.tokenizer, self.template, [*self.lead, *turns], add_generation_prompt=prompt)

    def stop(self, chat: EncodedChat, start: int, end: int, what: str) -> int:
        """Index in [start, end) of the special token that ends a turn: the first one."""
        for place in range(start, end):
            if chat.ids[place] in self.tokenizer.special_ids:
                return place
        gap = [index for index in range(start, end) if chat.owner[index] == TEMPLATE]
        text = self.tokenizer.decode([chat.ids[index] for index in gap])
        raise self.failure(f"no special token ends the {what}, only the text {text!r}")

    def require(self, condition: bool, problem: str) -> None:
        """Raise UserError with `problem` unless `condition` is true."""
        if not condition:
            raise self.failure(problem)

    def failure(self, problem: str) -> UserError:
        """The UserError that states `problem`."""
        return UserError(
            f"the pre-query header cannot be derived from this chat template: {problem}",
            self.template.origin,
            "steer with a first exchange instead of a system prompt"
            if any(message.role == SYSTEM for message in self.lead)
            else "use an instruction-tuned checkpoint with its own template, or correct the template",
        )


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """An encoded conversation and the positions of its contents."""

    contents: tuple[str, str, str]
    ids: list[int]
    starts: tuple[int, int, int]
    """Index of the first token of each content."""
    stops: tuple[int, int]
    """Indices of the stop tokens of the first instruction and its response."""


def derive_pre_query(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    system: str | None = None,
    *,
    before: Sequence[Message] = (),
) -> PreQuery:
    """Derive the header for `template` and verify it.

    The header includes the `system` message, if given, and the exchanges in `before`, which steer a model whose
    template has no system role (Gemma 2). Raises UserError if a check fails or the template rejects the system message.
    """
    lead = [*([] if system is None else [Message(SYSTEM, system)]), *before]
    case = _Case(tokenizer=tokenizer, template=template, lead=lead)
    try:
        probes = [_probe(case, contents) for contents in PROBES]
    except TemplateRefusal as error:
        raise case.failure(error.what) from error
    header = _common([probe.ids[: probe.starts[0]] for probe in probes])
    between = _common([probe.ids[probe.stops[0] + 1 : probe.starts[1]] for probe in probes])
    to_user = _common([probe.ids[probe.stops[1] + 1 : probe.starts[2]] for probe in probes])
    to_assistant = _generation_gap(case, len(header)) or between
    user_stops = {probe.ids[probe.stops[0]] for probe in probes}
    assistant_stops = {probe.ids[probe.stops[1]] for probe in probes}
    case.require(len(user_stops) == 1, "instructions do not all end with the same token")
    case.require(len(assistant_stops) == 1, "responses do not all end with the same token")
    markers = [i for i in (*header, *to_assistant, *to_user) if i in tokenizer.special_ids]
    others = [*sorted(tokenizer.stop_ids), *markers]
    found = PreQuery(
        header_ids=tuple(header),
        user_stop_ids=tuple(dict.fromkeys([*user_stops, *others])),
        to_assistant_ids=tuple(to_assistant),
        to_user_ids=tuple(to_user),
        assistant_stop_ids=tuple(dict.fromkeys([*assistant_stops, *others])),
    )
    _check_header(case, found)
    for probe in probes:
        _check_probe(case, found, probe, between)
        _check_generation(case, found, probe.contents[0])
    return found


def _probe(case: _Case, contents: tuple[str, str, str]) -> _Probe:
    """Encode instruction, response, instruction; find the positions of the contents and the stop tokens."""
    question, answer, again = contents
    chat = case.encode(Message(USER, question), Message(ASSISTANT, answer), Message(USER, again))
    owners = range(len(case.lead), len(case.lead) + 3)
    for owner, name in zip(owners, ("instruction", "response", "second instruction"), strict=True):
        case.require(owner in chat.owner, f"the {name} does not appear in the encoded chat")
    first, second, third = (chat.owner.index(owner) for owner in owners)
    case.require(first < second < third, "the turns do not appear in order")
    stops = case.stop(chat, first, second, "instruction"), case.stop(chat, second, third, "response")
    return _Probe(contents=contents, ids=chat.ids, starts=(first, second, third), stops=stops)


def _generation_gap(case: _Case, start: int) -> list[int]:
    """Tokens of the generation prompt after an instruction's stop token; [] if the template has none."""
    question = Message(USER, PROBES[0][0])
    prompt = case.encode(question, prompt=True)
    if prompt.ids == case.encode(question).ids:
        return []
    return prompt.ids[case.stop(prompt, start, len(prompt.ids), "instruction") + 1 :]


def _check_header(case: _Case, found: PreQuery) -> None:
    """Check that the header has one BOS, at the start, and is the template's text up to the instruction."""
    header, tokenizer = list(found.header_ids), case.tokenizer
    case.require(bool(header), "there is no text before the first instruction")
    bos = tokenizer.bos_id
    if bos is not None and (tokenizer.adds_bos or bos in header):
        case.require(header[0] == bos, "the header does not begin with BOS")
        count = header.count(bos)
        case.require(count == 1, f"the header has {count} BOS tokens instead of one")
    question = "QUESTION"
    rendered = case.template.render([*case.lead, Message(USER, question)])
    expected = rendered[: rendered.rfind(question)]
    decoded = tokenizer.decode(header, skip_special=False)
    if bos is not None and header[0] == bos:
        name = tokenizer.decode([bos], skip_special=False)
        expected, decoded = expected.removeprefix(name), decoded.removeprefix(name)
    case.require(
        "".join(decoded.split()) == "".join(expected.split()),
        f"the header {decoded!r} does not end inside the user turn, which begins after {expected!r}",
    )
    case.require(
        found.to_assistant_ids != found.to_user_ids,
        "user turns and assistant turns begin with the same tokens",
    )


def _check_probe(case: _Case, found: PreQuery, probe: _Probe, between: Sequence[int]) -> None:
    """Check that header, instruction, gap, response, gap and instruction add up to the encoded chat."""
    ids, (user_stop, assistant_stop) = probe.ids, probe.stops
    question, answer, again = probe.contents
    instruction = ids[len(found.header_ids) : user_stop]
    response = ids[user_stop + 1 + len(between) : assistant_stop]
    rest = ids[assistant_stop + 1 + len(found.to_user_ids) :]
    joined = [*found.header_ids, *instruction, found.user_stop_ids[0], *between]
    joined += [*response, found.assistant_stop_ids[0], *found.to_user_ids, *rest]
    case.require(joined == ids, f"the parts do not add up to the encoded chat of {question!r}")
    for part, text in ((instruction, question), (response, answer)):
        decoded = case.tokenizer.decode(part).strip()
        case.require(decoded == text, f"the encoded chat has {decoded!r} instead of {text!r}")
    decoded = case.tokenizer.decode(rest).strip()
    case.require(decoded.startswith(again), f"{again!r} does not follow the second header")


def _check_generation(case: _Case, found: PreQuery, question: str) -> None:
    """Check that header, instruction, stop token and gap equal the template's prompt for a response."""
    start = len(found.header_ids)
    prompt = case.encode(Message(USER, question), prompt=True)
    stop = case.stop(prompt, start, len(prompt.ids), "instruction")
    end = [found.user_stop_ids[0], *found.to_assistant_ids]
    if prompt == case.encode(Message(USER, question)):  # a template without a generation prompt
        end = end[: len(prompt.ids) - stop]
    case.require(
        tuple(prompt.ids[:start]) == found.header_ids and prompt.ids[stop:] == end,
        f"the generation prompt of {question!r} is not header, instruction and gap",
    )


def _common(lists: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*lists, strict=False))
    return [column[0] for column in columns]
