"""Settings of tags and scores. The field docstrings are the command line's help."""

from dataclasses import dataclass

from mlx_suite.runtime.errors import UserError

SCORES = ("ifd", "reward", "reward_difference")


@dataclass(frozen=True, kw_only=True)
class TagSettings:
    """Settings of one file of tagged rows."""

    only: tuple[str, ...] = ()
    """Questions to ask, comma-separated: category, difficulty, input_quality, language, safety, answer_quality, or
    those of your own file. Default: all; `none` computes only scores."""
    scores: tuple[str, ...] = ()
    """Scores to compute, comma-separated: ifd (instruction-following difficulty), reward, reward_difference."""
    base: str | None = None
    """Base model that MODEL was tuned from: reward_difference is then the response's gain in log-probability,
    in nats per token. Default: compare with the same weights without the chat template."""
    reward_model: str | None = None
    """Reward model: a Llama, Mistral, Gemma or Qwen 3 with a score head. It gives reward, and reward_difference for
    rows with another model's response in `base_output`."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every conflict between the settings."""
        problems = [f"unknown score {name!r}: use {', '.join(SCORES)}" for name in self.scores if name not in SCORES]
        if "reward" in self.scores and self.reward_model is None:
            problems.append("reward needs a reward model")
        if self.reward_model is not None and not {"reward", "reward_difference"} & set(self.scores):
            problems.append("a reward model is given but none of its scores: add reward to the scores")
        if self.base is not None and "reward_difference" not in self.scores:
            problems.append("a base model is given but not its score: add reward_difference to the scores")
        if self.base is not None and self.reward_model is not None:
            problems.append("both a base model and a reward model are given: reward_difference uses only one")
        if self.asks_nothing and not self.scores:
            problems.append("there is nothing to do: no questions and no scores")
        if problems:
            raise UserError(
                "The settings conflict",
                where="--only, --scores, --base, --reward-model",
                fix="change the settings listed; see mlx-suite magpie tag --help",
                details=problems,
            )

    @property
    def asks_nothing(self) -> bool:
        """True if only scores are computed."""
        return self.only == ("none",)

    @property
    def parts(self) -> tuple[str, ...]:
        """Passes over the rows: `tags`, `own` (log-probabilities), `base`, `reward`."""
        from_log_probs = "reward_difference" in self.scores and self.reward_model is None
        needed = {
            "tags": not self.asks_nothing,
            "own": "ifd" in self.scores or from_log_probs,
            "base": from_log_probs and self.base is not None,
            "reward": self.reward_model is not None,
        }
        return tuple(part for part, is_needed in needed.items() if is_needed)

    @property
    def bare(self) -> bool:
        """True if the same weights also score responses after bare text."""
        return "reward_difference" in self.scores and self.base is None and self.reward_model is None
