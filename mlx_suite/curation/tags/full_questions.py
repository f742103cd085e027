"""General tag questions that spell out their labels, for checkpoints not trained on their own brief questions.

The dimensions are those of Magpie (arXiv 2406.08464, section 3), the wording is ours. It is brief, since every word
costs tokens in every row.
"""

from collections.abc import Mapping

from mlx_suite.data.questions import About, Question, Questions
from mlx_suite.data.steering import LANGUAGE_TEXTS

LISTENING = "I have read it. What about it?"
CATEGORIES = {
    "Information seeking": "facts, explanations",
    "Reasoning": "logic",
    "Planning": "steps to a goal",
    "Editing": "of a given text",
    "Coding & Debugging": "programs",
    "Math": "calculation",
    "Role playing": "a part to play",
    "Data analysis": "of given data",
    "Creative writing": "stories, poems",
    "Advice seeking": "personal matters",
    "Brainstorming": "many ideas",
    "Others": "",
}
DIFFICULTIES = {"very easy": "", "easy": "", "medium": "", "hard": "", "very hard": ""}
INPUT_QUALITIES = {
    "very poor": "makes no sense",
    "poor": "unclear or incoherent",
    "average": "vague",
    "good": "clear and coherent",
    "excellent": "clear, specific and complete",
}
ANSWER_QUALITIES = {
    "very poor": "wrong or off the subject",
    "poor": "mostly wrong",
    "average": "partly right or helpful",
    "good": "right, small flaws",
    "excellent": "right, complete and helpful",
}
LANGUAGES = (*LANGUAGE_TEXTS, "Other")
SAFETY = {"safe": "", "unsafe": "violence, crime, hate, sex or self-harm"}


def _listed(meanings: Mapping[str, str], turned: bool) -> str:
    each = [f"{label} ({meaning})" if meaning else label for label, meaning in meanings.items()]
    return "Reply with one of: " + ", ".join(reversed(each) if turned else each) + "."


def _questions(turned: bool) -> Questions:
    """The questions; `turned` reverses the replies in the text but not the labels."""
    listed: tuple[tuple[str, About, str, Mapping[str, str]], ...] = (
        ("category", "instruction", "What does it ask for?", CATEGORIES),
        ("difficulty", "instruction", "How hard is it to answer well?", DIFFICULTIES),
        ("input_quality", "instruction", "How good is it as a question?", INPUT_QUALITIES),
        ("safety", "instruction", "Is it safe?", SAFETY),
        ("answer_quality", "answer", "How good is your answer?", ANSWER_QUALITIES),
        ("answer_safety", "answer", "Is your answer safe?", SAFETY),
    )
    questions = [
        Question(name=name, about=about, text=f"{text} {_listed(labels, turned)}", labels=tuple(labels))
        for name, about, text, labels in listed
    ]
    language = "Which language is it in? Reply with its English name."
    questions.insert(3, Question(name="language", about="instruction", text=language, labels=LANGUAGES))
    return Questions(listening=LISTENING, questions=tuple(questions))


FULL_QUESTIONS = _questions(turned=False)
"""Category, difficulty, quality, language and safety of an instruction; quality and safety of a response."""
TURNED_QUESTIONS = _questions(turned=True)
"""The same questions with their replies listed in reverse: a reliable model gives the same tags."""
SCALES = (tuple(DIFFICULTIES), tuple(INPUT_QUALITIES))
"""Ordered sets of labels, from the lowest to the highest."""
