"""The microworld as data of a synthesizer: passages with pairs or rewrites to train on, and a corpus to write from.

Names that are held out occur in the corpus only, so that what is written from it can be judged.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from random import Random

from mlx_suite.data.corpus.documents import CorpusText
from mlx_suite.microworld.passages import WorldPassage, sample_passage
from mlx_suite.microworld.population import Population, make_population
from mlx_suite.microworld.reading import STYLES, write_pairs
from mlx_suite.microworld.rewrites import REWRITES
from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.format import Example, Pair, Rewrite

PAIRS, REWRITTEN = "microworld", "microworld-rewrites"
COUNT = 2000
"""Default number of passages."""
PEOPLE = 4000
FEWEST_PAIRS, MOST_PAIRS = 2, 5
"""Pairs per passage; fewer where a passage allows no more in the style of its pairs."""
CORPUS = f"{PAIRS}:"
"""Beginning of the name of a held-out corpus, `microworld:COUNT[:SEED]`."""
MOST_PEOPLE = 500
"""People of a held-out corpus; more passages tell about the same people in other words."""


def is_world(source: str) -> bool:
    """Whether a source names a part of the microworld."""
    return source.partition(":")[0] in (PAIRS, REWRITTEN)


def read_world(source: str, seed: int = 0) -> Iterator[Example]:
    """Examples of `microworld`, `microworld:COUNT` or the same with `microworld-rewrites`, drawn with `seed`.

    Raises UserError if COUNT is not a positive number.
    """
    name, _, count = source.partition(":")
    if count and not (count.isdecimal() and int(count) > 0):
        raise UserError("The number of passages is not a positive number", where=source, fix=f"write {name}:{COUNT}")
    rng = Random(f"{name} {seed}")
    population = _population(seed)
    write = _with_pairs if name == PAIRS else _rewritten
    for _ in range(int(count or COUNT)):
        yield write(sample_passage(population, rng), rng)


@cache
def _population(seed: int) -> Population:
    return make_population(PEOPLE, seed=seed)


def example_of(passage: WorldPassage, rng: Random, count: int, style: str) -> Example:
    """A passage with at most `count` pairs of one of `STYLES`; without pairs if it allows none."""
    pairs = write_pairs(passage, rng, count, style)
    return Example(text=passage.text, pairs=tuple(Pair(**asdict(pair)) for pair in pairs))


def rewrite_of(passage: WorldPassage, rng: Random, form: str) -> Example:
    """A passage with its rewrite in one of the forms of `REWRITES`."""
    return Example(text=passage.text, rewrite=Rewrite(form=form, text=REWRITES[form](passage, rng)))


def _with_pairs(passage: WorldPassage, rng: Random) -> Example:
    """A passage with pairs of one kind, or of mixed kinds; free pairs if the passage allows no others."""
    count, style = rng.randint(FEWEST_PAIRS, MOST_PAIRS), rng.choice(STYLES)
    example = example_of(passage, rng, count, style)
    return example if example.pairs else example_of(passage, rng, count, "free")


def _rewritten(passage: WorldPassage, rng: Random) -> Example:
    return rewrite_of(passage, rng, rng.choice(list(REWRITES)))


# ---- a corpus about held-out names


def is_heldout_corpus(source: str) -> bool:
    """Whether the name of a corpus asks for passages of the microworld."""
    return source.startswith(CORPUS)


def heldout_passages(source: str) -> list[WorldPassage]:
    """The passages of `microworld:COUNT` or `microworld:COUNT:SEED`, all about names held out from training.

    Raises UserError for a name of another form.
    """
    found = re.fullmatch(rf"{CORPUS}([1-9]\d*)(?::(\d+))?", source)
    if not found:
        raise UserError(
            f"{source!r} does not say how many passages",
            where="CORPUS",
            fix="write microworld:COUNT or microworld:COUNT:SEED, such as microworld:100",
        )
    count, seed = int(found[1]), int(found[2] or 0)
    population = make_population(min(MOST_PEOPLE, max(2, count)), seed=seed, heldout=True)
    rng = Random(f"corpus {seed}")
    return [sample_passage(population, rng) for _ in range(count)]


def heldout_texts(source: str, passages: list[WorldPassage]) -> Iterator[CorpusText]:
    """The passages as texts of a corpus."""
    for number, passage in enumerate(passages, 1):
        yield CorpusText(text=passage.text, place=f"{source}#{number}")
