"""What tiny-synthesizer writes from unseen passages, judged by the microworld, and its model card."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.description import describe
from mlx_suite.loading import load
from mlx_suite.microworld.facts import FactCount
from mlx_suite.microworld.rewrites import REWRITES
from mlx_suite.runtime.files import write_atomically
from mlx_suite.synthesize.run import CorpusJob, synthesize
from mlx_suite.synthesize.settings import SynthesisSettings
from mlx_suite.synthesize.shards import CorpusShards
from mlx_suite.synthesize.worlds import heldout_passages, heldout_texts
from mlx_suite.synthesize.writer import TagWriter

from .synthesizer import NAME, PEOPLE, PHASES

PASSAGES = 400
"""Passages about held-out people and towns that are read."""
CORPUS = f"microworld:{PASSAGES}:7"


@dataclass(frozen=True, kw_only=True)
class MeasuredSynthesizer:
    """The figures of the card."""

    summary: dict[str, Any]
    """Of a run that writes pairs and every form of rewrite."""
    with_examples: dict[str, Any]
    """Of a run that writes pairs, with one example before every second passage."""

    @property
    def quality(self) -> dict[str, Any]:
        found: dict[str, Any] = self.summary["quality"]
        return found


def measure_synthesizer(checkpoint: Path, folder: Path) -> MeasuredSynthesizer:
    """Let the checkpoint read unseen passages; `folder` gets what it writes."""
    model, tokenizer = load(checkpoint)
    passages = heldout_passages(CORPUS)

    def summary(name: str, settings: SynthesisSettings) -> dict[str, Any]:
        job = CorpusJob(
            model=model,
            writer=TagWriter(tokenizer=tokenizer),
            corpus=CorpusShards(partial(heldout_texts, CORPUS, passages), name=CORPUS),
            settings=settings,
            model_name=NAME,
            truth={passage.text: passage for passage in passages},
        )
        return synthesize(job, folder / name).as_dict()

    return MeasuredSynthesizer(
        summary=summary("alone", SynthesisSettings(forms=("pairs", *REWRITES), rounds=1)),
        with_examples=summary("examples", SynthesisSettings(forms=("pairs",), rounds=2)),
    )


def write_synthesizer_card(checkpoint: Path, run: Path, measured: MeasuredSynthesizer) -> None:
    """Write `checkpoint`/README.md."""
    write_atomically(checkpoint / "README.md", synthesizer_card(checkpoint, run, measured))


def synthesizer_card(checkpoint: Path, run: Path, measured: MeasuredSynthesizer) -> str:
    """The card as Markdown."""
    shape, quality, cost = describe(checkpoint), measured.quality, measured.summary["cost"]
    phases = [_phase_row(number, run / f"phase-{number}") for number in range(1, len(PHASES) + 1)]
    facts = [_fact_row(form, FactCount(**counts), cost[form]) for form, counts in quality["facts"].items()]
    truth, shown = quality["truth"], measured.with_examples["quality"]["truth"]
    parsed, grounded = quality["parsed"] / quality["pieces"], truth["grounded"] / truth["judged"]
    right, chained = truth["right"] / truth["judged"], shown["right"] / shown["judged"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in quality["kinds"].items() if count)
    towns = [phase.towns for phase in PHASES]
    least, most = min(towns), max(towns)
    ordered = next(number for number, phase in enumerate(PHASES, 1) if phase.ordered)
    return f"""---
license: apache-2.0
language: en
library_name: mlx
pipeline_tag: text-generation
---

# {NAME}

A Mistral of {shape.parameters:,} parameters that reads a short passage about people or towns of a small made-up world
(`mlx_suite.microworld`) and writes instruction-response pairs about it, in the format of the instruction synthesizer
of arXiv 2406.14491, or rewrites the passage in another form. It knows nothing else: use it to run, test and measure
`mlx-suite synthesize run` and the pretraining lab without a download.

Shape: {shape.layers} layers, width {shape.hidden_size}, {shape.heads} query heads and {shape.kv_heads} key-value head
of size {shape.head_dim}, a window of {shape.window} in every layer, vocabulary {shape.vocab_size:,}; stored as
{shape.dtype}. Tokenizer: a byte-level BPE with `<s>` and `</s>`, without a chat template.

## Training

Passages about {PEOPLE:,} people and {least} to {most} towns with pairs or a rewrite, key-value drills, and passages
alone, packed into rows in which each document sees only itself. A tenth of all names is never trained on. From phase
{ordered} on, questions and rewrites follow the order of their passage. Made by
`python -m mlx_suite_apps.shipped make {NAME}` (`apps/shipped/synthesizer.py` holds every setting), on two cores of a
Linux machine.

| phase | steps | tokens read | peak learning rate | last loss, nats per weighted token |
|--|--|--|--|--|
{chr(10).join(phases)}

## Measured

`python -m mlx_suite_apps.shipped measure {NAME}`: {PASSAGES} passages about people and towns whose names are held
out, greedy, one passage in each prompt (`mlx-suite synthesize run {NAME} {CORPUS} --rounds 1 --as
pairs,{",".join(REWRITES)} --out DIR` writes the same).

* **{parsed:.1%}** of {quality["pieces"]:,} pieces parse as pairs. {quality["pairs"]:,} are new: {kinds}.
* {grounded:.1%} of these ask what the passage answers; **{right:.1%}** are answered right, by the checker.
* {quality["quoted_share"]:.0%} of the words of an answer stand in its passage.
* With an example before every second passage (`--rounds 2`) {chained:.1%} are right: it saw few chains in training, so
  use `--rounds 1`.

| rewrite | facts kept | lost | invented, per fact of the passage | accepted of {PASSAGES} | tokens per rewrite |
|--|--|--|--|--|--|
{chr(10).join(facts)}
"""


def _phase_row(number: int, folder: Path) -> str:
    phase = PHASES[number - 1]
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    read = phase.train.steps * phase.batch * phase.row_length
    settings = phase.train
    return f"| {number} | {settings.steps:,} | {read / 1e6:.1f} M | {settings.learning_rate:g} | {last['loss']:.3f} |"


def _fact_row(form: str, counts: FactCount, cost: dict[str, Any]) -> str:
    total = counts.kept + counts.lost
    shares = (f"{count / total:.1%}" for count in (counts.kept, counts.lost, counts.invented))
    return f"| {form} | {' | '.join(shares)} | {cost['accepted']:,} | {cost['tokens_per_accepted']:,.0f} |"
