"""Examples to documents: token ids, and for each how much it counts as something to learn.

What is trained is decided on turns. An answer's tokens are known by their owner; the token that ends it is the first
stop token behind it. What a template writes around an answer (headers, a newline behind the stop token) is not trained.
No token is ever left out because of its id, so a stop token that also pads is learned like any other.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.encode.styles import Writer
from mlx_suite.data.example import Example
from mlx_suite.data.read.problems import Problem
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import TEMPLATE, ChatTemplate, EncodedChat, Message, Tokenizer
from mlx_suite.text.message import ASSISTANT
from mlx_suite.text.pieces import Piece

ALL, ANSWERS, LAST = "all", "assistant", "last"
TRAIN_ON = (ALL, ANSWERS, LAST)
"""Everything; every answer; the last answer."""
NOTHING = "nothing to train on"


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What became of some examples."""

    documents: Sequence[Document]
    """In the examples' order; each has something to train on."""
    problems: tuple[Problem, ...]
    """Examples that are no documents, with the reason."""


def encode_all(
    examples: Iterable[Example],
    *,
    style: str,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    train_on: str = ANSWERS,
) -> Encoded:
    """Write every example in `style` and mark what is trained.

    `assistant` trains every answer with the token that ends it, except answers marked as not to be trained; `last` the
    last answer only; `all` everything behind the first token, up to the token that ends the conversation. Plain text is
    trained whole, with the stop token behind it. Every document has one BOS, if the model wants one.

    Raises UserError for a template that fails on any conversation, or a tokenizer without a stop token.
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
    """An example that is no document, and why."""


def _encode(example: Example, writer: Writer, train_on: str) -> Document:
    if example.text is not None:
        return _plain_text(example.text, example.place, writer)
    # Asked for in front of the conversation: what is wrong with the template itself is not this example's problem.
    stops = writer.stops
    try:
        turns, chat = writer.write(example.messages, example.context)
    except UserError as error:
        raise _Refused(error.what) from error
    if train_on == ALL:
        return _whole(chat, stops, writer.stop_id, example.place)
    return _with_answers(chat, _trained_answers(turns, train_on), stops, writer.stop_id, example.place)


def _trained_answers(turns: Sequence[Message], train_on: str) -> list[int]:
    """Numbers of the answers that are trained."""
    answers = [number for number, turn in enumerate(turns) if turn.role == ASSISTANT]
    if not answers:
        raise _Refused(f"{NOTHING}: no turn of the assistant")
    if train_on == LAST:
        answers = answers[-1:]
    trained = [number for number in answers if turns[number].trained]
    if not trained:
        which = "the last answer is" if train_on == LAST else "every answer is"
        raise _Refused(f"{NOTHING}: {which} marked as not to be trained")
    return trained


def _plain_text(text: str, place: str, writer: Writer) -> Document:
    """All of it and its end. Names of special tokens in it are ordinary text."""
    tokenizer = writer.tokenizer
    chat = tokenizer.with_one_bos(tokenizer.encode_pieces([Piece(text=text, owner=0)]))
    if 0 not in chat.owner:
        raise _Refused(f"{NOTHING}: the text is empty")
    return _document([*chat.ids, writer.stop_id], [1.0] * (len(chat.ids) + 1), place)


def _whole(chat: EncodedChat, stops: frozenset[int], stop: int, place: str) -> Document:
    """Everything is trained, up to the token that ends the last turn."""
    last = max((at for at, owner in enumerate(chat.owner) if owner != TEMPLATE), default=None)
    if last is None:
        raise _Refused(f"{NOTHING}: no turn says anything")
    end = _end(chat, last, stops)
    if end is None:
        return _document([*chat.ids, stop], [1.0] * (len(chat.ids) + 1), place)
    return _document(chat.ids, [1.0] * (end + 1) + [0.0] * (len(chat.ids) - end - 1), place)


def _with_answers(chat: EncodedChat, answers: Sequence[int], stops: frozenset[int], stop: int, place: str) -> Document:
    """The answers are trained, each with what stands behind it up to the token that ends it."""
    wanted = frozenset(answers)
    weights = [1.0 if owner in wanted else 0.0 for owner in chat.owner]
    last_of = {owner: at for at, owner in enumerate(chat.owner)}
    if not wanted & last_of.keys():
        raise _Refused(f"{NOTHING}: " + ("the answer is empty" if len(answers) == 1 else "the answers are empty"))
    ids = chat.ids
    for answer in answers:
        last = last_of.get(answer)
        if last is None:
            continue
        end = _end(chat, last, stops)
        if end is not None:
            weights[last + 1 : end + 1] = [1.0] * (end - last)
        elif all(owner == TEMPLATE for owner in chat.owner[last + 1 :]):
            # The template ends the conversation without a stop token: the model has to learn to write one there.
            weights[last + 1 :] = [1.0] * (len(ids) - last)
            ids = [*ids, stop]
    return _document(ids, weights, place)


def _end(chat: EncodedChat, last: int, stops: frozenset[int]) -> int | None:
    """The place of the first stop token behind a turn whose last token is at `last`; None before the next turn."""
    for place in range(last + 1, len(chat.ids)):
        if chat.owner[place] != TEMPLATE:
            return None
        if chat.ids[place] in stops:
            return place
    return None


def _document(ids: Sequence[int], weights: list[float], place: str) -> Document:
    """Nothing stands before the first token to predict it from, so it is never trained: BOS, where there is one."""
    weights[0] = 0.0
    # Arrays take a fifth of the memory of lists.
    return Document(array("I", ids), array("f", weights), place)
