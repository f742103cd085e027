"""Settings of an export."""

from dataclasses import dataclass

from mlx_suite.runtime.errors import check_rules


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of an export. The field docstrings are the command line's help."""

    to: str
    """Format: messages, alpaca, sharegpt, mlx-lm, pairs (turns, for TRL), pairs-text (texts, for mlx-lm-lora) or
    parquet."""
    valid: float | None = None
    """Share of rows for validation. Near-duplicates stay in one split. Default: 0.1 for mlx-lm, otherwise 0."""
    test: float | None = None
    """Share of rows for testing. Default: 0.1 for mlx-lm, otherwise 0."""
    cosine: float | None = None
    """Cosine similarity of embeddings at which rows count as near-duplicates, in addition to near-duplicates by words.
    Default: ignore the embeddings."""
    seed: int = 0
    """Seed of the split."""
    first_turn: bool = False
    """Cut longer conversations to the first instruction and response if the format allows no more."""
    keep_steering: bool = False
    """Write steering texts as a system prompt. By default they are removed, so that a model learns to respond without
    them."""
    license: str = ""
    """License for the dataset card, as the hub names it: apache-2.0, llama3, gemma, cc-by-4.0, … Default: unknown."""
    title: str = ""
    """Title of the dataset card. Default: the name of the input."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every invalid value."""
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
