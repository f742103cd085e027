"""Encoding of examples as documents: token ids with loss weights.

The loss mask is decided per turn. A response's tokens are known by their owner, and the token that ends it is the first
stop token after it. What the template writes around a response (headers, a newline after the stop token) is not
trained. No token is masked because of its id, so a stop token that is also the padding token is trained.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
class Encoded:
    """The result of encoding examples."""

    documents: Sequence[Document]
    """Documents in the order of the examples; each has a trained token."""
    problems: tuple[Problem, ...]
    """Examples that could not be encoded, with the reason."""


def encode_all(
    examples: Iterable[Example],
    *,
    style: str,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    train_on: str = ANSWERS,
) -> Encoded:
    """Encode every example in `style` and set its loss weights.

    `assistant` trains every response and its stop token, except responses marked as untrained; `last` trains only the
    last response; `all` trains everything after the first token, up to the stop token that ends the conversation. Plain
    text is trained in full, followed by the stop token. Every document has one BOS if the model uses one.

    Raises UserError for a template that fails on every conversation, or a tokenizer without a stop token.
    """
    assert train_on in TRAIN_ON, train_on
    writer = Writer(style=style, tokenizer=tokenizer, template=template)
    documents: list[Document] = []
    problems: list[Problem] = []
    for example in examples:
        try:
            documents.append(_encode(example, writer, train_on))
        except _Refused as reason:
            problems.append(Problem(example.place, str(reason)))
    return Encoded(documents=tuple(documents), problems=tuple(problems))


class _Refused(Exception):
    """An example that cannot be encoded; the message says why."""


def _encode(example: Example, writer: Writer, train_on: str) -> Document:
    if example.text is not None:
        return _plain_text(example.text, example.place, writer)
    # Outside the try block: an error in the template itself is not a problem of this example.
    stops = writer.stops
    try:
        turns, chat = writer.write(example.messages, example.context)
    except UserError as error:
        raise _Refused(error.what) from error
    if train_on == ALL:
        return _train_all(chat, stops, writer.stop_id, example.place)
    return _train_each(chat, _trained_answers(turns, train_on), stops, writer.stop_id, example.place)


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
    """Train the full text and a stop token. Names of special tokens in it are ordinary text."""
    tokenizer = writer.tokenizer
    chat = tokenizer.with_one_bos(tokenizer.encode_pieces([Piece(text=text, owner=0)]))
    if 0 not in chat.owner:
        raise _Refused(f"{NOTHING}: the text is empty")
    return _document([*chat.ids, writer.stop_id], [1.0] * (len(chat.ids) + 1), place)


def _train_all(chat: EncodedChat, stops: frozenset[int], stop: int, place: str) -> Document:
    """Train everything up to the stop token of the last turn."""
    last = max((at for at, owner in enumerate(chat.owner) if owner != TEMPLATE), default=None)
    if last is None:
        raise _Refused(f"{NOTHING}: every turn is empty")
    end = _end(chat, last, stops)
    if end is None:
        return _document([*chat.ids, stop], [1.0] * (len(chat.ids) + 1), place)
    return _document(chat.ids, [1.0] * (end + 1) + [0.0] * (len(chat.ids) - end - 1), place)


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
