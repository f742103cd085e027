"""What a user asks of an export."""

from dataclasses import dataclass

from mlx_suite.runtime.rules import check_rules


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of an export. The docstrings of the fields are the help of the command line."""

    to: str
    """messages, alpaca, sharegpt, mlx-lm, pairs (turns, as TRL reads them), pairs-text (as mlx-lm-lora reads them) or
    parquet."""
    valid: float | None = None
    """Share of the rows to validate on. 0.1 for mlx-lm, otherwise none. Near-duplicates stay in one part."""
    test: float | None = None
    """Share of the rows to test on. 0.1 for mlx-lm, otherwise none."""
    cosine: float | None = None
    """Rows with this cosine or more between their embeddings are near-duplicates as well, where a run has embeddings.
    By default those with nearly the same words alone are."""
    seed: int = 0
    """Any whole number; another one splits differently."""
    first_turn: bool = False
    """Write the first question and answer of a longer conversation where the format holds no more."""
    keep_steering: bool = False
    """Write what steered the model as a system text. Left out by default: who learns from a row shall not need it."""
    license: str = ""
    """The dataset's licence for its card, as the hub names it: apache-2.0, llama3, gemma, cc-by-4.0, … Unknown where
    none is given."""
    title: str = ""
    """The dataset's name on its card. The name of what was read by default."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every wrong value."""
        share, line = "at least 0 and below 1, and below 1 together", "a single line"
        together = (self.valid or 0) + (self.test or 0) < 1
        rules = {
            "valid": (self.valid is None or (self.valid >= 0 and together), share),
            "test": (self.test is None or (self.test >= 0 and together), share),
            "cosine": (self.cosine is None or 0 < self.cosine <= 1, "above 0 and at most 1"),
            "license": ("\n" not in self.license, line),
            "title": ("\n" not in self.title, line),
        }
        check_rules(self, rules, "the settings of the export", "mlx-suite magpie export --help")
