"""Coding & Debugging: one-line Python functions, small bug fixes, and the output of a line."""

from random import Random

from ..lexicon import number_word
from ..task import Task, one_of

_OPENINGS = (
    "I am learning Python.",
    "You are a Python teacher.",
    "This is for my first program.",
    "I have a Python question.",
    "Help me with my code.",
    "I am new to programming.",
)
_SMALL = tuple(str(n) for n in range(1, 13))
_WORDS = ("hello", "yes", "no", "red", "blue", "cat", "dog", "sun", "tea", "moon")
_FUNCTIONS = ("double", "greet", "show", "load", "start", "check", "copy", "count")
_ARGUMENTS = ("name", "value", "text", "number", "item", "word")
_LISTS = ("colors", "words", "items", "names")
_CODE = {"adds": ("add", "+"), "subtracts": ("subtract", "-"), "multiplies": ("times", "*")}
_PLACES = ("first", "second", "third")
_TIMES = tuple(str(n) for n in range(2, 11))


def _function_phrasings(verb: str) -> tuple[str, ...]:
    name, sign = _CODE[verb]
    verb_of, plain_of = {
        "adds": ("adds {n} to %s", "add {n} to %s"),
        "subtracts": ("subtracts {n} from %s", "subtract {n} from %s"),
        "multiplies": ("multiplies %s by {n}", "multiply %s by {n}"),
    }[verb]
    function = f"{name}_{{n:word}}"
    return (
        f"Write a Python function named {function} that {verb_of % 'its argument'}.",
        f"Please define a function {function} which {verb_of % 'x'}.",
        f"I need a Python function called {function}. It should {plain_of % 'its argument'}.",
        f"How do I write a function {function} that returns x {sign} {{n}}?",
        f"Show me the code of a function named {function} that {verb_of % 'the number x'}.",
        f"Define {function} in Python. The function returns x {sign} {{n}}.",
        f"Can you write {function}, a short function that {verb_of % 'x'}?",
    )


def _function_task(name: str, verb: str) -> Task:
    code, sign = _CODE[verb]
    return Task(
        name=name,
        category="Coding & Debugging",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"n": _SMALL},
        phrasings=_function_phrasings(verb),
        answering=one_of(lambda s, w: (f"def {code}_{number_word(s['n'])}(x):\n    return x {sign} {s['n']}",)),
    )


def _sample_index(rng: Random) -> dict[str, str]:
    words = rng.sample(_WORDS, 3)
    return dict(zip("xyz", words, strict=True)) | {
        "list": rng.choice(_LISTS),
        "i": rng.choice("012"),
    }


TASKS = (
    _function_task("write_add_function", "adds"),
    _function_task("write_subtract_function", "subtracts"),
    _function_task("write_times_function", "multiplies"),
    Task(
        name="fix_missing_colon",
        category="Coding & Debugging",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"function": _FUNCTIONS, "argument": _ARGUMENTS},
        phrasings=(
            "Fix this code:\ndef {function}({argument})\n    return {argument}",
            "Find the error in this function.\ndef {function}({argument})\n    return {argument}",
            "My code does not run. What is right?\ndef {function}({argument})\n    return {argument}",
            "A colon is missing. Please correct it.\ndef {function}({argument})\n    return {argument}",
            "Python says there is an error in line one:\ndef {function}({argument})\n    return {argument}",
            "Correct the function below.\ndef {function}({argument})\n    return {argument}",
        ),
        answering=one_of(lambda s, w: (f"def {s['function']}({s['argument']}):\n    return {s['argument']}",)),
    ),
    Task(
        name="fix_missing_bracket",
        category="Coding & Debugging",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"word": _WORDS, "other": _WORDS},
        phrasings=(
            'Fix this line: print("{word} {other}"',
            'A bracket is missing here: print("{word} {other}"',
            'Why does this line not run? Correct it.\nprint("{word} {other}"',
            'Please repair my code.\nprint("{word} {other}"',
            'Find the mistake and write the right line: print("{word} {other}"',
            'Python shows an error for this line. What should it be?\nprint("{word} {other}"',
        ),
        answering=one_of(lambda s, w: (f'print("{s["word"]} {s["other"]}")',)),
    ),
    Task(
        name="print_sum",
        category="Coding & Debugging",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"a": _SMALL, "b": _SMALL},
        phrasings=(
            "What does this line print: print({a} + {b})",
            "What is the output of print({a} + {b})?",
            "Tell me what Python shows for print({a} + {b}).",
            "I run this line. What do I see?\nprint({a} + {b})",
            "Please explain the output of this code: print({a} + {b})",
            "Which number does print({a} + {b}) show?",
        ),
        answering=one_of(
            lambda s, w: (
                f"It prints {int(s['a']) + int(s['b'])}, because {s['a']} + {s['b']} is {int(s['a']) + int(s['b'])}.",
            )
        ),
    ),
    Task(
        name="list_index",
        category="Coding & Debugging",
        difficulty="hard",
        openings=_OPENINGS,
        slots=dict.fromkeys("xyz", _WORDS) | {"list": _LISTS, "i": ("0", "1", "2")},
        sampler=_sample_index,
        valid=lambda s: len({s[name] for name in "xyz"}) == 3,
        phrasings=(
            'What does this print?\n{list} = ["{x}", "{y}", "{z}"]\nprint({list}[{i}])',
            'Read the code and tell me the output.\n{list} = ["{x}", "{y}", "{z}"]\nprint({list}[{i}])',
            'If {list} = ["{x}", "{y}", "{z}"], what is {list}[{i}]?',
            'Given the list {list} = ["{x}", "{y}", "{z}"], which word is {list}[{i}]?',
            'Which word does Python show for {list}[{i}]?\n{list} = ["{x}", "{y}", "{z}"]',
            'Tell me the value of {list}[{i}] after {list} = ["{x}", "{y}", "{z}"].',
        ),
        answering=one_of(
            lambda s, w: (
                f"Python counts from 0, so {s['list']}[{s['i']}] is the {_PLACES[int(s['i'])]} "
                f'word, "{s["xyz"[int(s["i"])]]}".',
            )
        ),
    ),
    Task(
        name="write_loop",
        category="Coding & Debugging",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"word": _WORDS, "n": _TIMES},
        phrasings=(
            "Write a for loop that prints the word {word} {n} times.",
            "How do I print {word} {n} times in Python?",
            "Show me a Python loop that prints {word} {n:word} times.",
            "I want to see the word {word} {n} times. Write a loop for it.",
            "Please write Python code with range that prints {word} {n} times.",
            "Give me a short loop. It should print {word} {n:word} times.",
        ),
        answering=one_of(lambda s, w: (f'for i in range({s["n"]}):\n    print("{s["word"]}")',)),
    ),
    Task(
        name="set_variable",
        category="Coding & Debugging",
        difficulty="very easy",
        openings=_OPENINGS,
        slots={"name": _ARGUMENTS + _FUNCTIONS, "n": _SMALL},
        phrasings=(
            "How do I set a variable {name} to {n}?",
            "Write a line of Python that gives {name} the value {n}.",
            "Create a variable called {name} with the value {n}.",
            "In Python, let {name} be {n:word}. Show the line.",
            "Please store the number {n} in a variable named {name}.",
            "I need a variable {name} that holds {n}. What do I write?",
        ),
        answering=one_of(lambda s, w: (f"{s['name']} = {s['n']}",)),
    ),
)
