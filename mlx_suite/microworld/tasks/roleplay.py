"""Role playing: short speeches in a given role that contain everything the role requires."""

from collections.abc import Mapping

from ..lexicon import article
from ..task import Slots, Task, one_of
from ..world import FIRST_NAMES, FULL_NAMES, PLACE_NAMES, World

_OPENINGS = (
    "Let us play a game.",
    "I am writing a play.",
    "We are playing theater.",
    "This is for a show.",
    "Please stay in your role.",
    "It is early in the morning.",
)
_LINES: Mapping[str, tuple[str, str]] = {
    "baker": ("The bread is fresh today.", "Would you like some warm bread?"),
    "teacher": ("Please open your book.", "Today we read a new story."),
    "doctor": ("Please tell me where it hurts.", "Take this medicine with water."),
    "farmer": ("The apples are ripe today.", "My cows give good milk."),
    "painter": ("Which color do you want?", "Your picture is ready."),
    "pilot": ("We will fly in a few minutes.", "Please take your seat."),
    "nurse": ("The doctor will see you soon.", "Please lie down and rest."),
    "sailor": ("The wind is good today.", "Welcome on my boat."),
    "gardener": ("The roses are open today.", "Your garden needs water."),
    "tailor": ("Your coat is ready.", "Which cloth do you like?"),
    "fisher": ("The fish is fresh today.", "My net is full of fish."),
    "builder": ("Your house is almost ready.", "The walls are strong."),
    "driver": ("Where do you want to go?", "Please take a seat in my car."),
    "librarian": ("Which book do you need?", "Please be quiet in here."),
}
_ANIMALS: Mapping[str, tuple[str, str]] = {
    "dog": ("Woof", "house"),
    "cat": ("Meow", "house"),
    "cow": ("Moo", "farm"),
    "sheep": ("Baa", "farm"),
    "duck": ("Quack", "lake"),
    "lion": ("Roar", "grassland"),
    "horse": ("Neigh", "stable"),
    "owl": ("Hoot", "forest"),
    "bear": ("Growl", "forest"),
    "mouse": ("Squeak", "hole"),
    "frog": ("Croak", "pond"),
    "hen": ("Cluck", "farm"),
    "goat": ("Bleat", "hills"),
    "bee": ("Buzz", "hive"),
    "crow": ("Caw", "tree"),
}
_DISHES = tuple("soup pasta salad fish rice pie noodles bread".split())
_DRINKS = tuple("tea coffee milk juice water cocoa".split())


def _greeting(slots: Slots, world: World) -> tuple[str, ...]:
    name, job = slots["name"], slots["job"]
    return tuple(f"Hello, {name}! I am your {job}. {line}" for line in _LINES[job])


def _animal(slots: Slots, world: World) -> tuple[str, ...]:
    sound, home = _ANIMALS[slots["animal"]]
    return (f"{sound}! I am {article(slots['animal'])} and I live in the {home}.",)


def _speech(slots: Slots, world: World) -> tuple[str, ...]:
    person = world.person(slots["person"])
    return (
        f"Hello, I am {person.name}. I was born in {person.birthplace} and I work as {article(person.job)}.",
        f"My name is {person.name}. I am {article(person.job)} and I come from {person.birthplace}.",
    )


def _guide(slots: Slots, world: World) -> tuple[str, ...]:
    place = world.place(slots["place"])
    return (
        f"Welcome to {place.name}, {slots['name']}! Do not miss the {place.landmark}.",
        f"Hello, {slots['name']}! In {place.name} you should see the {place.landmark}.",
    )


TASKS = (
    Task(
        name="greet_as",
        category="Role playing",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"job": tuple(_LINES), "name": FIRST_NAMES},
        phrasings=(
            "You are {job:a}. Greet a customer named {name}.",
            "Act as {job:a} and say hello to {name}.",
            "Imagine that you are {job:a}. {name} comes in. What do you say?",
            "Play the role of {job:a} who meets {name}.",
            "Pretend to be {job:a} and welcome {name} in two or three sentences.",
            "My name is {name} and you are my {job}. Greet me.",
            "What would {job:a} say to a visitor called {name}? Answer in that role.",
        ),
        answering=one_of(_greeting),
    ),
    Task(
        name="speak_as_animal",
        category="Role playing",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"animal": tuple(_ANIMALS)},
        phrasings=(
            "Pretend to be {animal:a}. Say who you are and where you live.",
            "You are {animal:a} that can talk. Introduce yourself.",
            "Act as {animal:a}. Make your sound and tell me about your home.",
            "Imagine you are {animal:a}. What do you say about your home?",
            "Play {animal:a} and tell the children where you live.",
            "Speak like {animal:a} that talks about its home.",
            "If you were {animal:a}, how would you introduce yourself?",
        ),
        answering=one_of(_animal),
    ),
    Task(
        name="speak_as_person",
        category="Role playing",
        difficulty="hard",
        openings=_OPENINGS,
        slots={"person": FULL_NAMES},
        phrasings=(
            "Pretend you are {person} and introduce yourself.",
            "You are {person}. Tell me where you were born and what you do.",
            "Play the role of {person}. Say your name, your town and your job.",
            "Act as {person} and say a few words about yourself.",
            "Imagine you are {person}. How do you introduce yourself?",
            "Speak as {person} who meets a new neighbor.",
            "If you were {person}, what would you tell me about your town and your job?",
        ),
        answering=one_of(_speech),
    ),
    Task(
        name="guide_in_town",
        category="Role playing",
        difficulty="hard",
        openings=_OPENINGS,
        slots={"place": PLACE_NAMES, "name": FIRST_NAMES},
        phrasings=(
            "You are a guide in {place}. Welcome a visitor named {name}.",
            "Act as a guide who shows the town of {place} to {name}.",
            "Play a guide from {place} and greet {name}.",
            "Imagine you show people around in {place}. What do you tell {name}?",
            "My name is {name} and I am in {place}. Be my guide.",
            "Pretend to be a guide. {name} asks you what to see in {place}.",
        ),
        answering=one_of(_guide),
    ),
    Task(
        name="waiter",
        category="Role playing",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"dish": _DISHES, "drink": _DRINKS},
        phrasings=(
            "You are a waiter. I want {dish} and {drink}. Repeat my order.",
            "Act as a waiter. My order is {dish} with {drink}.",
            "Play a waiter. A guest asks for {dish} and a cup of {drink}. What do you say?",
            "Imagine you work in a restaurant. I say: I would like {dish} and {drink}, please.",
            "Pretend to be a waiter who takes my order for {dish} and {drink}.",
            "In the role of a waiter, answer me: Can I have {dish} and {drink}?",
        ),
        answering=one_of(
            lambda s, w: (
                f"Of course! You would like {s['dish']} and {s['drink']}.",
                f"Very good. One {s['dish']} and one {s['drink']}, right away.",
            )
        ),
    ),
)
