"""The pre-query header of Magpie, read off the checkpoint's own chat template, with a proof that it
is right.

Magpie (arXiv 2406.08464) lets an aligned model write the user's turn: it is given the template up
to the place where a user would begin to type. Written by hand, that text goes wrong unseen (a
second BOS, a newline too many, a missing default system prompt). Here conversations with known
contents are encoded, and the header, the stop tokens and what stands between the turns are what
remains when the contents are taken out. All of them must agree.
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
"""A question, its answer and a second question, each beginning in a way that could join the text
before it."""


@dataclass(frozen=True, kw_only=True)
class PreQuery:
    """The fixed tokens around what a model writes when it plays both sides.

    A conversation is `header_ids`, a question, `user_stop_ids[0]`, `to_assistant_ids`, an answer,
    `assistant_stop_ids[0]`, `to_user_ids`, a question, and so on: exactly what the template would
    have made of it.
    """

    header_ids: tuple[int, ...]
    """Everything before the first question. A space that the template puts in front of a content is
    left out where the content's first token carries it (Mistral): the model writes it."""
    user_stop_ids: tuple[int, ...]
    """Tokens that end a question: first the template's own, then the model's stop tokens and the
    template's markers. After one of the others, feed the first in its place."""
    to_assistant_ids: tuple[int, ...]
    """Tokens between an instruction's stop token and the response. Empty for Mistral, whose `[/INST]` is
    both."""
    to_user_ids: tuple[int, ...]
    """Tokens between a response's stop token and the next instruction."""
    assistant_stop_ids: tuple[int, ...]
    """Tokens that end an answer, the template's own first."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """The checkpoint whose header is looked for, and what stands before the first question."""

    tokenizer: Tokenizer
    template: ChatTemplate
    lead: Sequence[Message]

    def encode(self, *turns: Message, prompt: bool = False) -> EncodedChat:
        """Encode the lead and `turns`, with the generation prompt if asked for."""
        return encode_chat(self.tokenizer, self.template, [*self.lead, *turns], add_generation_prompt=prompt)

    def stop(self, chat: EncodedChat, start: int, end: int, what: str) -> int:
        """The place of the first special token from `start` on: the model ends its turn with it."""
        for place in range(start, end):
            if chat.ids[place] in self.tokenizer.special_ids:
                return place
        gap = [index for index in range(start, end) if chat.owner[index] == TEMPLATE]
        text = self.tokenizer.decode([chat.ids[index] for index in gap])
        raise self.failure(f"no special token ends the {what}, only the text {text!r}")

    def require(self, holds: bool, otherwise: str) -> None:
        """Raise the failure `otherwise` unless `holds`."""
        if not holds:
            raise self.failure(otherwise)

    def failure(self, problem: str) -> UserError:
        """The error that names `problem`."""
        return UserError(
            f"the pre-query header cannot be derived from this chat template: {problem}",
            self.template.origin,
            "steer through a first exchange instead, or leave the system text out"
            if any(message.role == SYSTEM for message in self.lead)
            else "use an instruction-tuned checkpoint with its own template, or mend the template",
        )


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """One encoded conversation cut at its contents."""

    contents: tuple[str, str, str]
    ids: list[int]
    starts: tuple[int, int, int]
    """Where the first token of each content lies."""
    stops: tuple[int, int]
    """Where the question's and the answer's stop token lie."""


def derive_pre_query(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    system: str | None = None,
    *,
    before: Sequence[Message] = (),
) -> PreQuery:
    """Find the header for `template` and check it.

    The header holds the `system` message, if one is given, and the exchanges in `before`: the way
    to steer a model whose template knows no system role (Gemma 2). Raises UserError that names what
    failed; a template that refuses the system message is one such failure.
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
    case.require(len(user_stops) == 1, "questions do not all end with the same token")
    case.require(len(assistant_stops) == 1, "answers do not all end with the same token")
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
    """Encode question, answer, question; find the places of the contents and the stop tokens."""
    question, answer, again = contents
    chat = case.encode(Message(USER, question), Message(ASSISTANT, answer), Message(USER, again))
    owners = range(len(case.lead), len(case.lead) + 3)
    for owner, name in zip(owners, ("question", "answer", "second question"), strict=True):
        case.require(owner in chat.owner, f"the {name} does not appear in the encoded chat")
    first, second, third = (chat.owner.index(owner) for owner in owners)
    case.require(first < second < third, "the turns do not appear in their order")
    stops = case.stop(chat, first, second, "question"), case.stop(chat, second, third, "answer")
    return _Probe(contents=contents, ids=chat.ids, starts=(first, second, third), stops=stops)


