"""Editing: small corrections and rewrites of a sentence given in the instruction."""

from collections.abc import Mapping

from ..lexicon import ADJECTIVES, past, plural, third_person
from ..task import Slots, Task, one_of
from ..world import World

_OPENINGS = (
    "I am learning English.",
    "Please help me with my text.",
    "I am writing a story.",
    "This is for my homework.",
    "You are a careful editor.",
    "I want to send this to a friend.",
)
_NOUNS = tuple("dog cat horse rabbit girl boy teacher farmer singer baker duck bear".split())
_VERBS = tuple("run sleep sing swim sit eat play walk wait dance".split())
_SPOTS = (
    "in the garden",
    "by the river",
    "near the house",
    "in the park",
    "at the market",
    "on the hill",
    "at the lake",
    "under the tree",
)
_MISSPELT: Mapping[str, str] = {
    "freind": "friend",
    "techer": "teacher",
    "docter": "doctor",
    "famly": "family",
    "neighber": "neighbor",
    "mothr": "mother",
    "fathr": "father",
    "sistr": "sister",
}
_OBJECTS = tuple("bread cheese soup music tea honey cake fish rice milk".split())


def _sentence(slots: Slots, verb: str) -> str:
    return f"The {slots['noun']} {verb} {slots['spot']}."


_SENTENCE_SLOTS = {"noun": _NOUNS, "verb": _VERBS, "spot": _SPOTS}


def _replaced(slots: Slots, world: World) -> tuple[str, ...]:
    return (f"The {slots['new']} {third_person(slots['verb'])} {slots['spot']}.",)


