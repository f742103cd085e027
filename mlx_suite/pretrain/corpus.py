"""The microworld as documents to learn from: conversations, biographies in between, drills, tags, steering."""

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random

from mlx_suite.data.batch.rows import Document, Rows, pack
from mlx_suite.data.steering import lead
from mlx_suite.microworld import (
    TASKS,
    Example,
    World,
    is_heldout,
    make_world,
    sample_example,
    training_conversations,
    write_biography,
    write_place,
)
from mlx_suite.pretrain.drills import write_drill, write_echo
from mlx_suite.pretrain.plans import Phase, TrainingPlan
from mlx_suite.pretrain.steered import Steered, write_steered
from mlx_suite.pretrain.tagged import Asked, write_asked
from mlx_suite.text import ChatTemplate, EncodedChat, Message, Tokenizer, encode_chat
from mlx_suite.text.message import ASSISTANT, USER

Text = str | list[Example] | tuple[str, str] | Asked | Steered
"""Plain text, the turns of a conversation, a drill (what is told and what is told again), questions with their
labels, or a conversation behind what steers it."""

PLAIN_SHARE = 0.1
"""Of the documents are plain text: enough to tell the facts in other words than answers do."""
PERSON_SHARE = 0.75
"""Of the plain texts are about people, the others about places."""


def documents(world: World, seed: int, count: int) -> Iterator[Text]:
    """`count` documents as the microworld draws them; held-out instructions are not among them."""
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
    """Endless single-turn conversations of the named tasks."""
    rng = Random(f"practice {seed}")
    pool = [task for task in TASKS if task.name in tasks]
    assert len(pool) == len(tasks), "every task to practise is a task of the microworld"
    while True:
        example = sample_example(rng, world, pool)
        if not is_heldout(example.instruction):
            yield [example]


def phase_documents(world: World, seed: int, phase: Phase) -> Iterator[Text]:
    """A phase's documents: its shares of every other kind, the rest as the microworld draws them."""
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
    """What the tokenizer is trained on: the documents with the words of the chat templates."""
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
    """A conversation as its chat template writes it; anything else between BOS and `end`.

    A token of a user turn counts `user_weight`: it can hardly be foreseen, and what it adds to the gradient is mostly
    noise. Behind a text that steers it counts `steered_user_weight`, and that text not at all. Of a drill only what is
    told again counts, of questions only the labels.
    """
    if isinstance(text, str):
        return Document.whole([*tokenizer.encode_prompt(text), end])
    if isinstance(text, tuple):
        told, again = tokenizer.encode_prompt(text[0]), tokenizer.encode(text[1])
        return Document([*told, *again, end], [0.0] * len(told) + [1.0] * (len(again) + 1))
    if isinstance(text, Asked):
        return _labels_alone(encode_chat(tokenizer, template, text.messages), text.messages)
    if isinstance(text, Steered):
        before = lead(template, text.text)
        chat = encode_chat(tokenizer, template, [*before, *_messages(text.turns)])
        start = max(place for place, owner in enumerate(chat.owner) if owner == len(before) - 1) + 1
        roles = [message.role for message in (*before, *_messages(text.turns))]
        weights = [steered_user_weight if owner >= 0 and roles[owner] == USER else 1.0 for owner in chat.owner]
        return Document(chat.ids, [0.0] * start + weights[start:])
    chat = encode_chat(tokenizer, template, _messages(text))
    return Document(chat.ids, [user_weight if owner % 2 == 0 else 1.0 for owner in chat.owner])


def _messages(turns: Sequence[Example]) -> list[Message]:
    return [
        message
        for turn in turns
        for message in (Message(role=USER, content=turn.instruction), Message(role=ASSISTANT, content=turn.answer))
    ]


def _labels_alone(chat: EncodedChat, messages: Sequence[Message]) -> Document:
    """The trained messages count, and the token behind each: it says that there is nothing more."""
    trained = [owner >= 0 and messages[owner].trained for owner in chat.owner]
    ends = [before and not here for before, here in zip([False, *trained], trained, strict=False)]
    return Document(chat.ids, [float(one or other) for one, other in zip(trained, ends, strict=True)])


def make_rows(plan: TrainingPlan, number: int, tokenizer: Tokenizer, template: ChatTemplate, path: Path) -> Rows:
    """The training rows of a plan's phase, kept at `path` for the next start."""
    if path.exists():
        return Rows.load(path)
    phase = plan.phases[number]
    end = tokenizer.id_of("<|end_of_text|>" if plan.family == "llama3" else "<eos>")
    assert end is not None
    drawn = phase_documents(make_world(), plan.seed + 1 + number, phase)
    rows = pack((_weighed(tokenizer, template, text, end, phase) for text in drawn), plan.row_length)
    rows.save(path)
    return rows


def _weighed(tokenizer: Tokenizer, template: ChatTemplate, text: Text, end: int, phase: Phase) -> Document:
    """A document with the weights of its phase."""
    document = encode_text(tokenizer, template, text, end, phase.user_weight, phase.steered_user_weight)
    if isinstance(text, Asked) or phase.weight_beside_labels == 1.0:
        return document
    return Document(document.tokens, [phase.weight_beside_labels * weight for weight in document.weights])
