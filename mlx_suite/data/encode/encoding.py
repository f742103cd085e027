"""Encoding of examples as documents: token ids with loss weights.

The loss mask is decided per turn. A response's tokens are known by their owner, and the token that ends it is the first
stop token after it. What the template writes around a response (headers, a newline after the stop token) is not
trained. No token is masked because of its id, so a stop token that is also the padding token is trained.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.encode.styles import Writer
from mlx_suite.data.example import Example
from mlx_suite.data.read.records import Problem
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import TEMPLATE, ChatTemplate, EncodedChat, Message, Tokenizer
from mlx_suite.text.message import ASSISTANT
from mlx_suite.text.pieces import Piece

ALL, ANSWERS, LAST = "all", "assistant", "last"
TRAIN_ON = (ALL, ANSWERS, LAST)
"""Train on everything, on every response, or on the last response."""
NOTHING = "nothing to train on"


@dataclass(frozen=True, kw_only=True)
class EncodingNotes:
    """What a user should know of encoded rows, in numbers."""

    cut_turns: int = 0
    """Turns of which the chat template drops text."""
    tools_as_text: int = 0
    """Rows whose tool definitions and calls are text, because the template has no words for them."""
    spelled: int = 0
    """Rows whose texts spell special tokens that are trained as letters."""
    marked: int = 0
    """Rows whose texts hold markers of a chat template that are no special tokens of this tokenizer."""

    def __add__(self, other: "EncodingNotes") -> "EncodingNotes":
        return EncodingNotes(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def lines(self) -> Iterator[str]:
        """One sentence for each number that is not 0."""
        if self.cut_turns:
            yield f"the chat template drops text of {_count(self.cut_turns, 'turn')}, such as earlier reasoning"
        if self.tools_as_text:
            yield f"the chat template has no words for tools: they are text in {_count(self.tools_as_text, 'row')}"
        if self.spelled:
            rows = _count(self.spelled, "row")
            yield (
                f"special tokens are spelled in {rows} and trained as letters: if the texts hold a chat template "
                "already, use --read-special-tokens --style plain"
            )
        if self.marked:
            yield (
                f"markers of a chat template, such as [INST] or <|im_start|>, are in {_count(self.marked, 'row')} and "
                "trained as text, because this tokenizer has no such tokens: remove them from the texts"
            )


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The result of encoding examples."""

    documents: Sequence[Document]
    """Documents in the order of the examples; each has a trained token."""
    problems: tuple[Problem, ...]
    """Examples that could not be encoded, with the reason."""
    notes: EncodingNotes


def encode_all(
    examples: Iterable[Example],
    *,
    style: str,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    train_on: str = ANSWERS,
    reasoning: bool = True,
    read_special_tokens: bool = False,
) -> Encoded:
    """Encode every example in `style` and set its loss weights.

    `assistant` trains every response and its stop token, except responses marked as untrained; `last` trains only the
    last response; `all` trains everything after the first token, up to the stop token that ends the conversation. Plain
    text is trained in full, followed by the stop token. Every document has one BOS if the model uses one. Without
    `reasoning`, the reasoning before a response is not written. With `read_special_tokens`, texts may contain them.

    Raises UserError for a template that fails on every conversation, or a tokenizer without a stop token.
    """
    assert train_on in TRAIN_ON, train_on
    writer = Writer(
        style=style,
        tokenizer=tokenizer,
        template=template,
        reasoning=reasoning,
        read_special_tokens=read_special_tokens,
    )
    notes = EncodingNotes()
    documents: list[Document] = []
    problems: list[Problem] = []
    for example in examples:
        try:
            document, found = _encode(example, writer, train_on)
            documents.append(document)
            notes += found
        except _Refused as reason:
            problems.append(Problem(example.place, str(reason)))
    return Encoded(documents=tuple(documents), problems=tuple(problems), notes=notes)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class _Refused(Exception):
    """An example that cannot be encoded; the message says why."""


def _encode(example: Example, writer: Writer, train_on: str) -> tuple[Document, EncodingNotes]:
    own, other = _spelled(example, writer)
    spelled = EncodingNotes(spelled=int(own), marked=int(other and not own))
    if example.text is not None:
        return _plain_text(example.text, example.place, writer), spelled
    # Outside the try block: an error in the template itself is not a problem of this example.
    stops = writer.stops
    try:
        written = writer.write(example.messages, example.context, example.tool_turns)
    except UserError as error:
        raise _Refused(error.what) from error
    turns, chat = written.turns, written.chat
    notes = spelled + EncodingNotes(cut_turns=written.cut, tools_as_text=int(written.tools_as_text))
    if train_on == ALL:
        return _train_all(chat, turns, stops, writer.stop_id, example.place), notes
    answers = _trained_answers(turns, train_on)
    return _train_each(chat, answers, stops, writer.stop_id, example.place), notes


