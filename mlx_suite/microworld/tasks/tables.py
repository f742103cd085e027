"""Data analysis: reading, comparing and adding the numbers of a small table."""

from random import Random

from ..lexicon import KINDS, capital
from ..task import Slots, Task, one_of
from ..world import FIRST_NAMES, World

_OPENINGS = (
    "I am working on a report.",
    "Please look at my data.",
    "These are my numbers.",
    "I need help with this table.",
    "You are good with data.",
    "My class made a small table.",
)
_NUMBERS = tuple(str(n) for n in range(1, 21))
_SMALL = tuple(str(n) for n in range(1, 10))
_COLORS = KINDS["color"]
_ROWS = "\n{x}: {k}\n{y}: {l}\n{z}: {m}"
_TABLE = dict.fromkeys("xyz", FIRST_NAMES) | dict.fromkeys("klm", _NUMBERS)


def _valid(slots: Slots) -> bool:
    return len({slots[x] for x in "xyz"}) == 3 and len({slots[k] for k in "klm"}) == 3


def _rows(slots: Slots) -> dict[str, int]:
    return {slots[x]: int(slots[k]) for x, k in zip("xyz", "klm", strict=True)}


def _largest(slots: Slots, world: World) -> tuple[str, ...]:
    rows = _rows(slots)
    name = max(rows, key=rows.__getitem__)
    k, m, n = rows.values()
    return (f"The largest of {k}, {m} and {n} is {rows[name]}, so the answer is {name}.",)


def _smallest(slots: Slots, world: World) -> tuple[str, ...]:
    rows = _rows(slots)
    name = min(rows, key=rows.__getitem__)
    k, m, n = rows.values()
    return (f"The smallest of {k}, {m} and {n} is {rows[name]}, so the answer is {name}.",)


def _value(slots: Slots, world: World) -> tuple[str, ...]:
    return (f"In this table, the number of {slots['name']} is {_rows(slots)[slots['name']]}.",)


def _owner(slots: Slots, world: World) -> tuple[str, ...]:
    name = next(name for name, number in _rows(slots).items() if str(number) == slots["n"])
    return (f"In this table, the number {slots['n']} belongs to {name}.",)


def _total(slots: Slots, world: World) -> tuple[str, ...]:
    rows = {slots[x]: int(slots[k]) for x, k in zip("xyz", "klm", strict=True)}
    a, b = rows[slots["a"]], rows[slots["b"]]
    return (f"{slots['a']} has {a} and {slots['b']} has {b}, so together they have {a + b}.",)


def _draw(rng: Random, numbers: tuple[str, ...] = _NUMBERS) -> dict[str, str]:
    return dict(zip("xyz", rng.sample(FIRST_NAMES, 3), strict=True)) | dict(
        zip("klm", rng.sample(numbers, 3), strict=True)
    )


def _draw_name(rng: Random) -> dict[str, str]:
    slots = _draw(rng)
    return slots | {"name": slots[rng.choice("xyz")]}


def _draw_number(rng: Random) -> dict[str, str]:
    slots = _draw(rng)
    return slots | {"n": slots[rng.choice("klm")]}


def _draw_two(rng: Random) -> dict[str, str]:
    slots = _draw(rng, _SMALL)
    first, second = rng.sample("xyz", 2)
    return slots | {"a": slots[first], "b": slots[second]}


def _count(slots: Slots, world: World) -> tuple[str, ...]:
    number = [slots[name] for name in "pqrs"].count(slots["color"])
    times = "once" if number == 1 else f"{number} times"
    return (f"{capital(slots['color'])} is in the list {times}.",)


def _draw_colors(rng: Random) -> dict[str, str]:
    color, *others = rng.sample(_COLORS, 3)
    words = [color, *rng.choices((color, *others), k=3)]
    rng.shuffle(words)
    return dict(zip("pqrs", words, strict=True)) | {"color": color}


