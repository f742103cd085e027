"""Quality of what was written from passages of the microworld, whose facts are known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_suite.microworld.passages import Fact, WorldPassage
from mlx_suite.microworld.population import is_heldout_name
from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.format import Pair
from mlx_suite.synthesize.quality import Quality
from mlx_suite.synthesize.run import synthesize
from mlx_suite.synthesize.worlds import heldout_passages
from mlx_suite.text import Tokenizer
from tests.synthesize.scripted_synthesizer import Says, ScriptedEngine, job_of

Install = Callable[[Says], ScriptedEngine]
PASSAGE = WorldPassage(
    kind="person",
    text="Ada Reed was born in Oakford in 1962. Ada is a baker.",
    facts=(
        Fact(subject="Ada Reed", relation="birthplace", value="Oakford"),
        Fact(subject="Ada Reed", relation="birth_year", value="1962"),
        Fact(subject="Ada Reed", relation="job", value="a baker"),
    ),
)


def test_pairs_are_judged_by_the_facts_of_their_passage() -> None:
    quality = Quality()
    for question, answer in (
        ("In which decade was Ada Reed born?", "the 1960s"),
        ("In which decade was Ada Reed born?", "the 1970s"),
        ("In which country was Ada Reed born?", "Ostia"),
        ("Is it raining?", "no"),
    ):
        quality.add_pair(Pair(question=question, answer=answer), PASSAGE.text, PASSAGE)
    assert quality.truth is not None
    assert (quality.truth.judged, quality.truth.grounded, quality.truth.right) == (4, 2, 1)


def test_facts_of_rewrites_are_kept_lost_and_invented() -> None:
    quality = Quality()
    quality.add_rewrite("table", "| birthplace | Oakford |\n| job | pilot |", PASSAGE)
    assert quality.as_dict()["facts"] == {"table": {"kept": 1, "lost": 2, "invented": 1}}


def test_kinds_and_quoted_words_are_counted_without_truth() -> None:
    quality = Quality()
    quality.add_pair(Pair(question="Where?", answer="in Oakford"), PASSAGE.text, None)
    quality.add_pair(Pair(question="Where?", answer="in Rome", options=("in Rome", "in Bonn")), PASSAGE.text, None)
    facts = quality.as_dict()
    assert (facts["kinds"]["free"], facts["kinds"]["choice"], facts["quoted_share"]) == (1, 1, 0.75)
    assert facts["truth"] is None


def test_a_run_over_the_microworld_reports_the_truth(tokenizer: Tokenizer, script: Install, tmp_path: Path) -> None:
    pair = "<QUE> In which decade was Ada Reed born? <ANS> the 1960s </END>\n\n"
    script(lambda prompt, seed: f"{pair}{pair}<QUE> cut")
    job = replace(job_of(tokenizer, [PASSAGE.text], max_tokens=160), truth={PASSAGE.text: PASSAGE})
    quality = synthesize(job, tmp_path).as_dict()["quality"]
    assert quality["truth"] == {"judged": 1, "grounded": 1, "right": 1}
    assert (quality["pieces"], quality["parsed"], quality["pairs"]) == (3, 2, 1)


def test_passages_of_the_microworld_are_about_names_that_no_training_data_has() -> None:
    passages = heldout_passages("microworld:20:3")
    assert len(passages) == 20
    assert all(is_heldout_name(name) for passage in passages for name in passage.subjects)
    assert passages == heldout_passages("microworld:20:3") != heldout_passages("microworld:20:4")


@pytest.mark.parametrize("source", ["microworld:", "microworld:0", "microworld:many", "microworld:3:x"])
def test_a_number_of_passages_that_makes_no_sense_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="does not say how many passages"):
        heldout_passages(source)
