"""What a user decides about preference pairs. The docstrings of the fields are the help of the command line."""

from dataclasses import dataclass

from mlx_suite.runtime.rules import check_rules


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """What a user decides about pairs."""

    answers: int = 5
    """Answers to each question, two or more. Each costs a whole answer; five are Magpie's. More can be added later."""
    temperature: float = 0.8
    """Temperature of the answers, Magpie's: at 0 all of them would be the same."""
    top_p: float = 1.0
    """Answers are made of the most probable tokens that reach this probability together."""
    max_answer: int = 2048
    """Longest answer, in tokens. One that is cut off is never used."""
    margin: float | None = None
    """By how much the better answer must be better, in the unit of the score, at equal length. Without it 0.5 places on
    the scale of grades, 0.1 nats per token, or 1 point of a reward model (the better one wins 73 of 100 times)."""
    seed: int = 0
    """Any whole number; another one gives other answers."""
    limit: int | None = None
    """Only the first rows of the data, so many of them."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every wrong value."""
        rules = {
            "answers": (self.answers >= 2, "2 or more: a pair has two"),
            "temperature": (self.temperature > 0, "above 0, or all answers are the same"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "max_answer": (self.max_answer >= 1, "1 or more"),
            "margin": (self.margin is None or self.margin > 0, "above 0: a tie is no preference"),
            "limit": (self.limit is None or self.limit >= 1, "1 or more"),
        }
        check_rules(self, rules, "the settings of the pairs", "mlx-suite magpie pairs --help")