TASKS = (
    Task(
        name="table_largest",
        category="Data analysis",
        difficulty="hard",
        openings=_OPENINGS,
        slots=_TABLE,
        sampler=_draw,
        valid=_valid,
        phrasings=(
            f"Who has the largest number?{_ROWS}",
            f"Look at the table and tell me who is at the top.{_ROWS}",
            f"Find the largest number in this list.{_ROWS}",
            "In a game {x} has {k} points, {y} has {l} and {z} has {m}. Who has the most points?",
            f"Which person has the highest number?{_ROWS}",
            "The points are {x} {k}, {y} {l} and {z} {m}. Who wins with the largest number?",
        ),
        answering=one_of(_largest),
    ),
    Task(
        name="table_smallest",
        category="Data analysis",
        difficulty="hard",
        openings=_OPENINGS,
        slots=_TABLE,
        sampler=_draw,
        valid=_valid,
        phrasings=(
            f"Who has the smallest number?{_ROWS}",
            f"Look at the table and tell me who comes last.{_ROWS}",
            f"Find the smallest number in this list.{_ROWS}",
            "In a game {x} has {k} points, {y} has {l} and {z} has {m}. Who has the lowest number?",
            f"Which person has the lowest number?{_ROWS}",
            "The points are {x} {k}, {y} {l} and {z} {m}. Who has the smallest number?",
        ),
        answering=one_of(_smallest),
    ),
    Task(
        name="table_value",
        category="Data analysis",
        difficulty="easy",
        openings=_OPENINGS,
        slots=_TABLE | {"name": FIRST_NAMES},
        sampler=_draw_name,
        valid=lambda s: _valid(s) and s["name"] in (s["x"], s["y"], s["z"]),
        phrasings=(
            f"What is the number of {{name}} in this table?{_ROWS}",
            f"Read the table and tell me the number of {{name}}.{_ROWS}",
            f"How many points does {{name}} have?{_ROWS}",
            "{x} has {k} books, {y} has {l} books and {z} has {m} books. How many books does {name} have?",
            f"Here is a list. Find the number next to {{name}}.{_ROWS}",
            "The points are {x} {k}, {y} {l} and {z} {m}. What is the number of {name}?",
        ),
        answering=one_of(_value),
    ),
    Task(
        name="table_owner",
        category="Data analysis",
        difficulty="medium",
        openings=_OPENINGS,
        slots=_TABLE | {"n": _NUMBERS},
        sampler=_draw_number,
        valid=lambda s: _valid(s) and s["n"] in (s["k"], s["l"], s["m"]),
        phrasings=(
            f"Who has the number {{n}} in this table?{_ROWS}",
            f"Read the table and tell me whose number is {{n}}.{_ROWS}",
            f"Which name stands next to {{n}}?{_ROWS}",
            "{x} has {k} points, {y} has {l} and {z} has {m}. Who has exactly {n} points?",
            f"To whom does the number {{n}} belong?{_ROWS}",
            "The points are {x} {k}, {y} {l} and {z} {m}. Name the person with {n} points.",
        ),
        answering=one_of(_owner),
    ),
    Task(
        name="table_total",
        category="Data analysis",
        difficulty="very hard",
        openings=_OPENINGS,
        slots=dict.fromkeys("xyzab", FIRST_NAMES) | dict.fromkeys("klm", _SMALL),
        sampler=_draw_two,
        valid=lambda s: _valid(s) and s["a"] != s["b"] and {s["a"], s["b"]} <= {s["x"], s["y"], s["z"]},
        phrasings=(
            f"How many do {{a}} and {{b}} have together?{_ROWS}",
            f"Add the numbers of {{a}} and {{b}}.{_ROWS}",
            f"What is the sum for {{a}} and {{b}} in this table?{_ROWS}",
            "{x} has {k} points, {y} has {l} and {z} has {m}. How many points do {a} and {b} have together?",
            f"Look at the table. What do {{a}} and {{b}} have in all?{_ROWS}",
            "The points are {x} {k}, {y} {l} and {z} {m}. Add up the points of {a} and {b}.",
        ),
        answering=one_of(_total),
    ),
    Task(
        name="count_in_list",
        category="Data analysis",
        difficulty="medium",
        openings=_OPENINGS,
        slots=dict.fromkeys("pqrs", _COLORS) | {"color": _COLORS},
        sampler=_draw_colors,
        valid=lambda s: s["color"] in (s["p"], s["q"], s["r"], s["s"]),
        phrasings=(
            "How many times is {color} in this list: {p}, {q}, {r}, {s}?",
            "Count the word {color}: {p}, {q}, {r}, {s}.",
            "My list is {p}, {q}, {r}, {s}. How often do you see {color}?",
            "In the list below, how often is {color} named?\n{p}\n{q}\n{r}\n{s}",
            "We saw four cars: {p}, {q}, {r}, {s}. How many were {color}?",
            "Please count how often {color} is in {p}, {q}, {r}, {s}.",
        ),
        answering=one_of(_count),
    ),
)
