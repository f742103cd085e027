"""Math: small sums, differences, products and comparisons, bare or as word problems."""

from ..lexicon import plural
from ..task import Slots, Task, one_of
from ..world import FIRST_NAMES, World

_OPENINGS = (
    "I am checking my homework.",
    "Please help me with math.",
    "Here is an easy one.",
    "You are a math teacher.",
    "I am in the second class.",
    "Let us do some math.",
)
_ADD = tuple(str(n) for n in range(1, 13))
_SUBTRACT = tuple(str(n) for n in range(1, 21))
_TIMES = tuple(str(n) for n in range(2, 10))
_GOODS = tuple("apple pear lemon egg book ball cup ring hat cake".split())


def _sum(slots: Slots) -> int:
    return int(slots["a"]) + int(slots["b"])


def _difference(slots: Slots) -> int:
    return int(slots["a"]) - int(slots["b"])


def _product(slots: Slots) -> int:
    return int(slots["a"]) * int(slots["b"])


def _larger(slots: Slots, world: World) -> tuple[str, ...]:
    low, high = sorted((int(slots["a"]), int(slots["b"])))
    if slots["which"] == "larger":
        return (
            f"Of the two numbers, {high} is the larger one.",
            f"The larger number is {high}, because {high} is more than {low}.",
        )
    return (
        f"Of the two numbers, {low} is the smaller one.",
        f"The smaller number is {low}, because {low} is less than {high}.",
    )


TASKS = (
    Task(
        name="add",
        category="Math",
        difficulty="very easy",
        openings=_OPENINGS,
        slots={"a": _ADD, "b": _ADD},
        phrasings=(
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "What is the sum of {a} and {b}?",
            "Please add the numbers {a} and {b} for me.",
            "How much is {a} + {b}?",
            "Can you tell me the sum of the numbers {a} and {b}?",
            "I have the numbers {a} and {b}. What do I get if I add them?",
        ),
        answering=one_of(
            lambda s, w: (
                f"If you add {s['a']} and {s['b']}, you get {_sum(s)}.",
                f"The sum of {s['a']} and {s['b']} is {_sum(s)}.",
            )
        ),
    ),
    Task(
        name="subtract",
        category="Math",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"a": _SUBTRACT, "b": _ADD},
        valid=lambda s: _difference(s) > 0,
        phrasings=(
            "What is {a} minus {b}?",
            "Subtract {b} from {a}.",
            "Take {b} away from {a}. What is left?",
            "How much is {a} - {b}?",
            "What is the difference of {a} and {b}?",
            "Please tell me what I get if I take {b} from {a}.",
            "Can you subtract {b} from {a} for me?",
        ),
        answering=one_of(lambda s, w: (f"If you take {s['b']} from {s['a']}, you get {_difference(s)}.",)),
    ),
    Task(
        name="multiply",
        category="Math",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"a": _TIMES, "b": _TIMES},
        phrasings=(
            "What is {a} times {b}?",
            "Multiply {a} by {b}.",
            "What is the product of {a} and {b}?",
            "How much is {a} * {b}?",
            "Please multiply the numbers {a} and {b}.",
            "Can you tell me the product of {a} and {b}?",
            "I have the numbers {a} and {b}. What do I get if I multiply them?",
        ),
        answering=one_of(
            lambda s, w: (
                f"If you multiply {s['a']} by {s['b']}, you get {_product(s)}.",
                f"The product of {s['a']} and {s['b']} is {_product(s)}.",
            )
        ),
    ),
    Task(
        name="story_of_more",
        category="Math",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"name": FIRST_NAMES, "a": _ADD, "b": _ADD, "thing": _GOODS},
        valid=lambda s: s["a"] != "1" and s["b"] != "1",
        phrasings=(
            "{name} has {a} {thing:plural} and buys {b} more. How many {thing:plural} does {name} have now?",
            "There are {a} {thing:plural} in a box. {name} puts in {b} more. How many {thing:plural} are in the box?",
            "If {name} has {a} {thing:plural} and finds {b} more, how many {thing:plural} are there?",
            "{name} gets {a} {thing:plural} on Monday and {b} {thing:plural} on Tuesday. How many is that?",
            "Yesterday {name} sold {a} {thing:plural} and today {b}. How many {thing:plural} were sold?",
            "Tell me how many {thing:plural} {name} has after adding {b} to {a}.",
        ),
        answering=one_of(
            lambda s, w: (f"{s['a']} plus {s['b']} is {_sum(s)}, so the answer is {_sum(s)} {plural(s['thing'])}.",)
        ),
    ),
    Task(
        name="story_of_less",
        category="Math",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"name": FIRST_NAMES, "a": _SUBTRACT, "b": _ADD, "thing": _GOODS},
        valid=lambda s: s["b"] != "1" and _difference(s) > 1,
        phrasings=(
            "{name} has {a} {thing:plural} and gives away {b}. How many {thing:plural} are left?",
            "There were {a} {thing:plural} on the table. {name} took {b}. How many {thing:plural} are still there?",
            "If {name} has {a} {thing:plural} and loses {b}, how many {thing:plural} are left?",
            "How many {thing:plural} are left when {name} sells {b} out of {a}?",
            "{name} needs {a} {thing:plural} but has only {b}. How many more {thing:plural} does {name} need?",
            "Of the {a} {thing:plural} in the shop {name} buys {b}. Tell me how many are left.",
        ),
        answering=one_of(
            lambda s, w: (
                f"{s['a']} minus {s['b']} is {_difference(s)}, so the answer is {_difference(s)} {plural(s['thing'])}.",
            )
        ),
    ),
    Task(
        name="price_of_many",
        category="Math",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"a": _TIMES, "b": _TIMES, "thing": _GOODS},
        phrasings=(
            "One {thing} costs {a} coins. What do {b} {thing:plural} cost?",
            "The price of one {thing} is {a} coins. How much do I pay for {b} {thing:plural}?",
            "How many coins are {b} {thing:plural} if one {thing} costs {a} coins?",
            "I buy {b} {thing:plural}. Each {thing} costs {a} coins. How much is that?",
            "A shop sells one {thing} for {a} coins. Tell me the price of {b} {thing:plural}.",
            "If a {thing} costs {a} coins, how many coins do I need for {b} of them?",
        ),
        answering=one_of(
            lambda s, w: (f"{s['a']} times {s['b']} is {_product(s)}, so the price is {_product(s)} coins.",)
        ),
    ),
    Task(
        name="compare_numbers",
        category="Math",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"a": _SUBTRACT, "b": _SUBTRACT, "which": ("larger", "smaller")},
        valid=lambda s: s["a"] != s["b"],
        phrasings=(
            "Which number is {which}, {a} or {b}?",
            "Is {a} or {b} the {which} number?",
            "Tell me the {which} of the numbers {a} and {b}.",
            "Look at {a} and {b}. Which one is {which}?",
            "Please name the {which} number: {a}, {b}.",
            "I have two cards with {a} and {b}. Which card shows the {which} number?",
        ),
        answering=one_of(_larger),
    ),
)
