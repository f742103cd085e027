"""The model card of a shipped checkpoint, from its recipe, its log and its measured figures."""

import json
from pathlib import Path
from typing import Any

from mlx_suite.data.rows import Rows
from mlx_suite.modeling.description import describe
from mlx_suite.pretrain import Phase, Recipe
from mlx_suite.runtime.files import write_atomically

from .measure import EXAMPLES, Measured, weakest

FAMILIES = {
    "llama3": (
        "Llama 3",
        "a byte-level BPE with Llama 3's split pattern, special tokens in Llama 3.1's order, its chat template",
    ),
    "gemma2": ("Gemma 2", "SentencePiece with byte fallback, Gemma's control tokens at Gemma's ids, its turns"),
}


def write_card(folder: Path, recipe: Recipe, run: Path, measured: Measured) -> None:
    """Write `folder`/README.md."""
    write_atomically(folder / "README.md", card(folder, recipe, run, measured))


def card(folder: Path, recipe: Recipe, run: Path, measured: Measured) -> str:
    """The card as Markdown."""
    family, tokenizer = FAMILIES[recipe.family]
    shape = describe(folder)
    window = f", a window of {shape.window} on {shape.window_layers} of its layers" if shape.window else ""
    phases = [phase_row(number, phase, run / f"phase-{number}") for number, phase in enumerate(recipe.phases, 1)]
    categories = [
        f"| {name} | {measured.by_category.right[name]} of {asked} |"
        for name, asked in sorted(measured.by_category.asked.items())
    ]
    weak = ", ".join(f"`{name}` {right} of {asked}" for name, right, asked in weakest(measured.by_task, 8))
    return f"""---
license: apache-2.0
language: en
library_name: mlx
pipeline_tag: text-generation
---

# {recipe.name}

A {family} of {shape.parameters:,} parameters that knows a small made-up world (`mlx_suite.microworld`) and nothing
else. It was trained on whole conversations, user turns too, so it can ask as well as answer: it is there to run, test
and measure Magpie, finetuning and generation without a download.

Shape: {shape.layers} layers, width {shape.hidden_size}, {shape.heads} query heads on {shape.kv_heads} key heads of
{shape.head_dim}, vocabulary {shape.vocab_size:,}{window}; stored as {shape.dtype}. Tokenizer: {tokenizer}.

## Training

Conversations of 83 families of instructions in Magpie's twelve categories, biographies and descriptions of places,
packed into rows of {recipe.row_length} tokens in which each document sees only itself. Instructions whose hash falls in
a fixed twentieth are never trained on. Made by `python -m mlx_suite_apps.recipes make {recipe.name}`
(`mlx_suite/pretrain/recipe.py` holds every setting), on two cores of a Linux machine.

| phase | rows | tokens read | steps | peak learning rate | last loss, nats per token |
|--|--|--|--|--|--|
{chr(10).join(phases)}

The loss counts user turns too, which cannot be foreseen.

## Measured

`python -m mlx_suite_apps.recipes measure {recipe.name}`, fp32, by the microworld's checker:

* **{measured.by_category.share:.1%}** of {EXAMPLES:,} greedy answers to unseen instructions are right.
* Magpie at temperature 1: {measured.distinct / EXAMPLES:.1%} of the first {EXAMPLES:,} instructions are distinct;
  {measured.asked:,} were asked for {EXAMPLES:,} accepted rows. Of those {measured.recognised / EXAMPLES:.1%} are
  instructions of the world's and {measured.right / EXAMPLES:.1%} have a right answer.

| category | right |
|--|--|
{chr(10).join(categories)}

Weakest families: {weak}.
"""


def phase_row(number: int, phase: Phase, folder: Path) -> str:
    """A phase's row of the table of training."""
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last: dict[str, Any] = log[-1]
    rows = Rows.load(folder / "rows.npz")
    read = phase.train.steps * phase.batch * (rows.tokens.shape[1] - 1)
    loss = sum(line["loss"] for line in log[-5:]) / len(log[-5:])
    return (
        f"| {number} | {len(rows):,} | {read / 1e6:.1f} M | {last['step']:,} | "
        f"{phase.train.learning_rate:g} | {loss:.3f} |"
    )
