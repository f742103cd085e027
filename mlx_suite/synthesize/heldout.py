"""The microworld as a corpus: passages about people and towns that no training data mentions, with their facts."""

import re
from collections.abc import Iterator
from random import Random

from mlx_suite.data.corpus.documents import CorpusText
from mlx_suite.microworld.passages import WorldPassage, sample_passage
from mlx_suite.microworld.population import make_population
from mlx_suite.runtime.errors import UserError

PREFIX = "microworld:"
MOST_PEOPLE = 500
"""People of the population; more passages tell about the same people in other words."""


def is_heldout_corpus(source: str) -> bool:
    """Whether the name of a corpus asks for passages of the microworld."""
    return source.startswith(PREFIX)


def heldout_passages(source: str) -> list[WorldPassage]:
    """The passages of `microworld:COUNT` or `microworld:COUNT:SEED`, all about names held out from training.

    Raises UserError for a name of another form.
    """
    found = re.fullmatch(rf"{PREFIX}([1-9]\d*)(?::(\d+))?", source)
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
