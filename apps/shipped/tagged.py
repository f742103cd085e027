"""Training conversations for tagging: an instruction or a response of known quality, questions about it, the labels."""

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
"""Tagging questions of the shipped checkpoints."""

ASKED_SHARES = {
    "category": 2,
    "difficulty": 3,
    "input_quality": 4,
    "language": 2,
    "safety": 2,
    ANSWER_QUALITY: 6,
}
"""Relative frequency of each question; questions that are learned last are drawn most often."""
MOST_QUESTIONS = 3
"""Maximum questions per example; several questions in a document cost fewer tokens per label."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A tagged example and the names of its questions, in order."""

    tagged: Tagged
    names: tuple[str, ...]

    @property
    def messages(self) -> list[Message]:
        """The conversation; only the labels are trained."""
        answer = LISTENING if self.tagged.answer is None else self.tagged.answer
        messages = [Message(USER, self.tagged.instruction, trained=False), Message(ASSISTANT, answer, trained=False)]
        for name in self.names:
            messages += [
                Message(USER, QUESTIONS[name][0], trained=False),
                Message(ASSISTANT, self.tagged.labels[name]),
            ]
        return messages


def write_asked(rng: Random, world: World) -> Asked:
    """Draw an example that is not held out, with one to three questions."""
    [drawn_for] = rng.choices(list(ASKED_SHARES), weights=list(ASKED_SHARES.values()))
    tagged = sample_tagged(rng, world, drawn_for)
    others = [name for name in tagged.labels if name != drawn_for]
    more = rng.sample(others, min(len(others), rng.randrange(MOST_QUESTIONS)))
    names = [drawn_for, *more]
    return Asked(tagged=tagged, names=tuple(rng.sample(names, len(names))))
