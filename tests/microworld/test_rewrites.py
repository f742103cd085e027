"""Rewrites keep every fact and invent none; the counts notice what a text loses or adds."""

from random import Random

import pytest

from mlx_suite.microworld.facts import FactCount, count_facts, quoted_share
from mlx_suite.microworld.passages import KIND_SHARES, Fact, WorldPassage, sample_passage
from mlx_suite.microworld.population import make_population
from mlx_suite.microworld.rewrites import REWRITES

POPULATION = make_population(80, towns=12)
TOWN = WorldPassage(
    kind="town",
    text="Oakham is a town in Ostia. Oakham is known for its silk.",
    facts=(
        Fact(subject="Oakham", relation="country", value="Ostia"),
        Fact(subject="Oakham", relation="known_for", value="silk"),
    ),
)


@pytest.mark.parametrize("form", REWRITES)
def test_a_rewrite_keeps_all_facts_of_passages_of_every_kind(form: str) -> None:
    rng, seen = Random(form), set()
    for _ in range(60):
        passage = sample_passage(POPULATION, rng)
        seen.add(passage.kind)
        text = REWRITES[form](passage, rng)
        assert count_facts(passage, text) == FactCount(kept=len(passage.facts))
        assert text != passage.text
    assert seen == set(KIND_SHARES)


def test_a_passage_states_exactly_its_facts() -> None:
    rng = Random(0)
    for _ in range(100):
        passage = sample_passage(POPULATION, rng)
        assert count_facts(passage, passage.text) == FactCount(kept=len(passage.facts))


def test_lost_and_invented_values_are_counted() -> None:
    assert count_facts(TOWN, "Oakham lies in Ostia and sells wool.") == FactCount(kept=1, lost=1, invented=1)
    assert count_facts(TOWN, "Ada Pike sells silk in Oakham.") == FactCount(kept=1, lost=1, invented=1)
    assert count_facts(TOWN, "") == FactCount(lost=2)


def test_a_table_has_a_row_for_each_fact() -> None:
    assert REWRITES["table"](TOWN, Random(0)) == (
        "| name | Oakham |\n|--|--|\n| country | Ostia |\n| famous product | silk |"
    )


def test_the_quoted_share_counts_words_that_the_text_has_in_a_row() -> None:
    text = "Ada Pike was born in Oakham."
    assert quoted_share("born in Oakham", text) == 1.0
    assert quoted_share("Oakham, 1962", text) == 0.5
    assert quoted_share("the 1960s", text) == 0.0
    assert quoted_share("", text) == 0.0
