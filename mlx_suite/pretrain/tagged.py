"""Conversations that learn to tag: an instruction or an answer of known quality, questions about it, their labels."""

from dataclasses import dataclass
from random import Random

from mlx_suite.data.questions import Question, Questions
from mlx_suite.microworld import World
from mlx_suite.microworld.tagging import ANSWER_QUALITY, LISTENING, QUESTIONS, Tagged, sample_tagged
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

BRIEF = Questions(
    listening=LISTENING,
    questions=tuple(
        Question(name=name, about="answer" if name == ANSWER_QUALITY else "instruction", text=text, labels=labels)
        for name, (text, labels) in QUESTIONS.items()
    ),
)
"""The questions that the shipped checkpoints are trained on."""

ASKED_SHARES = {
    "category": 2,
    "difficulty": 3,
    "input_quality": 4,
    "language": 2,
    "safety": 2,
    ANSWER_QUALITY: 6,
}
"""How often an example is drawn for each question, as parts of the sum: what is learned last is drawn most."""
MOST_QUESTIONS = 3
"""About one example: each label costs fewer tokens than in a document of its own. The first is asked as if alone."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A tagged example and the names of the questions that are asked about it, in their order."""

    tagged: Tagged
    names: tuple[str, ...]

    @property
    def messages(self) -> list[Message]:
        """The conversation; a label, and nothing else, is trained."""
        answer = LISTENING if self.tagged.answer is None else self.tagged.answer
        messages = [Message(USER, self.tagged.instruction, trained=False), Message(ASSISTANT, answer, trained=False)]
        for name in self.names:
            messages += [
                Message(USER, QUESTIONS[name][0], trained=False),
                Message(ASSISTANT, self.tagged.labels[name]),
            ]
        return messages


def write_asked(rng: Random, world: World) -> Asked:
    """An example that training may see, with one to three questions about it."""
    [drawn_for] = rng.choices(list(ASKED_SHARES), weights=list(ASKED_SHARES.values()))
    tagged = sample_tagged(rng, world, drawn_for)
    others = [name for name in tagged.labels if name != drawn_for]
    more = rng.sample(others, min(len(others), rng.randrange(MOST_QUESTIONS)))
    names = [drawn_for, *more]
    return Asked(tagged=tagged, names=tuple(rng.sample(names, len(names))))
