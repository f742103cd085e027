"""Measurements in a model card, and training from an existing checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.data.questions import Question, Questions
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_chat_template
from mlx_suite_apps.shipped.__main__ import beginning_of
from mlx_suite_apps.shipped.card import earlier_phases
from mlx_suite_apps.shipped.drawing import category_of, mean_obedience
from mlx_suite_apps.shipped.tags import agreement, choose_labels, heldout_tagged

MODELS = Path(__file__).parents[3] / "models"


def test_agreement_has_the_share_of_equal_labels_and_cohens_kappa() -> None:
    found = agreement(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    assert (found.count, found.share) == (4, 0.75)
    # By chance 2/4 · 1/4 + 2/4 · 3/4 = 1/2 of the labels would be equal.
    assert found.kappa == pytest.approx(0.5)
    assert agreement(["a", "a"], ["a", "b"]).kappa == 0.0
    assert agreement(["a", "b"], ["b", "a"]).kappa == -1.0
    assert agreement(["a", "a"], ["a", "a"]).kappa == 1.0


def test_held_out_examples_are_the_same_every_time() -> None:
    assert heldout_tagged("safety", 5) == heldout_tagged("safety", 5)
    assert {each.labels["safety"] for each in heldout_tagged("safety", 50)} == {"safe", "unsafe"}


def test_the_category_of_an_instruction_is_that_of_its_task() -> None:
    assert category_of("Add 3 and 4.") == "Math"
    assert category_of("Add 3 and.") is None


def test_obedience_is_averaged_over_the_categories() -> None:
    assert mean_obedience({"Math": (1.0, 0.25), "Editing": (0.5, 0.0)}) == (0.75, 0.125)


def test_the_most_probable_label_is_chosen() -> None:
    from mlx_suite import load

    folder = MODELS / "tiny-llama3"
    model, tokenizer = load(folder)
    question = Question(name="sum", about="instruction", text="Add 3 and 4.", labels=("Quack!", "The sum of 3 and 4"))
    questions = Questions(listening="The plural of cat is cats.", questions=(question,))
    examples = [("What is the plural of cat?", None), ("Add 1 and 1.", "The sum of 1 and 1 is 2.")]
    found = choose_labels(model, tokenizer, load_chat_template(folder), questions, question, examples)
    assert found == ["The sum of 3 and 4"] * 2


def test_the_phases_of_an_earlier_training_are_read_from_its_card(tmp_path: Path) -> None:
    rows = ["| 1 | 122,921 | 7.4 M | 3,600 | 0.002 | 0.424 |", "| 2 | 55,528 | 1.6 M | 800 | 0.002 | 0.454 |"]
    (tmp_path / "README.md").write_text(
        "\n".join(["# tiny", "| phase | rows | tokens read |", "|--|--|--|", *rows, "", "| Math | 99 of 100 |"])
    )
    assert earlier_phases(tmp_path) == {1: rows[0], 2: rows[1]}


def test_training_continues_from_a_checkpoint_only_with_a_phase_and_one_name() -> None:
    assert beginning_of(None, None, None) is None
    found = beginning_of(["tiny-llama3"], Path("somewhere"), 8)
    assert found is not None and (found.checkpoint, found.phase) == (Path("somewhere"), 8)
    refused: list[Callable[[], Any]] = [
        lambda: beginning_of(["tiny-llama3"], Path("somewhere"), None),
        lambda: beginning_of(["tiny-llama3"], None, 8),
        lambda: beginning_of(None, Path("somewhere"), 8),
        lambda: beginning_of(["tiny-llama3", "tiny-gemma2"], Path("somewhere"), 8),
    ]
    for call in refused:
        with pytest.raises(UserError, match="needs --from, --from-phase and exactly one name"):
            call()
