"""Planning: known three-step plans, and ordering or reading a schedule given in the instruction."""

from collections.abc import Mapping
from random import Random

from ..lexicon import DAYS, listing
from ..task import Answering, Slots, Task, one_of
from ..world import World

_OPENINGS = (
    "I need a good plan.",
    "I have some free time.",
    "This is my first time.",
    "Please help me with my day.",
    "I want to do this well.",
    "My family needs a plan.",
)
_PLANS: Mapping[str, tuple[str, str, str]] = {
    "make tea": ("Boil the water", "Put the tea in a cup", "Pour the water into the cup"),
    "wash the car": ("Fill a bucket with water", "Wash the car with soap", "Dry the car"),
    "bake bread": ("Mix flour and water", "Let the dough rest", "Bake the dough in the oven"),
    "plant a tree": ("Dig a hole", "Put the tree in the hole", "Water the tree"),
    "write a letter": ("Take paper and a pen", "Write the words", "Put the letter in a box"),
    "clean a room": ("Pick up the toys", "Wipe the table", "Sweep the floor"),
    "paint a wall": ("Cover the floor", "Open the paint", "Paint the wall with a brush"),
    "cook soup": ("Cut the vegetables", "Boil the vegetables in water", "Add salt"),
    "make a salad": ("Wash the leaves", "Cut the vegetables", "Add oil and salt"),
    "borrow a book": ("Go to the library", "Choose a book", "Show the card at the desk"),
    "catch a fish": ("Take a rod and a net", "Walk to the river", "Wait for a fish"),
    "visit a friend": ("Call the friend", "Take the bus", "Knock on the door"),
    "wash a dog": ("Fill a tub with water", "Wash the dog with soap", "Dry the dog"),
    "make a sandwich": ("Cut the bread", "Put cheese on the bread", "Close the sandwich"),
    "send a gift": ("Put the gift in a box", "Write the name on the box", "Take it to the post"),
    "prepare a party": ("Invite the friends", "Buy food and drinks", "Put up the lights"),
    "learn a song": ("Listen to the song", "Read the words", "Sing the song every day"),
    "build a table": ("Cut the wood", "Join the legs and the top", "Paint the table"),
    "catch a train": ("Buy a ticket", "Find the train", "Take a seat"),
    "make pancakes": ("Mix flour, milk and eggs", "Heat the pan", "Fry both sides"),
}
_ORDINALS = ("first", "second", "last")
_HOURS = tuple(str(hour) for hour in range(1, 13))
_DOINGS = ("swim", "read", "cook", "paint", "sing", "run", "sleep", "dance", "work", "shop")
_TRIPS: Mapping[str, tuple[str, ...]] = {
    "the beach": ("a towel", "a hat", "a ball", "sun cream", "water", "a book"),
    "the mountains": ("a map", "a coat", "boots", "a rope", "water", "bread"),
    "school": ("a pen", "paper", "a book", "an apple", "a bag", "a ruler"),
    "the forest": ("a map", "boots", "a basket", "a lamp", "water", "a knife"),
    "a picnic": ("bread", "cheese", "apples", "juice", "a blanket", "cups"),
    "the lake": ("a towel", "a rod", "a boat", "sun cream", "a hat", "bread"),
    "a long train ride": ("a book", "a ticket", "water", "music", "a blanket", "apples"),
    "a cold city": ("a coat", "a scarf", "gloves", "boots", "a map", "a hat"),
}
_COUNTS = ("2", "3")
_PACKING_STARTS = ("You should pack", "Take")


def _steps(slots: Slots, world: World) -> tuple[str, ...]:
    first, second, third = _PLANS[slots["activity"]]
    return (f"1. {first}.\n2. {second}.\n3. {third}.",)


def _one_step(slots: Slots, world: World) -> tuple[str, ...]:
    ordinal = slots["ordinal"]
    step = _PLANS[slots["activity"]][_ORDINALS.index(ordinal)]
    return (f"The {ordinal} step in this plan is the following: {step}.",)


def _ordered(slots: Slots, world: World) -> tuple[str, ...]:
    pairs = sorted((int(slots[t]), slots[x]) for t, x in zip("klm", "xyz", strict=True))
    (k, x), (m, y), (n, z) = pairs
    return (f"First {x} at {k}, then {y} at {m} and last {z} at {n}.",)


def _on_day(slots: Slots, world: World) -> tuple[str, ...]:
    doing = {slots[d]: slots[x] for d, x in zip("def", "xyz", strict=True)}[slots["day"]]
    return (f"On {slots['day']} you {doing}.", f"Your plan for {slots['day']} is to {doing}.")


def _sample_days(rng: Random) -> dict[str, str]:
    days = rng.sample(DAYS, 3)
    slots = dict(zip("def", days, strict=True)) | dict(zip("xyz", rng.sample(_DOINGS, 3), strict=True))
    return slots | {"day": rng.choice(days)}


