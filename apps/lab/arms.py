"""What each arm trains on: parts of text with weights, at equal numbers of tokens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from mlx_suite.microworld.population import make_population
from mlx_suite.pretrain.settings import CorpusPart
from mlx_suite.synthesize.assembly import RAW
from mlx_suite.synthesize.layouts import pairs_alone, pretraining_text

from ..shipped.synthesizer import chain
from .material import Material, texts_of, write_texts
from .recipe import LabRecipe, Trial

SYNTHETIC = "synthetic"
"""Name of the part beside the raw text."""
CHARACTERS_PER_TOKEN = 3.0
"""Fewest characters per token that a vocabulary of a few hundred ids reaches on these texts."""
CHAIN = 2
"""Texts in a document of the arms whose pairs stand apart."""


@dataclass(frozen=True, kw_only=True)
class ArmData:
    """The parts of an arm."""

    raw: Path | None
    synthetic: Path | None

    def parts(self, share: float) -> tuple[CorpusPart, ...]:
        """The parts of a trial with this share of synthetic text."""
        if self.raw is None or self.synthetic is None:
            path, name = (self.raw, RAW) if self.raw is not None else (self.synthetic, SYNTHETIC)
            assert path is not None
            return (CorpusPart(path=str(path), name=name, weight=1.0),)
        return (
            CorpusPart(path=str(self.raw), name=RAW, weight=1 - share),
            CorpusPart(path=str(self.synthetic), name=SYNTHETIC, weight=share),
        )


def arm_data(trial: Trial, material: Material, folder: Path) -> ArmData:
    """Write the texts of an arm into `folder`, unless they are there."""
    arm, path = trial.arm, folder / f"{trial.arm}.jsonl"
    raw = material.raw
    if not path.exists() and arm not in ("repeat", "whole"):
        write_texts(path, _texts(arm, material))
    if arm in ("repeat", "whole"):
        return ArmData(raw=raw, synthetic=None)
    if arm in ("vanilla", "tenth", "grown"):
        return ArmData(raw=path, synthetic=None)
    return ArmData(raw=None if arm == "instruct-only" else raw, synthetic=path)


def _texts(arm: str, material: Material) -> Iterable[str]:
    recipe = material.recipe
    if arm == "vanilla":
        return _vanilla(material)
    if arm == "mix":
        return _other_examples(recipe)
    if arm == "instruct":
        return (document["text"] for document in material.documents("pairs") if document["form"] != RAW)
    if arm == "pit":
        return _chains(material, inverted=True)
    if arm in ("instruct-separate", "instruct-only"):
        return _chains(material, inverted=False)
    if arm == "tenth":
        return texts_of(material.folder / "read.jsonl")
    if arm == "grown":
        return (document["text"] for document in material.documents("grown"))
    assert arm == "rephrase", arm
    return (document["text"] for document in material.documents("rewrites") if document["form"] != RAW)


def _vanilla(material: Material) -> Iterator[str]:
    """As much text without repetition as the budget holds; of a corpus of one's own, all there is."""
    if material.recipe.world is None:
        return texts_of(material.raw)
    return _until(material.people.fresh_texts(), material.recipe.training.tokens * CHARACTERS_PER_TOKEN * 2)


def _until(texts: Iterable[str], characters: float) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text


def _other_examples(recipe: LabRecipe) -> Iterator[str]:
    """The synthesizer's training data as texts: pairs about people that the lab does not know."""
    rng = Random(f"lab mix {recipe.seed}")
    population = make_population(500, seed=recipe.seed + 1)
    assert recipe.world is not None
    for number in range(4 * recipe.world.people):
        yield pretraining_text(chain(population, rng, 1, rewrites=False), seed=recipe.seed, number=number)


def _chains(material: Material, *, inverted: bool) -> Iterator[str]:
    """Pairs alone, or before their texts."""
    examples = (example for example in material.examples() if example.pairs)
    number = 0
    while group := list(islice(examples, CHAIN)):
        seed = material.recipe.seed
        if inverted:
            yield pretraining_text(group, seed=seed, number=number, inverted=1.0)
        else:
            yield pairs_alone(group, seed=seed, number=number)
        number += 1
