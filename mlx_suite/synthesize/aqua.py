"""AQuA's algebra problems (arXiv 1705.04146) as texts with a multiple-choice question and its reasoning.

A problem has no passage. Its last sentence, which asks, becomes the question, and what comes before, the situation, the
text: a synthesizer then learns to ask about a situation, as it will have to in a corpus. A problem of one sentence is
the text and the question at once: with an empty text the model would learn to invent.
"""

import re
from typing import Any

from mlx_suite.data.read.records import Faults, described, required_text
from mlx_suite.synthesize.format import Example, Pair
from mlx_suite.synthesize.options import without_labels

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+(?=\S)")
_NAMED = r"\b(?:the\s+)?(?:correct\s+)?(?:answer|ans|option|choice)\b(?:[^\w\n]*(?:is|are|option|answer|choice)\b)*"
_CLOSING = re.compile(rf"(?is)(?:[\s,;:]*{_NAMED}[^\w\n]*\(?[A-E]\b\)?|\n\s*\(?[A-E]\)?)[\s.!]*$")
"""The end of a rationale that names the letter of the right option."""
_LETTER = re.compile(rf"(?i){_NAMED}[^\w\n]*\(?[A-E]\b")


def read_aqua(value: dict[str, Any], faults: Faults) -> Example | None:
    """The problem as an example; None, and faults, if it is not valid.

    Letters of options are removed from options and rationale, because options are shuffled later. A rationale that
    still names a letter is omitted.
    """
    before = len(faults)
    problem = required_text(value.get("question"), "question", faults).strip()
    rationale = required_text(value.get("rationale"), "rationale", faults).strip()
    given, letter = value["options"], value.get("correct")
    if not (isinstance(given, list) and given and all(isinstance(option, str) for option in given)):
        faults.append(f"options is {described(given)}; expected a list of texts")
        return None
    place = ord(letter) - ord("A") if isinstance(letter, str) and len(letter) == 1 else -1
    if not 0 <= place < len(given):
        faults.append(f"correct is {letter!r}; expected the letter of one of {len(given)} options")
    if len(faults) > before:
        return None
    options = tuple(" ".join(option.split()) for option in given)
    if not all(options):
        faults.append("an option is empty; expected text")
        return None
    text, question = split_problem(problem)
    pair = Pair(question=question, answer=options[place], options=options, reasoning=without_letters(rationale))
    return Example(text=text, pairs=(without_labels(pair),))


def split_problem(problem: str) -> tuple[str, str]:
    """Situation and question of a problem: the question begins with the last sentence that ends in a question mark."""
    sentences = _SENTENCE_END.split(problem)
    asking = [place for place, sentence in enumerate(sentences) if sentence.endswith("?")]
    start = asking[-1] if asking else len(sentences) - 1
    if start == 0:
        return problem, problem
    return " ".join(sentences[:start]), " ".join(sentences[start:])


def without_letters(rationale: str) -> str:
    """The rationale without a closing line that names a letter; empty if a letter is named elsewhere too."""
    text = _CLOSING.sub("", rationale).strip()
    return "" if _LETTER.search(text) else text
