"""What a user decides about reflection. The docstrings of the fields are the help of the command line."""

from dataclasses import dataclass

from mlx_suite.runtime.rules import check_rules

WHAT = ("instruction", "answer", "both")


@dataclass(frozen=True, kw_only=True)
class ReflectSettings:
    """Settings of one reflection."""

    what: str
    """instruction, answer, or both: first the instruction, then the answer to whichever instruction was kept."""
    temperature: float = 0.0
    """Temperature of all that is written. 0 takes the most probable token: what is wanted is the best, not another."""
    max_criticism: int = 384
    """Longest criticism, in tokens; with a longer one the row stays as it is."""
    max_instruction: int = 512
    """Longest new instruction, in tokens."""
    max_answer: int = 2048
    """Longest new answer, in tokens. One that is cut off is never used."""
    seed: int = 0
    """Any whole number; it matters only where the temperature is above 0."""
    limit: int | None = None
    """Only the first rows of the data, so many of them."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every wrong value."""
        rules = {
            "what": (self.what in WHAT, f"one of {', '.join(WHAT)}"),
            "temperature": (self.temperature >= 0, "0 or more"),
            **{name: (getattr(self, name) >= 1, "1 or more") for name in LIMITS},
            "limit": (self.limit is None or self.limit >= 1, "1 or more"),
        }
        check_rules(self, rules, "the settings of the reflection", "mlx-suite magpie reflect --help")

    @property
    def limits(self) -> dict[str, int]:
        """Tokens of `criticism`, `instruction` and `answer`."""
        return {name.removeprefix("max_"): getattr(self, name) for name in LIMITS}


LIMITS = ("max_criticism", "max_instruction", "max_answer")
