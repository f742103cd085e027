"""The closed vocabulary: kinds of things, opposites, and the inflections that a slot's word can take."""

from collections.abc import Callable, Mapping, Sequence

KINDS: Mapping[str, tuple[str, ...]] = {
    "animal": tuple("cat dog horse cow sheep goat rabbit fox bear lion".split()),
    "fruit": tuple("apple pear plum banana lemon orange cherry peach".split()),
    "vegetable": tuple("carrot onion potato cabbage bean pea".split()),
    "color": tuple("red blue green yellow white black brown pink".split()),
    "tool": tuple("hammer saw drill spade rake brush".split()),
    "drink": tuple("tea coffee milk juice water cocoa".split()),
    "instrument": tuple("drum flute piano violin guitar harp".split()),
    "vehicle": tuple("car bus train bicycle boat truck".split()),
    "bird": tuple("owl crow robin eagle swan parrot".split()),
    "sport": tuple("football tennis hockey golf rowing boxing".split()),
}
KIND_OF: Mapping[str, str] = {word: kind for kind, words in KINDS.items() for word in words}
COUNTABLE_KINDS = ("animal", "fruit", "vegetable", "tool", "instrument", "vehicle", "bird")
OBJECTS = tuple("book lamp key cup box ball clock ring stone chair table coat hat bell rope basket".split())
ADJECTIVES = ("old", "small", "happy", "brave", "quiet", "clever", "white", "brown")

_OPPOSITE_PAIRS = (
    "hot cold|big small|fast slow|old young|happy sad|light dark|open closed|full empty|"
    "hard soft|wet dry|rich poor|early late|clean dirty|strong weak|loud quiet|long short|"
    "high low|good bad|left right|day night|up down|first last|near far|thick thin"
)
OPPOSITES: Mapping[str, str] = {
    word: other for pair in _OPPOSITE_PAIRS.split("|") for word, other in (pair.split(), pair.split()[::-1])
}
COLOR_OF: Mapping[str, str] = {
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "blood": "red",
    "the sky": "blue",
    "the sun": "yellow",
    "a banana": "yellow",
    "a lemon": "yellow",
    "a cherry": "red",
    "a crow": "black",
    "a swan": "white",
    "milk": "white",
    "cocoa": "brown",
    "a pea": "green",
    "a carrot": "orange",
    "a pig": "pink",
    "salt": "white",
    "the sea": "blue",
    "a leaf": "green",
    "chocolate": "brown",
}
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple("January February March April May June July August September October November December".split())
NUMBER_WORDS = tuple("zero one two three four five six seven eight nine ten eleven twelve".split())

_PLURALS = {
    "sheep": "sheep",
    "mouse": "mice",
    "child": "children",
    "foot": "feet",
    "leaf": "leaves",
    "knife": "knives",
    "wolf": "wolves",
    "potato": "potatoes",
}
_PASTS = {
    "run": "ran",
    "sleep": "slept",
    "sing": "sang",
    "swim": "swam",
    "sit": "sat",
    "eat": "ate",
    "play": "played",
    "walk": "walked",
    "wait": "waited",
    "dance": "danced",
}


def article(word: str) -> str:
    """The word after `a` or `an`."""
    return f"{'an' if word[0] in 'aeio' else 'a'} {word}"


def plural(word: str) -> str:
    """The plural of a noun of the microworld."""
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith(("s", "x", "sh", "ch")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def third_person(verb: str) -> str:
    """Third person singular: `run` becomes `runs`."""
    return f"{verb}s"


def past(verb: str) -> str:
    """Past tense: `run` becomes `ran`."""
    return _PASTS[verb]


def gerund(phrase: str) -> str:
    """Gerund: `make tea` becomes `making tea`. Only for verbs that do not double their last letter."""
    verb, _, rest = phrase.partition(" ")
    return f"{verb.removesuffix('e')}ing {rest}".rstrip()


def comparative(adjective: str) -> str:
    """Comparative: `tall` becomes `taller`."""
    return f"{adjective.removesuffix('e')}er"


def superlative(adjective: str) -> str:
    """Superlative: `tall` becomes `tallest`."""
    return f"{adjective.removesuffix('e')}est"


def number_word(digits: str) -> str:
    """Spell out a number: `3` becomes `three`."""
    return NUMBER_WORDS[int(digits)]


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def listing(items: Sequence[str]) -> str:
    """Join words as `a, b and c`."""
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])} and {items[-1]}"


FORMS: Mapping[str, Callable[[str], str]] = {
    "a": article,
    "plural": plural,
    "s": third_person,
    "ing": gerund,
    "er": comparative,
    "est": superlative,
    "word": number_word,
}
