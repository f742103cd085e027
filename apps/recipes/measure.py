"""What a checkpoint can do, by the microworld's checker."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlx_suite.evaluate import Accuracy, measure_accuracy
from mlx_suite.loading import load
from mlx_suite.magpie import MagpieSettings, make_dataset
from mlx_suite.magpie.record import instruction_of
from mlx_suite.microworld import heldout_examples, make_world
from mlx_suite.runtime.journal import read_journal
from mlx_suite.text import load_chat_template

EXAMPLES = 1000
"""Held-out instructions answered, and Magpie rows drawn."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of a model card."""

    by_category: Accuracy
    by_task: Accuracy
    asked: int
    """Rows drawn until `EXAMPLES` distinct ones were accepted."""
    rejected: dict[str, int]
    distinct: int
    """Distinct instructions among the first `EXAMPLES` whole rows drawn."""
    recognised: int
    """Accepted rows whose instruction is one of the microworld's tasks."""
    right: int
    """Accepted rows whose answer is right."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        categories = self.by_category
        return {
            "heldout_accuracy": round(categories.share, 4),
            "by_category": {
                name: round(categories.right[name] / asked, 3) for name, asked in sorted(categories.asked.items())
            },
            "magpie_rows": EXAMPLES,
            "magpie_asked": self.asked,
            "magpie_rejected": self.rejected,
            "magpie_distinct_share": self.distinct / EXAMPLES,
            "magpie_recognised_share": self.recognised / EXAMPLES,
            "magpie_right_share": self.right / EXAMPLES,
        }


def measure_checkpoint(folder: Path) -> Measured:
    """Answer held-out instructions greedily, then run Magpie at temperature 1."""
    model, tokenizer = load(folder)
    template = load_chat_template(folder)
    world = make_world()
    by_category, by_task = measure_accuracy(model, tokenizer, template, heldout_examples(0, EXAMPLES), world)
    with TemporaryDirectory() as data:
        summary = make_dataset(model, tokenizer, template, MagpieSettings(count=EXAMPLES), Path(data))
        rows = sorted(
            [*read_journal(summary.accepted_file), *read_journal(summary.rejected_file)], key=lambda row: row["index"]
        )
        instructions = [instruction_of(row) for row in rows[:EXAMPLES]]
    assert summary.truth is not None
    return Measured(
        by_category=by_category,
        by_task=by_task,
        asked=summary.asked,
        rejected=dict(summary.rejections),
        distinct=len(set(instructions)),
        recognised=summary.truth.recognised,
        right=summary.truth.right,
    )


def weakest(accuracy: Accuracy, count: int) -> list[tuple[str, int, int]]:
    """The `count` groups with the lowest share of right answers: name, right, asked."""
    shares: Counter[str] = Counter({name: accuracy.right[name] / asked for name, asked in accuracy.asked.items()})
    return [(name, accuracy.right[name], accuracy.asked[name]) for name, _ in shares.most_common()[: -count - 1 : -1]]
