"""The model card of a shipped checkpoint, written from its training plan, log and measurements."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.description import describe
from mlx_suite.data.batch.rows import Rows
from mlx_suite.runtime.files import write_atomically

from .drawing import mean_obedience
from .measure import EXAMPLES, STEERED, Measured, Tagging, weakest
from .plans import Phase, TrainingPlan

FAMILIES = {
    "llama3": (
        "Llama 3",
        "a byte-level BPE with Llama 3's split pattern, special tokens in Llama 3.1's order, its chat template",
    ),
    "gemma2": ("Gemma 2", "SentencePiece with byte fallback, Gemma's control tokens at Gemma's ids, its turns"),
}


TRUTH_SOURCES = {
    "category": "the task's",
    "difficulty": "the task's",
    "input_quality": "how the instruction was degraded",
    "language": "the phrase's language: the world's or one of fourteen others",
    "safety": "harmful phrases against harmless ones of the same form",
    "answer_quality": "how the answer was degraded",
}
"""Source of the true label of each tag."""


def write_card(folder: Path, plan: TrainingPlan, run: Path, measured: Measured, earlier: Mapping[int, str]) -> None:
    """Write `folder`/README.md."""
    write_atomically(folder / "README.md", card(folder, plan, run, measured, earlier))


def earlier_phases(checkpoint: Path) -> dict[int, str]:
    """Read the training table in the card of `checkpoint`: phase number → row."""
    lines = (checkpoint / "README.md").read_text(encoding="utf-8").splitlines()
    return {int(found[1]): line for line in lines if (found := re.match(r"\| (\d+) \| .* M \|", line))}


def card(folder: Path, plan: TrainingPlan, run: Path, measured: Measured, earlier: Mapping[int, str]) -> str:
    """Return the card as Markdown. Rows of phases without a log in `run` come from `earlier`."""
    family, tokenizer = FAMILIES[plan.family]
    shape = describe(folder)
    window = f", a window of {shape.window} on {shape.window_layers} of its layers" if shape.window else ""
    known = {number: run / f"phase-{number}" for number in range(1, len(plan.phases) + 1)}
    phases = [
        phase_row(number, phase, known[number]) if (known[number] / "metrics.jsonl").is_file() else earlier[number]
        for number, phase in enumerate(plan.phases, 1)
    ]
    categories = [
        f"| {name} | {measured.by_category.right[name]} of {asked} | {measured.steering[name][0]:.1%} "
        f"| {measured.steering[name][1]:.1%} |"
        for name, asked in sorted(measured.by_category.asked.items())
    ]
    weak = ", ".join(f"`{name}` {right} of {asked}" for name, right, asked in weakest(measured.by_task, 8))
    steered, unsteered = mean_obedience(measured.steering)
    by = "a system turn" if plan.family == "llama3" else "a first exchange (it knows no system role)"
    return f"""---
license: apache-2.0
language: en
library_name: mlx
pipeline_tag: text-generation
---

# {plan.name}

A {family} of {shape.parameters:,} parameters that knows a small made-up world (`mlx_suite.microworld`) and nothing
else. It was trained on whole conversations, user turns included, so it can write instructions as well as responses. Use
it to run, test and measure Magpie, finetuning and generation without a download.

Shape: {shape.layers} layers, width {shape.hidden_size}, {shape.heads} query heads, {shape.kv_heads} key-value heads
of size {shape.head_dim}, vocabulary {shape.vocab_size:,}{window}; stored as {shape.dtype}. Tokenizer: {tokenizer}.

## Training

Conversations of 83 families of instructions in Magpie's twelve categories, biographies and descriptions of places,
packed into rows of {plan.row_length} tokens in which each document sees only itself. Instructions whose hash falls in
a fixed twentieth are never trained on. Made by `python -m mlx_suite_apps.shipped make {plan.name}`
(`apps/shipped/plans.py` holds every setting), on two cores of a Linux machine.
{_tag_phases(plan, resumed=bool(earlier))}
| phase | rows | tokens read | steps | peak learning rate | last loss, nats per token |
|--|--|--|--|--|--|
{chr(10).join(phases)}

The loss includes user turns, most of which no model can predict.

## Measured

`python -m mlx_suite_apps.shipped measure {plan.name}`, fp32, by the microworld's checker:

* **{measured.by_category.share:.1%}** of {EXAMPLES:,} greedy answers to unseen instructions are right.
* Magpie at temperature 1, nothing rejected: {measured.whole:,} of {EXAMPLES:,} rows are complete. Of those
  {measured.distinct / measured.whole:.1%} are distinct, {measured.recognised / measured.whole:.1%} belong
  to a task of the world and {measured.right / measured.whole:.1%} have a right answer.
* Steered to a category by {by} that states what the user asks for
  (`mlx_suite.data.steering`), {steered:.1%} of the instructions belong to it, against {unsteered:.1%} without
  steering: means over the categories, {STEERED} rows each. An instruction outside the world's tasks has no category.

| category | right answers | drawn when steered to it | drawn unsteered |
|--|--|--|--|
{chr(10).join(categories)}

Weakest families: {weak}.
{_tagging(measured.tagging)}"""


def _tag_phases(plan: TrainingPlan, resumed: bool) -> str:
    """Paragraph on the phases that teach tags and steering; `resumed` if only those were trained this time."""
    taught = [number for number, phase in enumerate(plan.phases, 1) if phase.tag_share or phase.steer_share]
    if not taught:
        return ""
    first = taught[0]
    phases = f"Phase {first} teaches" if len(taught) == 1 else f"Phases {first} to {taught[-1]} teach"
    return f"""
{phases} tagging and steering, along with more of the same conversations. Phase {first} starts from the bfloat16
weights that phase {first - 1} ended with, so that checkpoint is enough to continue from:
`--from DIR --from-phase {first}`{"; this checkpoint was made that way" if resumed else ""}.
"""


def _tagging(tagging: Tagging | None) -> str:
    if tagging is None:
        return ""
    rows = [
        f"| {name} | {each.share:.1%} | {each.kappa:.2f} | {TRUTH_SOURCES[name]} |"
        for name, each in tagging.heldout.items()
    ]
    category, difficulty, answers = tagging.own["category"], tagging.own["difficulty"], tagging.own_answers
    return f"""
## Tags

The questions of `tag_questions.json`, asked one at a time on {EXAMPLES:,} unseen examples each; the most
probable label against the truth (`mlx_suite/microworld/tagging.py` and `quality.py` define it):

| tag | agreement | Cohen's kappa | truth |
|--|--|--|--|
{chr(10).join(rows)}

On {category.count:,} rows drawn from the model whose instruction the microworld
recognises: category {category.share:.1%} (kappa
{category.kappa:.2f}), difficulty {difficulty.share:.1%} (kappa {difficulty.kappa:.2f}). It rates
{answers.right_called_excellent:,} of its {answers.right:,} right answers to them and
{answers.wrong_called_excellent:,} of {answers.wrong:,} wrong ones as excellent.
"""


def phase_row(number: int, phase: Phase, folder: Path) -> str:
    """Return the row of the training table for one phase."""
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last: dict[str, Any] = log[-1]
    rows = Rows.load(folder / "rows.npz")
    read = phase.train.steps * phase.batch * (rows.tokens.shape[1] - 1)
    loss = sum(line["loss"] for line in log[-5:]) / len(log[-5:])
    return (
        f"| {number} | {len(rows):,} | {read / 1e6:.1f} M | {last['step']:,} | "
        f"{phase.train.learning_rate:g} | {loss:.3f} |"
    )