def _generation_gap(case: _Case, start: int) -> list[int]:
    """The generation prompt's tokens after an instruction's stop token; [] without such a prompt."""
    question = Message(USER, PROBES[0][0])
    asked = case.encode(question, prompt=True)
    if asked.ids == case.encode(question).ids:
        return []
    return asked.ids[case.stop(asked, start, len(asked.ids), "question") + 1 :]


def _check_header(case: _Case, found: PreQuery) -> None:
    """One BOS, in front; and the header's text is the template's text up to the question."""
    header, tokenizer = list(found.header_ids), case.tokenizer
    case.require(bool(header), "nothing stands before the first question")
    bos = tokenizer.bos_id
    if bos is not None and (tokenizer.adds_bos or bos in header):
        case.require(header[0] == bos, "the header does not begin with BOS")
        count = header.count(bos)
        case.require(count == 1, f"the header holds {count} BOS tokens, not one")
    question = "QUESTION"
    rendered = case.template.render([*case.lead, Message(USER, question)])
    wanted = rendered[: rendered.rfind(question)]
    shown = tokenizer.decode(header, skip_special=False)
    if bos is not None and header[0] == bos:
        name = tokenizer.decode([bos], skip_special=False)
        wanted, shown = wanted.removeprefix(name), shown.removeprefix(name)
    case.require(
        "".join(shown.split()) == "".join(wanted.split()),
        f"the header {shown!r} does not end inside the user turn, which begins after {wanted!r}",
    )
    case.require(
        found.to_assistant_ids != found.to_user_ids,
        "it opens the user's and the assistant's turns alike",
    )


def _check_probe(case: _Case, found: PreQuery, probe: _Probe, between: Sequence[int]) -> None:
    """Header, question, gap, answer, gap and question, joined again, are the encoded chat."""
    ids, (user_stop, assistant_stop) = probe.ids, probe.stops
    question, answer, again = probe.contents
    written = ids[len(found.header_ids) : user_stop]
    replied = ids[user_stop + 1 + len(between) : assistant_stop]
    rest = ids[assistant_stop + 1 + len(found.to_user_ids) :]
    joined = [*found.header_ids, *written, found.user_stop_ids[0], *between]
    joined += [*replied, found.assistant_stop_ids[0], *found.to_user_ids, *rest]
    case.require(joined == ids, f"the parts do not make up the encoded chat of {question!r}")
    for part, text in ((written, question), (replied, answer)):
        said = case.tokenizer.decode(part).strip()
        case.require(said == text, f"where {text!r} belongs stands {said!r}")
    rested = case.tokenizer.decode(rest).strip()
    case.require(rested.startswith(again), f"{again!r} does not follow the second header")


def _check_generation(case: _Case, found: PreQuery, question: str) -> None:
    """Header, question, stop and gap are what the template prompts an answer with."""
    start = len(found.header_ids)
    asked = case.encode(Message(USER, question), prompt=True)
    stop = case.stop(asked, start, len(asked.ids), "question")
    end = [found.user_stop_ids[0], *found.to_assistant_ids]
    if asked == case.encode(Message(USER, question)):  # a template without a generation prompt
        end = end[: len(asked.ids) - stop]
    case.require(
        tuple(asked.ids[:start]) == found.header_ids and asked.ids[stop:] == end,
        f"the generation prompt of {question!r} is not header, question and gap",
    )


def _common(lists: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*lists, strict=False))
    return [column[0] for column in columns]
