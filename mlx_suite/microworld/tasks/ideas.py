"""Brainstorming: a given number of distinct members of a closed set."""

from collections.abc import Mapping
from random import Random

from ..lexicon import KINDS, article, listing
from ..task import Answering, Slots, Task, one_of
from ..world import World

_OPENINGS = (
    "I need ideas.",
    "Let us think together.",
    "My class needs some ideas.",
    "I am making a game.",
    "You are full of ideas.",
    "Please be quick.",
)
_COUNTS = ("2", "3", "4")
_USES: Mapping[str, tuple[str, ...]] = {
    "box": ("keep toys", "carry books", "send a gift", "store shoes"),
    "rope": ("tie a boat", "climb a tree", "pull a car", "make a swing"),
    "cup": ("drink tea", "hold pens", "measure rice", "grow a flower"),
    "stone": ("hold a door", "build a wall", "mark a path", "crack nuts"),
    "bucket": ("carry water", "wash a car", "hold sand", "collect apples"),
    "basket": ("carry bread", "collect apples", "keep wool", "store toys"),
    "blanket": ("keep warm", "sit on the grass", "make a tent", "cover a bed"),
    "table": ("eat dinner", "write a letter", "play cards", "cut bread"),
    "sheet": ("write a letter", "draw a picture", "make a hat", "wrap a gift"),
    "lamp": ("read at night", "find the way", "warm a room", "light a path"),
    "chair": ("sit down", "hold a coat", "reach a shelf", "make a tent"),
    "bag": ("carry books", "store shoes", "bring lunch", "hold sand"),
}
_TIMES: Mapping[str, tuple[str, ...]] = {
    "in summer": ("swim in the lake", "have a picnic", "sleep in a tent", "eat ice cream"),
    "in winter": ("build a snowman", "go skating", "drink cocoa", "feed the birds"),
    "on a rainy day": ("read a book", "bake a cake", "play cards", "write a letter"),
    "in the evening": ("cook dinner", "listen to music", "look at the stars", "play cards"),
    "on the weekend": ("visit friends", "clean the house", "go hiking", "bake a cake"),
    "at the beach": ("swim in the sea", "build a sand castle", "play ball", "eat ice cream"),
    "at school": ("learn to read", "draw a picture", "sing a song", "meet friends"),
    "in the garden": ("plant a tree", "water the roses", "pick apples", "feed the birds"),
    "in the forest": ("climb a tree", "look for birds", "collect leaves", "have a picnic"),
    "in spring": ("plant a tree", "ride a bicycle", "pick flowers", "clean the house"),
    "on a birthday": ("eat cake", "sing a song", "dance with friends", "open a gift"),
    "on a train": ("read a book", "look outside", "play cards", "listen to music"),
}
_PET_COLORS: Mapping[str, tuple[str, ...]] = {
    "black": ("Shadow", "Midnight"),
    "white": ("Snowball", "Pearl"),
    "brown": ("Coco", "Chestnut"),
    "yellow": ("Sunny", "Goldie"),
    "gray": ("Smoky", "Misty"),
    "red": ("Ruby", "Ginger"),
}
_PET_ANIMALS = ("dog", "cat", "rabbit", "horse", "goat", "parrot", "duck", "mouse", "cow", "hen")


def _some_of(members: Mapping[str, tuple[str, ...]], topic: str, frames: tuple[tuple[str, str], ...]) -> Answering:
    """Answers that name `n` distinct members of the topic's set, in one of the frames."""

    def write(slots: Slots, rng: Random, world: World) -> str:
        before, after = rng.choice(frames)
        items = listing(rng.sample(members[slots[topic]], int(slots["n"])))
        return _fill(before, slots[topic]) + items + _fill(after, slots[topic])

    def judge(slots: Slots, answer: str, world: World) -> bool:
        return any(
            _is_listing(
                answer, _fill(before, slots[topic]), _fill(after, slots[topic]), members[slots[topic]], int(slots["n"])
            )
            for before, after in frames
        )

    return Answering(write=write, judge=judge)


def _fill(frame: str, topic: str) -> str:
    return frame.format(topic=topic, a=article(topic))


def _is_listing(answer: str, before: str, after: str, members: tuple[str, ...], count: int) -> bool:
    if not (answer.startswith(before) and answer.endswith(after)):
        return False
    inner = answer[len(before) : len(answer) - len(after)]
    items = inner.replace(" and ", ", ").split(", ")
    right = len(items) == len(set(items)) == count and set(items) <= set(members)
    # Joining again and comparing rejects misplaced commas and a repeated "and".
    return right and listing(items) == inner


def _pet_names(slots: Slots, world: World) -> tuple[str, ...]:
    first, second = _PET_COLORS[slots["color"]]
    return tuple(
        f"You could call your {slots['color']} {slots['animal']} {a} or {b}."
        for a, b in ((first, second), (second, first))
    )


TASKS = (
    Task(
        name="name_some",
        category="Brainstorming",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"kind": tuple(KINDS), "n": _COUNTS},
        phrasings=(
            "Name {n:word} {kind:plural}.",
            "Give me the names of {n:word} {kind:plural}.",
            "Which {n:word} {kind:plural} come to your mind?",
            "List {n:word} different {kind:plural}, please.",
            "Can you think of {n:word} {kind:plural}?",
            "I am looking for {n:word} {kind:plural}. Which ones do you know?",
            "Please write down {n:word} {kind:plural} for my list.",
        ),
        answering=_some_of(KINDS, "kind", (("You could name ", "."),)),
    ),
    Task(
        name="uses_of_thing",
        category="Brainstorming",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"thing": tuple(_USES), "n": ("2", "3")},
        phrasings=(
            "What can I do with {thing:a}? Give me {n:word} ideas.",
            "Think of {n:word} uses for {thing:a}.",
            "Name {n:word} things people can do with {thing:a}.",
            "I found {thing:a} at home. Tell me {n:word} ways to use it.",
            "How could I use {thing:a}? List {n:word} uses.",
            "Please give me {n:word} different uses of {thing:a}.",
        ),
        answering=_some_of(_USES, "thing", (("You can use {a} to ", "."),)),
    ),
    Task(
        name="things_to_do",
        category="Brainstorming",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"when": tuple(_TIMES), "n": ("2", "3")},
        phrasings=(
            "What can we do {when}? Give me {n:word} ideas.",
            "Name {n:word} nice things to do {when}.",
            "Suggest {n:word} things that children can do {when}.",
            "I do not know what to do {when}. Tell me {n:word} things.",
            "Think of {n:word} ways to have fun {when}.",
            "Please list {n:word} things my family could do {when}.",
        ),
        answering=_some_of(_TIMES, "when", (("You could ", " {topic}."), ("You could ", "."))),
    ),
    Task(
        name="pet_names",
        category="Brainstorming",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"color": tuple(_PET_COLORS), "animal": _PET_ANIMALS},
        phrasings=(
            "Suggest two names for a {color} {animal}.",
            "How could I call my {color} {animal}? Give me two names.",
            "I have a new {color} {animal}. Which two names would fit?",
            "Think of two good names for my {color} {animal}.",
            "What are two nice names for a {animal} that is {color}?",
            "Please give me two ideas for the name of a {color} {animal}.",
        ),
        answering=one_of(_pet_names),
    ),
)
