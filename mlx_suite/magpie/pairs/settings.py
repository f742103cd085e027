"""Settings of preference pairs. The field docstrings are the command line's help."""

from dataclasses import dataclass

from mlx_suite.runtime.errors import check_rules


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """Settings of one folder of preference pairs."""

    answers: int = 5
    """Responses to each instruction, at least two. Magpie uses five; more can be added later."""
    temperature: float = 0.8
    """Sampling temperature of the responses, above 0. 0.8 is Magpie's."""
    top_p: float = 1.0
    """Sample from the most probable tokens whose probabilities reach this sum. 1 uses all."""
    max_answer: int = 2048
    """Maximum tokens of a response. Truncated responses are never used."""
    margin: float | None = None
    """Minimum difference between the scores of the two responses, at equal length. Default: 0.5 steps of the grading
    scale, 0.1 nats per token, or 1 point of a reward model (the better one wins 73 of 100 times)."""
    seed: int = 0
    """Random seed; another one gives other responses."""
    limit: int | None = None
    """Use only the first N rows of the data. Default: all."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every invalid value."""
        rules = {
            "answers": (self.answers >= 2, "expected 2 or more: a pair has two"),
            "temperature": (self.temperature > 0, "expected above 0, or all responses are the same"),
            "top_p": (0 < self.top_p <= 1, "expected a number above 0, at most 1"),
            "max_answer": (self.max_answer >= 1, "expected 1 or more"),
            "margin": (self.margin is None or self.margin > 0, "expected above 0: a tie is not a preference"),
            "limit": (self.limit is None or self.limit >= 1, "expected 1 or more"),
        }
        check_rules(self, rules, "Pair settings", "mlx-suite magpie pairs --help")
