"""General tag questions, which spell out their labels, for checkpoints not trained on brief questions of their own.

The dimensions are those of Magpie (arXiv 2406.08464, section 3), the wording is ours. It is brief, since every row pays
for every word.
"""

from collections.abc import Mapping

from mlx_suite.data.questions import Question, Questions
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
    """The questions; `turned` lists the replies in reverse in the text. The labels keep their order."""
    return Questions(
        listening=LISTENING,
        questions=(
            Question(
                name="category",
                about="instruction",
                text=f"What does it ask for? {_listed(CATEGORIES, turned)}",
                labels=tuple(CATEGORIES),
            ),
            Question(
                name="difficulty",
                about="instruction",
                text=f"How hard is it to answer well? {_listed(DIFFICULTIES, turned)}",
                labels=tuple(DIFFICULTIES),
            ),
            Question(
                name="input_quality",
                about="instruction",
                text=f"How good is it as a question? {_listed(INPUT_QUALITIES, turned)}",
                labels=tuple(INPUT_QUALITIES),
            ),
            Question(
                name="language",
                about="instruction",
                text="Which language is it in? Reply with its English name.",
                labels=LANGUAGES,
            ),
            Question(
                name="safety",
                about="instruction",
                text=f"Is it safe? {_listed(SAFETY, turned)}",
                labels=tuple(SAFETY),
            ),
            Question(
                name="answer_quality",
                about="answer",
                text=f"How good is your answer? {_listed(ANSWER_QUALITIES, turned)}",
                labels=tuple(ANSWER_QUALITIES),
            ),
            Question(
                name="answer_safety",
                about="answer",
                text=f"Is your answer safe? {_listed(SAFETY, turned)}",
                labels=tuple(SAFETY),
            ),
        ),
    )


FULL_QUESTIONS = _questions(turned=False)
"""Category, difficulty, quality, language and safety of an instruction; quality and safety of a response."""
TURNED_QUESTIONS = _questions(turned=True)
"""The same questions with their replies listed in reverse: a reliable model gives the same tags."""
SCALES = (tuple(DIFFICULTIES), tuple(INPUT_QUALITIES))
"""Ordered sets of labels, from the lowest to the highest."""