def _write_packing(slots: Slots, rng: Random, world: World) -> str:
    items = rng.sample(_TRIPS[slots["trip"]], int(slots["n"]))
    return f"{rng.choice(_PACKING_STARTS)} {listing(items)}."


def _judge_packing(slots: Slots, answer: str, world: World) -> bool:
    for start in _PACKING_STARTS:
        if answer.startswith(f"{start} ") and answer.endswith("."):
            items = answer[len(start) + 1 : -1].replace(" and ", ", ").split(", ")
            allowed = set(_TRIPS[slots["trip"]])
            count = len(items) == len(set(items)) == int(slots["n"])
            # Joining again and comparing rejects misplaced commas and a repeated "and".
            return count and set(items) <= allowed and answer == f"{start} {listing(items)}."
    return False


def _three_distinct(slots: Slots, names: str) -> bool:
    return len({slots[name] for name in names}) == 3


TASKS = (
    Task(
        name="three_step_plan",
        category="Planning",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"activity": tuple(_PLANS)},
        phrasings=(
            "Make a plan with three steps: I want to {activity}.",
            "How do I {activity}? Give me three steps.",
            "Write a three-step plan for {activity:ing}.",
            "I want to {activity}. List the three steps for me.",
            "Please explain {activity:ing} in three short steps.",
            "What are the three steps of {activity:ing}?",
            "Give me a numbered list with three steps for {activity:ing}.",
            "Tomorrow I will {activity}. Which three steps should I follow?",
            "Could you show me how to {activity} in three steps?",
        ),
        answering=one_of(_steps),
    ),
    Task(
        name="one_step",
        category="Planning",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"activity": tuple(_PLANS), "ordinal": _ORDINALS},
        phrasings=(
            "What is the {ordinal} step when I {activity}?",
            "I want to {activity}. What is the {ordinal} step?",
            "Tell me the {ordinal} step of {activity:ing}.",
            "Name only the {ordinal} step in a plan for {activity:ing}.",
            "We are going to {activity}. What do we have to do in the {ordinal} step?",
            "Can you tell me the {ordinal} step of a plan to {activity}?",
            "Please say what the {ordinal} step is when people {activity}.",
        ),
        answering=one_of(_one_step),
    ),
    Task(
        name="order_by_time",
        category="Planning",
        difficulty="hard",
        openings=_OPENINGS,
        slots=dict.fromkeys("klm", _HOURS) | dict.fromkeys("xyz", _DOINGS),
        valid=lambda s: _three_distinct(s, "klm") and _three_distinct(s, "xyz"),
        phrasings=(
            "I want to {x} at {k}, {y} at {l} and {z} at {m}. Put my plan in order.",
            "Put these in order of time: {x} at {k}, {y} at {l}, {z} at {m}.",
            "Today I will {x} at {k}, {y} at {l} and {z} at {m}. What is the right order?",
            "Order my day by time.\n- {x} at {k}\n- {y} at {l}\n- {z} at {m}",
            "In which order should I do these things: {x} at {k}, {y} at {l} and {z} at {m}?",
            "Please make a plan from this list.\n{x}: {k}\n{y}: {l}\n{z}: {m}",
        ),
        answering=one_of(_ordered),
    ),
    Task(
        name="plan_of_day",
        category="Planning",
        difficulty="easy",
        openings=_OPENINGS,
        slots=dict.fromkeys("def", DAYS) | dict.fromkeys("xyz", _DOINGS) | {"day": DAYS},
        sampler=_sample_days,
        valid=lambda s: (
            _three_distinct(s, "def") and _three_distinct(s, "xyz") and s["day"] in (s["d"], s["e"], s["f"])
        ),
        phrasings=(
            "On {d} I {x}, on {e} I {y} and on {f} I {z}. What do I do on {day}?",
            "My week: {d} {x}, {e} {y}, {f} {z}. What is my plan for {day}?",
            "Here is my plan.\n{d}: {x}\n{e}: {y}\n{f}: {z}\nWhat should I do on {day}?",
            "I {x} on {d}, {y} on {e} and {z} on {f}. Tell me my plan for {day}.",
            "What do I do on {day} if I {x} on {d}, {y} on {e} and {z} on {f}?",
            "Look at my list and tell me about {day}.\n- {x} on {d}\n- {y} on {e}\n- {z} on {f}",
        ),
        answering=one_of(_on_day),
    ),
    Task(
        name="packing_list",
        category="Planning",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"trip": tuple(_TRIPS), "n": _COUNTS},
        phrasings=(
            "Name {n:word} things to pack for {trip}.",
            "What should I pack for {trip}? Give me {n:word} things.",
            "I am planning a day. Which {n:word} things should I take along for {trip}?",
            "Make a packing list with {n:word} things for {trip}.",
            "Help me pack for {trip}. I can take only {n:word} things.",
            "Please list {n:word} useful things to bring for {trip}.",
            "My bag has room for {n:word} things. What do I need for {trip}?",
        ),
        answering=Answering(write=_write_packing, judge=_judge_packing),
    ),
)
