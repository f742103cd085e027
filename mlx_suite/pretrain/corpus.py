"""The microworld as documents to learn from: conversations, biographies in between, and drills."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from mlx_suite.data.rows import Document, Rows, pack
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
from mlx_suite.pretrain.recipe import Phase, Recipe
from mlx_suite.text import ChatTemplate, Message, Tokenizer, encode_chat

Text = str | list[Example] | tuple[str, str]
"""Plain text, the turns of a conversation, or a drill: what is told and what is told again."""

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
    """A phase's documents: its shares of drills and of practice, the rest as the microworld draws them."""
    rng = Random(f"phase {seed}")
    usual, practised = documents(world, seed, phase.documents), practice(world, seed, phase.practised)
    for _ in range(phase.documents):
        kind = rng.random()
        if kind < phase.drill_share:
            yield write_drill(rng)
        elif kind < phase.drill_share + phase.practice_share:
            yield next(practised)
        elif kind < phase.drill_share + phase.practice_share + phase.echo_share:
            yield write_echo(rng)
        else:
            yield next(usual)


def tokenizer_texts(recipe: Recipe) -> Iterator[str]:
    """What the tokenizer is trained on: the documents with the words of the chat templates."""
    for document in documents(make_world(), recipe.seed, recipe.tokenizer_documents):
        if isinstance(document, str):
            yield document
            continue
        assert isinstance(document, list)
        for turn in document:
            yield f"user\n\n{turn.instruction}"
            yield f"assistant\n\n{turn.answer}"
            yield from ("model\n\n", "system\n\n")


def encode_text(tokenizer: Tokenizer, template: ChatTemplate, text: Text, end: int, user_weight: float) -> Document:
    """A conversation as its chat template writes it; anything else between BOS and `end`.

    A token of a user turn counts `user_weight`: it can hardly be foreseen, and what it adds to the gradient is mostly
    noise. Of a drill only what is told again counts.
    """
    if isinstance(text, str):
        return Document.whole([*tokenizer.encode_prompt(text), end])
    if isinstance(text, tuple):
        told, again = tokenizer.encode_prompt(text[0]), tokenizer.encode(text[1])
        return Document([*told, *again, end], [0.0] * len(told) + [1.0] * (len(again) + 1))
    messages = [
        message
        for turn in text
        for message in (
            Message(role="user", content=turn.instruction),
            Message(role="assistant", content=turn.answer),
        )
    ]
    chat = encode_chat(tokenizer, template, messages)
    return Document(chat.ids, [user_weight if owner % 2 == 0 else 1.0 for owner in chat.owner])


def make_rows(recipe: Recipe, number: int, tokenizer: Tokenizer, template: ChatTemplate, path: Path) -> Rows:
    """The training rows of a recipe's phase, kept at `path` for the next start."""
    if path.exists():
        return Rows.load(path)
    phase = recipe.phases[number]
    end = tokenizer.id_of("<|end_of_text|>" if recipe.family == "llama3" else "<eos>")
    assert end is not None
    drawn = phase_documents(make_world(), recipe.seed + 1 + number, phase)
    rows = pack(
        (encode_text(tokenizer, template, text, end, phase.user_weight) for text in drawn),
        recipe.row_length,
    )
    rows.save(path)
    return rows
