"""Accuracy on the microworld: greedy responses in order, counted by category and by task."""

from typing import Any

import pytest

from mlx_suite.engine import Engine, chat_model
from mlx_suite.evaluate import Accuracy, answer_all, measure_accuracy, microworld
from mlx_suite.microworld import WorldExample, heldout_examples, make_world
from tests.engine.scripted import ScriptedModel
from tests.engine.small_models import small_llama
from tests.evaluate.conftest import Loaded

INSTRUCTIONS = ["a?", "What is 12 plus 30?", "bb", "c c c", "Who is Ben?", "", "a?"]


def ask(checkpoint: Loaded, instructions: list[str], model: Any = None, **settings: int) -> list[str]:
    return answer_all(
        checkpoint.model if model is None else model,
        checkpoint.tokenizer,
        checkpoint.template,
        instructions,
        **settings,
    )


def scripted(checkpoint: Loaded, text: str, last: int) -> ScriptedModel:
    """A model that always generates `text`, which must not repeat a letter, and then the token `last`."""
    ids = [*checkpoint.tokenizer.encode(text), last]
    [newline] = checkpoint.tokenizer.encode("\n")
    return ScriptedModel(dict(zip([newline, *ids], ids, strict=False)), vocab_size=272)


def id_of(checkpoint: Loaded, name: str) -> int:
    found = checkpoint.tokenizer.id_of(name)
    assert found is not None
    return found


# ---- responses


def test_a_response_ends_before_the_stop_token(checkpoint: Loaded) -> None:
    for name in ("<|eot_id|>", "<|end_of_text|>"):
        model = scripted(checkpoint, "Yes, 42.", id_of(checkpoint, name))
        assert ask(checkpoint, ["a", "b", "c"], model, slots=2) == ["Yes, 42."] * 3


def test_an_endless_response_is_truncated_at_the_limit(checkpoint: Loaded) -> None:
    [a] = checkpoint.tokenizer.encode("a")
    model = scripted(checkpoint, "a", a)
    assert ask(checkpoint, ["Hi"], model) == ["a" * 96]


def test_responses_are_in_order_for_any_number_of_slots(checkpoint: Loaded) -> None:
    model = small_llama(vocab_size=272)
    alone = [ask(checkpoint, [instruction], model, slots=1)[0] for instruction in INSTRUCTIONS]
    # Responses of different lengths finish out of order.
    assert len({len(answer) for answer in alone}) == 5
    assert alone[0] == alone[-1]
    for slots in (3, 16):
        assert ask(checkpoint, INSTRUCTIONS, model, slots=slots) == alone


def test_no_instructions_give_no_responses(checkpoint: Loaded) -> None:
    assert ask(checkpoint, []) == []


def test_the_engine_gets_the_requested_slots_and_context(checkpoint: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def engine(model: Any, *, slots: int, context: int) -> Engine:
        seen.append((slots, context))
        return Engine(model, slots=slots, context=context)

    monkeypatch.setattr(chat_model, "Engine", engine)
    [short] = ask(checkpoint, ["a?"], scripted(checkpoint, "abcdefgh", 0), slots=2, context=30)
    assert seen == [(2, 30)]
    # BOS, the user header of 8 tokens, "a?" and its stop token, and the assistant header of 13 leave 5 of 30 tokens.
    assert short == "abcde"


# ---- counts


def examples() -> list[WorldExample]:
    """Six held-out examples from three categories and four tasks."""
    picked = [(task, count) for task, count in (("add", 2), ("price_of_many", 1), ("who_is_older", 2), ("kind_of", 1))]
    pool = heldout_examples(0, 200)
    return [each for task, count in picked for each in [e for e in pool if e.task == task][:count]]


def test_right_responses_are_counted_by_category_and_by_task(
    checkpoint: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = examples()
    assert [example.task for example in asked] == [
        "add",
        "add",
        "price_of_many",
        "who_is_older",
        "who_is_older",
        "kind_of",
    ]
    given = [example.answer for example in asked]
    given[1], given[5] = "I do not know.", ""
    received: list[list[str]] = []

    def answer(model: Any, tokenizer: Any, template: Any, instructions: list[str]) -> list[str]:
        received.append(list(instructions))
        return given

    monkeypatch.setattr(microworld, "answer_all", answer)
    by_category, by_task = measure_accuracy(
        checkpoint.model, checkpoint.tokenizer, checkpoint.template, asked, make_world()
    )
    assert received == [[example.instruction for example in asked]]
    assert dict(by_task.asked) == {"add": 2, "price_of_many": 1, "who_is_older": 2, "kind_of": 1}
    assert dict(by_task.right) == {"add": 1, "price_of_many": 1, "who_is_older": 2, "kind_of": 0}
    categories = {example.category for example in asked}
    assert set(by_category.asked) == set(by_category.right) == categories
    assert sum(by_category.asked.values()) == 6
    assert by_category.share == by_task.share == pytest.approx(4 / 6)


def test_a_random_model_has_an_accuracy_of_0(checkpoint: Loaded) -> None:
    by_category, by_task = measure_accuracy(
        checkpoint.model, checkpoint.tokenizer, checkpoint.template, examples(), make_world()
    )
    assert (by_category.share, by_task.share) == (0.0, 0.0)
    assert sum(by_task.asked.values()) == 6


def test_the_accuracy_without_examples_is_0() -> None:
    assert Accuracy(right={}, asked={}).share == 0.0
