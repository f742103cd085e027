"""Growing a small corpus: texts are written from again and again, until the corpus has a number of tokens.

The first time is greedy; every repeat is sampled with other random numbers, and what repeats an earlier text is
rejected. A corpus stops growing if a repeat adds almost nothing new.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mlx_suite.synthesize.assembly import RAW, CorpusDocument
from mlx_suite.synthesize.settings import SynthesisSettings

STALLED = 0.02
"""A repeat that adds less than this share of the first one's tokens is the last."""
MOST_REPEATS = 1000


@dataclass(kw_only=True)
class Growth:
    """Counts the corpus's tokens, and decides which documents it takes and whether another repeat is needed."""

    settings: SynthesisSettings
    count: Callable[[str], int]
    """Number of tokens of a text."""
    source_tokens: int = 0
    """Tokens of the corpus before anything is written."""
    tokens: Counter[str] = field(default_factory=Counter)
    """Tokens of the documents by form; those with pairs include their texts."""
    documents: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    """Repeats that have ended."""
    stalled: bool = False
    """Whether growing ended because too little was new."""

    def __post_init__(self) -> None:
        self._before = 0

    @property
    def total(self) -> int:
        return self.tokens.total()

    @property
    def target(self) -> int | None:
        """Tokens to reach; None if the corpus is not grown. `--times` is known after the first time."""
        if self.settings.times is not None:
            return round(self.settings.times * self.source_tokens)
        return self.settings.until_tokens

    def add_source(self, text: str) -> None:
        """Count a text of the corpus."""
        self.source_tokens += self.count(text)

    def takes(self, document: CorpusDocument) -> bool:
        """Whether a document goes into the corpus; it is then counted. The first repeat is taken whole."""
        if self.repeats and self.target is not None and self.total >= self.target:
            return False
        self.tokens[document.form] += self.count(document.text)
        self.documents[document.form] += 1
        return True

    def ends(self) -> bool:
        """End a repeat; whether it was the last."""
        added, self._before = self.total - self._before, self.total
        self.repeats += 1
        if self.target is None or self.total >= self.target:
            return True
        written = self.total - self.tokens[RAW]
        is_first = self.repeats == 1
        self.stalled = added < STALLED * self.source_tokens if not is_first else written == 0
        return self.stalled or self.repeats == MOST_REPEATS
