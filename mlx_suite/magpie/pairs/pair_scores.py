"""What answers to one question are compared by: the model's own grade, log-probabilities, or a reward model.

Each kind has a margin of its own, since each has a unit of its own:

    grade        places on the scale of labels. Half a place: with less, the nearest label of both is often the same.
    likelihood   nats per token, `p(answer | conversation)` of `scores`: how sure the model is of what it has written.
                 At 0.1 each token of the better answer is 10 % likelier on the average than each token of the worse.
    difference   nats per token, that likelihood less the base model's: what tuning has made likelier, the implicit
                 reward of DPO without its β (arXiv 2305.18290, section 4), at the same margin. Without a base model
                 there is nothing to compare with: the answer's likelihood as plain text is no stand-in.
    reward       what a reward model's number is: a difference of 1 says that the better answer wins 73 of 100
                 comparisons (Bradley and Terry's model, by which they are trained), of 0.5 that it wins 62.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.checkpoints.reward_model import RewardModel
from mlx_suite.curation.tags.scores import Figures, Talk, base_figures, own_figures, reward_figures
from mlx_suite.engine.chat_model import Speaker, Spoken
from mlx_suite.magpie.author import Author

MARGINS: Mapping[str, float] = {"grade": 0.5, "likelihood": 0.1, "difference": 0.1, "reward": 1.0}
"""By the kind of score."""
UNITS: Mapping[str, str] = {
    "grade": "places on the scale",
    "likelihood": "nats per token",
    "difference": "nats per token",
    "reward": "of reward",
}
"""What a margin is measured in."""
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A way to score answers that are there."""

    kind: str
    """One of MARGINS."""
    name: str
    """Of the model, for the record."""
    score: Callable[[Sequence[Messages]], list[float | None]]
    """Of conversations that end with the answer; None for what cannot be scored."""


def reward_scorer(model: RewardModel, judge: Speaker) -> Scorer:
    """By a reward model and its own template."""

    def score(conversations: Sequence[Messages]) -> list[float | None]:
        talks, numbers = _talks(judge, conversations)
        return _spread(
            len(conversations), numbers, [each.get("reward") for each in reward_figures(model, judge, talks)]
        )

    return Scorer(kind="reward", name=judge.name, score=score)


def likelihood_scorer(own: Author) -> Scorer:
    """By how likely the answer is to the model that wrote it."""

    def score(conversations: Sequence[Messages]) -> list[float | None]:
        talks, numbers = _talks(own.speaker, conversations)
        return _spread(len(conversations), numbers, [each.get("conversation") for each in _own(own, talks)])

    return Scorer(kind="likelihood", name=own.name, score=score)


def difference_scorer(own: Author, base: Any, base_name: str = "") -> Scorer:
    """By how much likelier the answer is to the model than to its base, which shares its vocabulary."""

    def score(conversations: Sequence[Messages]) -> list[float | None]:
        talks, numbers = _talks(own.speaker, conversations)
        others = base_figures(base, own.speaker.tokenizer, talks)
        differences = [
            mine["conversation"] - other["base"] if "conversation" in mine and "base" in other else None
            for mine, other in zip(_own(own, talks), others, strict=True)
        ]
        return _spread(len(conversations), numbers, differences)

    return Scorer(kind="difference", name=base_name, score=score)


def _own(own: Author, talks: Sequence[Talk]) -> list[Figures]:
    return own_figures(own.model, own.speaker.tokenizer, talks, bare=False)


def _talks(speaker: Speaker, conversations: Sequence[Messages]) -> tuple[list[Talk], list[int]]:
    """Those that the model can be spoken to with, and their numbers."""
    talks, numbers = [], []
    for number, messages in enumerate(conversations):
        spoken = speaker.speak(messages)
        if isinstance(spoken, Spoken) and spoken.answer is not None and len(spoken.ids) <= speaker.context:
            talks.append(Talk(messages=messages, spoken=spoken))
            numbers.append(number)
    return talks, numbers


def _spread(count: int, numbers: Sequence[int], values: Sequence[float | None]) -> list[float | None]:
    found: list[float | None] = [None] * count
    for number, value in zip(numbers, values, strict=True):
        found[number] = value
    return found