def _spelled(example: Example, writer: Writer) -> tuple[bool, bool]:
    """Whether a text of the example spells a special token that is encoded as letters, and one of `plain_markers`."""
    specials = None if writer.read_special_tokens else writer.tokenizer.specials
    texts = [example.text or "", example.context, *(message.content for message in example.messages)]
    own = specials is not None and any(specials.search(text) for text in texts)
    return own, any(marker in text for text in texts for marker in writer.plain_markers)


def _trained_answers(turns: Sequence[Message], train_on: str) -> list[int]:
    """Turn numbers of the trained responses."""
    answers = [number for number, turn in enumerate(turns) if turn.role == ASSISTANT]
    if not answers:
        raise _Refused(f"{NOTHING}: there is no assistant turn")
    if train_on == LAST:
        answers = answers[-1:]
    trained = [number for number in answers if turns[number].trained]
    if not trained:
        which = "the last response is" if train_on == LAST else "every response is"
        raise _Refused(f"{NOTHING}: {which} marked as untrained")
    return trained


def _plain_text(text: str, place: str, writer: Writer) -> Document:
    """Train the full text and a stop token, unless it ends with one."""
    tokenizer = writer.tokenizer
    piece = Piece(text=text, owner=0, trusted=writer.read_special_tokens)
    chat = tokenizer.with_one_bos(tokenizer.encode_pieces([piece]))
    if 0 not in chat.owner:
        raise _Refused(f"{NOTHING}: the text is empty")
    ids = chat.ids if chat.ids[-1] in writer.stops else [*chat.ids, writer.stop_id]
    return _document(ids, [1.0] * len(ids), place)


def _train_all(chat: EncodedChat, turns: Sequence[Message], stops: frozenset[int], stop: int, place: str) -> Document:
    """Train everything up to the stop token of the last turn, except turns that are marked as untrained."""
    last = max((at for at, owner in enumerate(chat.owner) if owner != TEMPLATE), default=None)
    if last is None:
        raise _Refused(f"{NOTHING}: every turn is empty")
    end = _end(chat, last, stops)
    ids = [*chat.ids, stop] if end is None else chat.ids
    size = len(ids) if end is None else end + 1
    weights = [1.0] * size + [0.0] * (len(ids) - size)
    for number, turn in enumerate(turns):
        own = [] if turn.trained else [at for at, owner in enumerate(chat.owner) if owner == number]
        for at in own:
            weights[at] = 0.0
        if own:
            # Without its text, its stop token is not learned either.
            end = _end(chat, own[-1], stops)
            until = end + 1 if end is not None else len(ids) if own[-1] == last else own[-1] + 1
            weights[own[-1] : until] = [0.0] * (until - own[-1])
    if not any(weights[1:]) or not any(turn.trained for turn in turns):
        raise _Refused(f"{NOTHING}: every turn is marked as untrained")
    return _document(ids, weights, place)


def _train_each(chat: EncodedChat, answers: Sequence[int], stops: frozenset[int], stop: int, place: str) -> Document:
    """Train the responses, each up to and including its stop token."""
    trained = frozenset(answers)
    weights = [1.0 if owner in trained else 0.0 for owner in chat.owner]
    last_of = {owner: at for at, owner in enumerate(chat.owner)}
    if not trained & last_of.keys():
        raise _Refused(f"{NOTHING}: " + ("the response is empty" if len(answers) == 1 else "the responses are empty"))
    ids = chat.ids
    for answer in answers:
        last = last_of.get(answer)
        if last is None:
            continue
        end = _end(chat, last, stops)
        if end is not None:
            weights[last + 1 : end + 1] = [1.0] * (end - last)
        elif all(owner == TEMPLATE for owner in chat.owner[last + 1 :]):
            # The template ends the conversation without a stop token; the model must learn to write one.
            weights[last + 1 :] = [1.0] * (len(ids) - last)
            ids = [*ids, stop]
    return _document(ids, weights, place)


def _end(chat: EncodedChat, last: int, stops: frozenset[int]) -> int | None:
    """Index of the first stop token after a turn whose last token is at `last`; None if the next turn comes first."""
    for place in range(last + 1, len(chat.ids)):
        if chat.owner[place] != TEMPLATE:
            return None
        if chat.ids[place] in stops:
            return place
    return None


def _document(ids: Sequence[int], weights: list[float], place: str) -> Document:
    """A document whose first token (BOS, if there is one) is not trained, because nothing precedes it."""
    weights[0] = 0.0
    # Arrays use a fifth of the memory of lists.
    return Document(array("I", ids), array("f", weights), place)
