"""Passages of the microworld with pairs or rewrites, as training data of a synthesizer. Held-out names do not occur."""

from collections.abc import Iterator
from functools import cache
from random import Random

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


def _with_pairs(passage: WorldPassage, rng: Random) -> Example:
    """A passage with pairs of one kind, or of mixed kinds; free pairs if the passage allows no others."""
    count, style = rng.randint(FEWEST_PAIRS, MOST_PAIRS), rng.choice(STYLES)
    pairs = write_pairs(passage, rng, count, style) or write_pairs(passage, rng, count, "free")
    return Example(
        text=passage.text,
        pairs=tuple(
            Pair(question=each.question, answer=each.answer, options=each.options, reasoning=each.reasoning)
            for each in pairs
        ),
    )


def _rewritten(passage: WorldPassage, rng: Random) -> Example:
    form = rng.choice(list(REWRITES))
    return Example(text=passage.text, rewrite=Rewrite(form=form, text=REWRITES[form](passage, rng)))
