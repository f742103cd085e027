"""Measurements of a checkpoint by the microworld's checker."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_suite.data.questions import QUESTIONS_FILE, read_questions
from mlx_suite.evaluate import Accuracy, measure_accuracy
from mlx_suite.loading import load
from mlx_suite.microworld import Verdict, check, heldout_examples, make_world
from mlx_suite.text import load_chat_template

from .drawing import draw_rows, mean_obedience, measure_steering
from .tags import Agreement, AnswerTags, measure_own_tags, measure_tags

EXAMPLES = 1000
"""Number of held-out instructions, of sampled rows, and of examples per tagging question."""
STEERED = 200
"""Rows sampled per steered category."""


@dataclass(frozen=True, kw_only=True)
class Tagging:
    """Agreement of tags with the truth."""

    heldout: Mapping[str, Agreement]
    """Agreement per question on `EXAMPLES` held-out examples."""
    own: Mapping[str, Agreement]
    """Agreement on sampled rows whose instruction the microworld recognises."""
    own_answers: AnswerTags


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of a model card."""

    by_category: Accuracy
    by_task: Accuracy
    whole: int
    """Complete rows among `EXAMPLES` sampled at temperature 1."""
    distinct: int
    """Distinct instructions among the complete rows."""
    recognised: int
    """Complete rows whose instruction belongs to a task of the microworld."""
    right: int
    """Complete rows with a right response."""
    steering: Mapping[str, tuple[float, float]]
    """Each category's share among rows steered to it, and among unsteered rows."""
    tagging: Tagging | None
    """None for a checkpoint without tagging questions."""

    def as_dict(self) -> dict[str, Any]:
        """The measurements as JSON fields."""
        categories = self.by_category
        return {
            "heldout_accuracy": round(categories.share, 4),
            "by_category": {
                name: round(categories.right[name] / asked, 3) for name, asked in sorted(categories.asked.items())
            },
            "magpie_drawn": EXAMPLES,
            "magpie_whole_share": self.whole / EXAMPLES,
            "magpie_distinct_share": self.distinct / EXAMPLES,
            "magpie_recognised_share": self.recognised / EXAMPLES,
            "magpie_right_share": self.right / EXAMPLES,
            "steered": {name: shares[0] for name, shares in self.steering.items()},
            "unsteered": {name: round(shares[1], 4) for name, shares in self.steering.items()},
            "mean_obedience": round(mean_obedience(self.steering)[0], 4),
            "tagging": None if self.tagging is None else asdict(self.tagging),
        }


def measure_checkpoint(folder: Path) -> Measured:
    """Measure held-out accuracy, rows sampled with and without steering, and tags."""
    model, tokenizer = load(folder)
    template = load_chat_template(folder)
    world = make_world()
    by_category, by_task = measure_accuracy(model, tokenizer, template, heldout_examples(0, EXAMPLES), world)
    rows = draw_rows(model, tokenizer, template, EXAMPLES)
    verdicts = Counter(check(row.instruction, row.answer, world) for row in rows)
    tagging = None
    if (folder / QUESTIONS_FILE).is_file():
        questions = read_questions(folder / QUESTIONS_FILE)
        heldout = measure_tags(model, tokenizer, template, questions, EXAMPLES)
        own, answers = measure_own_tags(model, tokenizer, template, questions, rows)
        tagging = Tagging(heldout=heldout, own=own, own_answers=answers)
    return Measured(
        by_category=by_category,
        by_task=by_task,
        whole=len(rows),
        distinct=len({row.instruction for row in rows}),
        recognised=len(rows) - verdicts[Verdict.UNKNOWN],
        right=verdicts[Verdict.RIGHT],
        steering=measure_steering(model, tokenizer, template, STEERED, rows),
        tagging=tagging,
    )


def weakest(accuracy: Accuracy, count: int) -> list[tuple[str, int, int]]:
    """The `count` groups with the lowest accuracy: (name, right, asked)."""
    shares: Counter[str] = Counter({name: accuracy.right[name] / asked for name, asked in accuracy.asked.items()})
    return [(name, accuracy.right[name], accuracy.asked[name]) for name, _ in shares.most_common()[: -count - 1 : -1]]
