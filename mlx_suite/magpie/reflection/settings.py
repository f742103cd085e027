"""Settings of reflection. The field docstrings are the command line's help."""

from dataclasses import dataclass

from mlx_suite.runtime.errors import check_rules

WHAT = ("instruction", "answer", "both")
LIMITS = ("max_criticism", "max_instruction", "max_answer")


@dataclass(frozen=True, kw_only=True)
class ReflectSettings:
    """Settings of one folder of reflected rows."""

    what: str
    """Part to rewrite: instruction, answer, or both: the instruction first, then the response to the one kept."""
    temperature: float = 0.0
    """Sampling temperature of all generated texts. 0 is greedy: the goal is the best text, not variety."""
    max_criticism: int = 384
    """Maximum tokens of a criticism. If it is truncated, the row stays as it is."""
    max_instruction: int = 512
    """Maximum tokens of a new instruction."""
    max_answer: int = 2048
    """Maximum tokens of a new response. Truncated responses are never used."""
    seed: int = 0
    """Random seed. It matters only with a temperature above 0."""
    limit: int | None = None
    """Use only the first N rows of the data. Default: all."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every invalid value."""
        rules = {
            "what": (self.what in WHAT, f"expected one of {', '.join(WHAT)}"),
            "temperature": (self.temperature >= 0, "expected 0 or more"),
            **{name: (getattr(self, name) >= 1, "expected 1 or more") for name in LIMITS},
            "limit": (self.limit is None or self.limit >= 1, "expected 1 or more"),
        }
        check_rules(self, rules, "Reflection settings", "mlx-suite magpie reflect --help")

    @property
    def limits(self) -> dict[str, int]:
        """Token limits of `criticism`, `instruction` and `answer`."""
        return {name.removeprefix("max_"): getattr(self, name) for name in LIMITS}
