"""Scores that rank the responses to one instruction: the model's own grade, log-probabilities, or a reward model.

Each kind has its own unit, and so its own default margin:

    grade        steps of the grading scale. Below half a step, both responses often have the same nearest label.
    likelihood   nats per token, `p(answer | conversation)` of `tags.scores`: the model's confidence in its response.
                 At 0.1 each token of the better response is 10 % likelier on average than each token of the worse.
    difference   nats per token, that likelihood minus the base model's: DPO's implicit reward without its β (arXiv
                 2305.18290, section 4), with the same margin. It needs a base model; the response's likelihood as
                 plain text is no substitute.
    reward       a reward model's output. In the Bradley-Terry model they are trained with, a difference of 1 means
                 that the better response wins 73 of 100 comparisons, and 0.5 that it wins 62.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.tags.scores import (
    Measurements,
    ScoredConversation,
    base_log_probs,
    measured_rewards,
    own_log_probs,
)
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.modeling.reward_model import RewardModel

MARGINS: Mapping[str, float] = {"grade": 0.5, "likelihood": 0.1, "difference": 0.1, "reward": 1.0}
"""Default margin by kind of score."""
UNITS: Mapping[str, str] = {
    "grade": "steps of the scale",
    "likelihood": "nats per token",
    "difference": "nats per token",
    "reward": "of reward",
}
"""Unit of the margin by kind of score."""
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A way to score finished responses."""

    kind: str
    """One of MARGINS."""
    name: str
    """Name of the scoring model, for the record."""
    score: Callable[[Sequence[Messages]], list[float | None]]
    """Scores conversations that end with the response; None for those it cannot score."""


def reward_scorer(model: RewardModel, judge: ChatModel) -> Scorer:
    """Score with a reward model, in its own chat template."""

    def score(conversations: Sequence[Messages]) -> list[float | None]:
        scored, numbers = _to_score(judge, conversations)
        values = [each.get("reward") for each in measured_rewards(model, judge, scored)]
        return _scattered(len(conversations), numbers, values)

    return Scorer(kind="reward", name=judge.name, score=score)


def likelihood_scorer(own: ChatModel) -> Scorer:
    """Score by the response's log-probability under the model that wrote it."""

    def score(conversations: Sequence[Messages]) -> list[float | None]:
        scored, numbers = _to_score(own, conversations)
        return _scattered(len(conversations), numbers, [each.get("conversation") for each in _own(own, scored)])

    return Scorer(kind="likelihood", name=own.name, score=score)


def difference_scorer(own: ChatModel, base: Any, base_name: str = "") -> Scorer:
    """Score by how much likelier the response is under the model than under its base model, of the same vocabulary."""

    def score(conversations: Sequence[Messages]) -> list[float | None]:
        scored, numbers = _to_score(own, conversations)
        others = base_log_probs(base, own.tokenizer, scored)
        differences = [
            mine["conversation"] - other["base"] if "conversation" in mine and "base" in other else None
            for mine, other in zip(_own(own, scored), others, strict=True)
        ]
        return _scattered(len(conversations), numbers, differences)

    return Scorer(kind="difference", name=base_name, score=score)


def _own(own: ChatModel, conversations: Sequence[ScoredConversation]) -> list[Measurements]:
    return own_log_probs(own.model, own.tokenizer, conversations, bare=False)


def _to_score(chat: ChatModel, conversations: Sequence[Messages]) -> tuple[list[ScoredConversation], list[int]]:
    """The conversations that fit the model's template and context, and their indices."""
    scored, numbers = [], []
    for number, messages in enumerate(conversations):
        encoded = chat.encode(messages)
        if not isinstance(encoded, str) and encoded.response is not None and len(encoded.ids) <= chat.context:
            scored.append(ScoredConversation(messages=messages, encoded=encoded))
            numbers.append(number)
    return scored, numbers


def _scattered(count: int, numbers: Sequence[int], values: Sequence[float | None]) -> list[float | None]:
    scores: list[float | None] = [None] * count
    for number, value in zip(numbers, values, strict=True):
        scores[number] = value
    return scores
