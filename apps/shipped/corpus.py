"""Training documents from the microworld: conversations, plain text, drills, tagging and steering."""

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random

from mlx_suite.data.batch.rows import Document, Rows, pack
from mlx_suite.data.steering import lead
from mlx_suite.microworld import (
    TASKS,
    World,
    WorldExample,
    is_heldout,
    make_world,
    sample_example,
    training_conversations,
    write_biography,
    write_place,
)
from mlx_suite.text import ChatTemplate, EncodedChat, Message, Tokenizer, encode_chat
from mlx_suite.text.message import ASSISTANT, USER

from .drills import write_drill, write_echo
from .plans import Phase, TrainingPlan
from .steered import SteeredExample, write_steered
from .tagged import Asked, write_asked

Text = str | list[WorldExample] | tuple[str, str] | Asked | SteeredExample
"""A document: plain text, the exchanges of a conversation, a drill (context, repetition), tagging questions with their
labels, or a steered conversation."""

PLAIN_SHARE = 0.1
"""Fraction of documents that are plain text, which phrases the facts differently from responses."""
PERSON_SHARE = 0.75
"""Fraction of plain texts that are about people; the others are about places."""


def documents(world: World, seed: int, count: int) -> Iterator[Text]:
    """Draw `count` documents of the microworld, without held-out instructions."""
    rng = Random(f"documents {seed}")
    conversations = training_conversations(seed, world)
    people, places = list(world.people.values()), list(world.places.values())
    for _ in range(count):
        if rng.random() >= PLAIN_SHARE:
            yield next(conversations)
        elif rng.random() < PERSON_SHARE:
            yield write_biography(rng.choice(people), rng)
        else:
            yield write_place(rng.choice(places), rng)


def practice(world: World, seed: int, tasks: Sequence[str]) -> Iterator[Text]:
    """Yield an endless stream of single-turn conversations of the named tasks."""
    rng = Random(f"practice {seed}")
    pool = [task for task in TASKS if task.name in tasks]
    assert len(pool) == len(tasks), "every task to practise is a task of the microworld"
    while True:
        example = sample_example(rng, world, pool)
        if not is_heldout(example.instruction):
            yield [example]


def phase_documents(world: World, seed: int, phase: Phase) -> Iterator[Text]:
    """Yield a phase's documents: its share of each special kind, and microworld documents for the rest."""
    rng = Random(f"phase {seed}")
    usual, practised = documents(world, seed, phase.documents), practice(world, seed, phase.practised)
    kinds: tuple[tuple[float, Callable[[], Text]], ...] = (
        (phase.drill_share, lambda: write_drill(rng)),
        (phase.practice_share, lambda: next(practised)),
        (phase.echo_share, lambda: write_echo(rng)),
        (phase.tag_share, lambda: write_asked(rng, world)),
        (phase.steer_share, lambda: write_steered(rng, world)),
    )
    ends = list(accumulate(share for share, _ in kinds))
    for _ in range(phase.documents):
        place = bisect(ends, rng.random())
        yield kinds[place][1]() if place < len(kinds) else next(usual)


def tokenizer_texts(plan: TrainingPlan) -> Iterator[str]:
    """Texts to train the tokenizer on, including the words of the chat templates."""
    for document in documents(make_world(), plan.seed, plan.tokenizer_documents):
        if isinstance(document, str):
            yield document
            continue
        assert isinstance(document, list)
        for turn in document:
            yield f"user\n\n{turn.instruction}"
            yield f"assistant\n\n{turn.answer}"
            yield from ("model\n\n", "system\n\n")


def encode_text(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    text: Text,
    end: int,
    user_weight: float,
    steered_user_weight: float = 1.0,
) -> Document:
    """Encode a conversation with its chat template, and any other text between BOS and `end`.

    User tokens get loss weight `user_weight`: they are hard to predict and add mostly noise to the gradient. After a
    steering text they get `steered_user_weight`, and the steering text itself gets 0. In a drill only the repetition is
    trained, in tagging only the labels.
    """
    if isinstance(text, str):
        return Document.whole([*tokenizer.encode_prompt(text), end])
    if isinstance(text, tuple):
        context, repeated = tokenizer.encode_prompt(text[0]), tokenizer.encode(text[1])
        return Document([*context, *repeated, end], [0.0] * len(context) + [1.0] * (len(repeated) + 1))
    if isinstance(text, Asked):
        return _labels_only(encode_chat(tokenizer, template, text.messages), text.messages)
    if isinstance(text, SteeredExample):
        before = lead(template, text.text)
        chat = encode_chat(tokenizer, template, [*before, *_messages(text.turns)])
        start = max(place for place, owner in enumerate(chat.owner) if owner == len(before) - 1) + 1
        roles = [message.role for message in (*before, *_messages(text.turns))]
        weights = [steered_user_weight if owner >= 0 and roles[owner] == USER else 1.0 for owner in chat.owner]
        return Document(chat.ids, [0.0] * start + weights[start:])
    chat = encode_chat(tokenizer, template, _messages(text))
    return Document(chat.ids, [user_weight if owner % 2 == 0 else 1.0 for owner in chat.owner])


def _messages(turns: Sequence[WorldExample]) -> list[Message]:
    return [
        message
        for turn in turns
        for message in (Message(role=USER, content=turn.instruction), Message(role=ASSISTANT, content=turn.answer))
    ]


def _labels_only(chat: EncodedChat, messages: Sequence[Message]) -> Document:
    """Train the marked messages and the token that ends each of them."""
    trained = [owner >= 0 and messages[owner].trained for owner in chat.owner]
    ends = [before and not here for before, here in zip([False, *trained], trained, strict=False)]
    return Document(chat.ids, [float(one or other) for one, other in zip(trained, ends, strict=True)])


def make_rows(plan: TrainingPlan, number: int, tokenizer: Tokenizer, template: ChatTemplate, path: Path) -> Rows:
    """The packed rows of one phase, cached at `path`."""
    if path.exists():
        return Rows.load(path)
    phase = plan.phases[number]
    end = tokenizer.id_of("<|end_of_text|>" if plan.family == "llama3" else "<eos>")
    assert end is not None
    drawn = phase_documents(make_world(), plan.seed + 1 + number, phase)
    rows = pack((_weighted(tokenizer, template, text, end, phase) for text in drawn), plan.row_length)
    rows.save(path)
    return rows


def _weighted(tokenizer: Tokenizer, template: ChatTemplate, text: Text, end: int, phase: Phase) -> Document:
    """Encode a document with its phase's loss weights."""
    document = encode_text(tokenizer, template, text, end, phase.user_weight, phase.steered_user_weight)
    if isinstance(text, Asked) or phase.weight_beside_labels == 1.0:
        return document
    return Document(document.tokens, [phase.weight_beside_labels * weight for weight in document.weights])