TASKS = (
    Task(
        name="fix_capital",
        category="Editing",
        difficulty="very easy",
        openings=_OPENINGS,
        slots=_SENTENCE_SLOTS,
        phrasings=(
            "Fix the capital letter: the {noun} {verb:s} {spot}.",
            "Begin this sentence with a capital letter: the {noun} {verb:s} {spot}.",
            "A capital letter is missing here: the {noun} {verb:s} {spot}. Please correct it.",
            "Correct the first letter of this sentence.\nthe {noun} {verb:s} {spot}.",
            'Can you fix the first letter in "the {noun} {verb:s} {spot}."?',
            "What is the right way to write this: the {noun} {verb:s} {spot}.",
        ),
        answering=one_of(lambda s, w: (_sentence(s, third_person(s["verb"])),)),
    ),
    Task(
        name="past_tense",
        category="Editing",
        difficulty="medium",
        openings=_OPENINGS,
        slots=_SENTENCE_SLOTS,
        phrasings=(
            "Put this sentence into the past tense: The {noun} {verb:s} {spot}.",
            "Change the sentence to the past: The {noun} {verb:s} {spot}.",
            "Rewrite this as if it happened yesterday: The {noun} {verb:s} {spot}.",
            "How do I say this in the past tense?\nThe {noun} {verb:s} {spot}.",
            "The {noun} {verb:s} {spot}. Please write this sentence in the past tense.",
            "Make this sentence talk about last week: The {noun} {verb:s} {spot}.",
        ),
        answering=one_of(lambda s, w: (_sentence(s, past(s["verb"])),)),
    ),
    Task(
        name="replace_word",
        category="Editing",
        difficulty="easy",
        openings=_OPENINGS,
        slots=_SENTENCE_SLOTS | {"new": _NOUNS},
        valid=lambda s: s["noun"] != s["new"],
        phrasings=(
            "Replace {noun} with {new} in this sentence: The {noun} {verb:s} {spot}.",
            "The {noun} {verb:s} {spot}. Write the sentence with {new} and not {noun}.",
            "Change the word {noun} to {new}: The {noun} {verb:s} {spot}.",
            "Put the word {new} in place of {noun}.\nThe {noun} {verb:s} {spot}.",
            'Please rewrite "The {noun} {verb:s} {spot}." with {new} in place of {noun}.',
            "How does this sentence look if {noun} becomes {new}? The {noun} {verb:s} {spot}.",
        ),
        answering=one_of(_replaced),
    ),
    Task(
        name="remove_word",
        category="Editing",
        difficulty="easy",
        openings=_OPENINGS,
        slots=_SENTENCE_SLOTS | {"adj": ADJECTIVES},
        phrasings=(
            "Remove the word {adj} from this sentence: The {adj} {noun} {verb:s} {spot}.",
            "Make this shorter by taking out {adj}: The {adj} {noun} {verb:s} {spot}.",
            "The {adj} {noun} {verb:s} {spot}. Write it again without the word {adj}.",
            "Please delete {adj} in the next line.\nThe {adj} {noun} {verb:s} {spot}.",
            'Rewrite "The {adj} {noun} {verb:s} {spot}." without {adj}.',
            "What is left when I take {adj} out of this: The {adj} {noun} {verb:s} {spot}.",
        ),
        answering=one_of(lambda s, w: (_sentence(s, third_person(s["verb"])),)),
    ),
    Task(
        name="fix_spelling",
        category="Editing",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"wrong": tuple(_MISSPELT), "object": _OBJECTS, "verb": ("likes", "wants", "loves", "needs")},
        phrasings=(
            "Correct the spelling mistake: My {wrong} {verb} {object}.",
            "Find and fix the wrong word: My {wrong} {verb} {object}.",
            "There is one spelling mistake here. Fix it.\nMy {wrong} {verb} {object}.",
            "Is this right? My {wrong} {verb} {object}. Please correct the spelling.",
            'Check the spelling of "My {wrong} {verb} {object}." and write it again.',
            "How should I spell this sentence? My {wrong} {verb} {object}.",
        ),
        answering=one_of(lambda s, w: (f"My {_MISSPELT[s['wrong']]} {s['verb']} {s['object']}.",)),
    ),
    Task(
        name="make_plural",
        category="Editing",
        difficulty="medium",
        openings=_OPENINGS,
        slots=_SENTENCE_SLOTS,
        phrasings=(
            "Make the noun plural: The {noun} {verb:s} {spot}.",
            "Rewrite this sentence for more than one {noun}: The {noun} {verb:s} {spot}.",
            "Change this sentence to the plural: The {noun} {verb:s} {spot}.",
            "Write the next line in the plural.\nThe {noun} {verb:s} {spot}.",
            "The {noun} {verb:s} {spot}. How do I write this in the plural?",
            'Please turn "The {noun} {verb:s} {spot}." into a plural sentence.',
        ),
        answering=one_of(lambda s, w: (f"The {plural(s['noun'])} {s['verb']} {s['spot']}.",)),
    ),
    Task(
        name="make_question",
        category="Editing",
        difficulty="medium",
        openings=_OPENINGS,
        slots=_SENTENCE_SLOTS,
        phrasings=(
            "Turn this into a question: The {noun} can {verb} {spot}.",
            "Make a question out of this sentence: The {noun} can {verb} {spot}.",
            "The {noun} can {verb} {spot}. Please rewrite this as a question.",
            "Change the next line into a question.\nThe {noun} can {verb} {spot}.",
            "How do I ask this as a question? The {noun} can {verb} {spot}.",
            'Write "The {noun} can {verb} {spot}." as a question.',
        ),
        answering=one_of(lambda s, w: (f"Can the {s['noun']} {s['verb']} {s['spot']}?",)),
    ),
    Task(
        name="join_sentences",
        category="Editing",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"a": _NOUNS, "b": _NOUNS, "v": _VERBS, "w": _VERBS},
        valid=lambda s: s["a"] != s["b"] and s["v"] != s["w"],
        phrasings=(
            "Join the two sentences: The {a} {v:s}. The {b} {w:s}.",
            "Make one sentence out of these two: The {a} {v:s}. The {b} {w:s}.",
            "Use the word and to join these lines.\nThe {a} {v:s}.\nThe {b} {w:s}.",
            "The {a} {v:s}. The {b} {w:s}. Please write this as one sentence.",
            "How can I say this in one sentence? The {a} {v:s}. The {b} {w:s}.",
            "Combine both facts into one sentence: The {a} {v:s}. The {b} {w:s}.",
        ),
        answering=one_of(
            lambda s, w: (f"The {s['a']} {third_person(s['v'])} and the {s['b']} {third_person(s['w'])}.",)
        ),
    ),
)
