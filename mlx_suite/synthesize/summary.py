"""Summary of an augmented corpus: its tokens, what they cost, and how good they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.synthesize.assembly import Assembler
from mlx_suite.synthesize.grow import Growth
from mlx_suite.synthesize.ledger import Ledger
from mlx_suite.synthesize.quality import Quality
from mlx_suite.synthesize.shards import Census


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run has written."""

    folder: Path
    model: str
    census: Census
    assembler: Assembler
    growth: Growth

    @property
    def ledger(self) -> Ledger:
        return self.assembler.ledger

    @property
    def quality(self) -> Quality:
        return self.assembler.quality

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        growth, assembler = self.growth, self.assembler
        return {
            "model": self.model,
            "texts": self.census.texts,
            "characters": self.census.characters,
            "unreadable": self.census.unreadable,
            "parts": assembler.parts,
            "converted": assembler.converted,
            "kept_raw": dict(assembler.kept_raw.most_common()),
            "split": assembler.split,
            "corpus": {
                "source_tokens": growth.source_tokens,
                "tokens": growth.total,
                "target_tokens": growth.target,
                "repeats": growth.repeats,
                "stalled": growth.stalled,
                "forms": {
                    form: {"documents": documents, "tokens": growth.tokens[form]}
                    for form, documents in growth.documents.items()
                },
                "unusable_options": assembler.unusable_options,
            },
            "cost": {form: cost.as_dict() for form, cost in self.ledger.forms.items()},
            "quality": self.quality.as_dict(),
        }
