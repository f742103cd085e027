"""What a user decides about tags and scores."""

from dataclasses import dataclass

from mlx_suite.runtime.errors import UserError

SCORES = ("ifd", "reward", "reward_difference")


@dataclass(frozen=True, kw_only=True)
class TagSettings:
    """Settings of one file of tagged rows."""

    only: tuple[str, ...] = ()
    """Questions to ask, comma-separated: category, difficulty, input_quality, language, safety, answer_quality, or
    those of your file; all where none is named. `none` for scores alone."""
    scores: tuple[str, ...] = ()
    """Scores to compute, comma-separated: ifd (instruction-following difficulty), reward, reward_difference."""
    base: str | None = None
    """The model that MODEL was tuned from: reward_difference is then how much likelier the answer has become. Without
    one the same weights read it without the chat template."""
    reward_model: str | None = None
    """A Llama, Mistral or Gemma 2 with a score in place of its head. It gives reward, and reward_difference to rows
    that have another model's answer in `base_output`."""

    def __post_init__(self) -> None:
        """Raises UserError that lists everything that does not fit together."""
        problems = [f"scores names {name!r}: use {', '.join(SCORES)}" for name in self.scores if name not in SCORES]
        if "reward" in self.scores and self.reward_model is None:
            problems.append("reward is a reward model's: name one")
        if self.reward_model is not None and not {"reward", "reward_difference"} & set(self.scores):
            problems.append("a reward model is named and no score of it: add reward to the scores")
        if self.base is not None and "reward_difference" not in self.scores:
            problems.append("a base model is named and not what it is for: add reward_difference to the scores")
        if self.base is not None and self.reward_model is not None:
            problems.append("a base model and a reward model are named: a reward difference is of one of them")
        if self.asks_nothing and not self.scores:
            problems.append("nothing is asked and no score is wanted")
        if problems:
            raise UserError(
                "The settings do not fit together",
                where="--only, --scores, --base, --reward-model",
                fix="mlx-suite magpie tag --help says what each one means",
                details=problems,
            )

    @property
    def asks_nothing(self) -> bool:
        """Whether only scores are wanted."""
        return self.only == ("none",)

    @property
    def parts(self) -> tuple[str, ...]:
        """What has to be done for every row: `tags`, `own` (log-probabilities), `base`, `reward`."""
        from_log_probs = "reward_difference" in self.scores and self.reward_model is None
        wanted = {
            "tags": not self.asks_nothing,
            "own": "ifd" in self.scores or from_log_probs,
            "base": from_log_probs and self.base is not None,
            "reward": self.reward_model is not None,
        }
        return tuple(part for part, is_wanted in wanted.items() if is_wanted)

    @property
    def bare(self) -> bool:
        """Whether answers are compared with the same weights' behind bare text."""
        return "reward_difference" in self.scores and self.base is None and self.reward_model is None
