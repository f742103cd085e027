"""Responses checked against the microworld."""

from random import Random
from typing import Any

from mlx_suite.evaluate.microworld import Truth, check_dataset, check_responses
from mlx_suite.microworld import make_world, sample_example
from mlx_suite.text import Message


def row(instruction: str, response: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": instruction}, {"role": "assistant", "content": response}]}


def test_recognised_and_right_rows_are_counted() -> None:
    random, world = Random(1), make_world()
    examples = [sample_example(random, world) for _ in range(60)]
    rows = [row(example.instruction, example.answer) for example in examples]
    rows += [row(example.instruction, "I am not sure about that at all.") for example in examples[:6]]
    rows += [row("Who painted the Mona Lisa?", "Leonardo da Vinci.")] * 4
    truth = check_dataset(rows)

    assert truth == Truth(answers=70, recognised=66, right=60)
    assert (truth.share, truth.share_of_recognised) == (60 / 70, 60 / 66)
    assert check_dataset([row("Who painted the Mona Lisa?", "Leonardo da Vinci.")]) is None
    assert check_dataset([]) is None


def test_the_first_exchange_of_a_conversation_is_checked() -> None:
    example = sample_example(Random(1), make_world())
    turns = row(example.instruction, example.answer)["messages"] + row("And then?", "Then it rained.")["messages"]

    assert check_dataset([{"messages": turns}]) == Truth(answers=1, recognised=1, right=1)


def test_a_response_is_checked_against_the_last_user_turn() -> None:
    example = sample_example(Random(1), make_world())
    turns = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", example.instruction)]

    assert check_responses([(turns, example.answer)]) == Truth(answers=1, recognised=1, right=1)
    assert check_responses([(turns[:1], example.answer)]) is None
