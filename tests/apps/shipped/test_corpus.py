"""The training corpus of the shipped checkpoints: reproducible, and without held-out instructions."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mlx_suite.data.batch.rows import Rows
from mlx_suite.microworld import WorldExample, identify, is_heldout, make_world
from mlx_suite_apps.shipped.corpus import (
    Text,
    documents,
    encode_text,
    make_rows,
    phase_documents,
    practice,
    tokenizer_texts,
)
from mlx_suite_apps.shipped.plans import PLANS, Phase, TrainingPlan
from mlx_suite_apps.shipped.steered import SteeredExample
from mlx_suite_apps.shipped.tagged import Asked
from tests.apps.shipped.conftest import Made, toy_plan

PHASES = [
    pytest.param(plan, number, id=f"{plan.name}, phase {number + 1}")
    for plan in PLANS.values()
    for number in range(len(plan.phases))
]
WORLD = make_world()
MANY = 3000


def drawn(plan: TrainingPlan, number: int, count: int = MANY) -> list[Text]:
    """The first `count` documents of a phase, as drawn by `make_rows`."""
    return list(islice(phase_documents(WORLD, plan.seed + 1 + number, plan.phases[number]), count))


def instructions(texts: list[Text]) -> list[str]:
    """The instructions of conversations, steered or not, and those of tagged examples that are not degraded."""
    turns = [turn for text in texts for turn in (text if isinstance(text, list) else getattr(text, "turns", ()))]
    tagged = [text.tagged.instruction for text in texts if isinstance(text, Asked)]
    return [*(turn.instruction for turn in turns), *(each for each in tagged if identify(each))]


def share(kind: type, texts: list[Text]) -> float:
    return sum(isinstance(text, kind) for text in texts) / len(texts)


# ---- sampling


@pytest.mark.parametrize(("plan", "number"), PHASES)
def test_no_held_out_instruction_is_drawn(plan: TrainingPlan, number: int) -> None:
    phase, read = plan.phases[number], instructions(drawn(plan, number))
    assert len(read) > 0.85 * MANY * (1 - phase.drill_share - phase.echo_share - phase.tag_share)
    assert not [each for each in read if is_heldout(each)]


@pytest.mark.parametrize(("plan", "number"), PHASES)
def test_a_phase_is_reproducible(plan: TrainingPlan, number: int) -> None:
    assert drawn(plan, number, 200) == drawn(plan, number, 200)


@pytest.mark.parametrize(("plan", "number"), PHASES)
def test_the_shares_of_a_phase_leave_room_for_ordinary_documents(plan: TrainingPlan, number: int) -> None:
    phase = plan.phases[number]
    shares = (phase.drill_share, phase.practice_share, phase.echo_share, phase.tag_share, phase.steer_share)
    assert all(share >= 0.0 for share in shares) and sum(shares) < 0.9
    assert (phase.practice_share > 0.0) == bool(phase.practised)


def test_a_phase_contains_its_shares_of_drills_echoes_and_practice() -> None:
    train = PLANS["tiny-llama3"].phases[0].train
    phase = Phase(
        documents=MANY,
        train=train,
        drill_share=0.2,
        practice_share=0.3,
        practised=("add", "table_total"),
        echo_share=0.1,
    )
    texts = list(phase_documents(WORLD, 0, phase))
    assert len(texts) == MANY
    assert share(tuple, texts) == pytest.approx(0.2 + 0.1, abs=0.03)
    # An echo repeats its words after a space, as do some drills of pairs.
    echoes = [text for text in texts if isinstance(text, tuple) and text[1] == f" {text[0]}"]
    assert len(echoes) / MANY == pytest.approx(0.1 + 0.2 * 0.57 / 2, abs=0.03)
    tasks = [turn.task for text in texts if isinstance(text, list) for turn in text]
    # Ordinary documents add some: 2 of 83 tasks.
    assert (tasks.count("add") + tasks.count("table_total")) / MANY == pytest.approx(0.31, abs=0.03)


def test_a_phase_contains_its_shares_of_tag_questions_and_steered_conversations() -> None:
    train = PLANS["tiny-llama3"].phases[0].train
    phase = Phase(documents=1000, train=train, tag_share=0.3, steer_share=0.2)
    texts = list(phase_documents(WORLD, 0, phase))
    assert share(Asked, texts) == pytest.approx(0.3, abs=0.05)
    assert share(SteeredExample, texts) == pytest.approx(0.2, abs=0.05)
    assert share(str, texts) + share(list, texts) == pytest.approx(0.5, abs=0.05)


def test_other_phases_and_seeds_draw_other_documents() -> None:
    phase = Phase(documents=50, train=PLANS["tiny-llama3"].phases[0].train)
    one, other = (list(phase_documents(WORLD, seed, phase)) for seed in (1, 2))
    assert len(one) == len(other) == 50
    assert one != other
    assert drawn(PLANS["tiny-llama3"], 0, 50) != drawn(PLANS["tiny-llama3"], 1, 50)


def test_a_tenth_of_ordinary_documents_is_plain_text() -> None:
    texts = list(documents(WORLD, 0, MANY))
    assert len(texts) == MANY
    assert share(str, texts) == pytest.approx(0.1, abs=0.02)
    turns = [len(text) for text in texts if isinstance(text, list)]
    assert set(turns) == {1, 2}


def test_practice_contains_only_the_named_tasks() -> None:
    texts = list(islice(practice(WORLD, 0, ["add", "table_total"]), 60))
    assert {turn.task for text in texts if isinstance(text, list) for turn in text} == {"add", "table_total"}
    assert not [each for each in instructions(texts) if is_heldout(each)]


def test_practising_an_unknown_task_is_refused() -> None:
    with pytest.raises(AssertionError, match="every task to practise"):
        next(practice(WORLD, 0, ["add", "fly"]))


def test_a_tokenizer_is_trained_on_documents_and_template_words() -> None:
    plan = toy_plan("tiny-llama3")
    texts = list(tokenizer_texts(plan))
    assert texts == list(tokenizer_texts(plan))
    conversations = [text for text in documents(WORLD, plan.seed, plan.tokenizer_documents) if isinstance(text, list)]
    turns = sum(map(len, conversations))
    plain = plan.tokenizer_documents - len(conversations)
    assert len(texts) == plain + 4 * turns
    assert texts.count("model\n\n") == texts.count("system\n\n") == turns
    assert sum(text.startswith("user\n\n") for text in texts) == turns
    assert sum(text.startswith("assistant\n\n") for text in texts) == turns


# ---- encoding

TURN = WorldExample(task="add", category="Math", difficulty="easy", instruction="Hi?", answer="No.")
END = {"tiny-llama3": 369, "tiny-gemma2": 1}


def encoded(made: Made, text: Text, user_weight: float = 0.25) -> tuple[list[int], list[str | None], list[float]]:
    """Token ids, tokens and loss weights."""
    document = encode_text(made.tokenizer, made.template, text, END[made.plan.name], user_weight)
    ids = list(document.tokens)
    return ids, [made.tokenizer.token_of(each) for each in ids], list(document.weights)


def test_a_llama_3_conversation_is_encoded_as_its_template_renders_it(made: Callable[[str], Made]) -> None:
    ids, tokens, weights = encoded(made("tiny-llama3"), [TURN])
    user, assistant, gap = ids[2], ids[10], ids[4]
    # The last 16 ids are Llama 3.1's special tokens; printable ASCII has id `ord(letter) - 33`.
    assert ids == [368, 374, user, 375, gap, 39, 72, 30, 377, 374, assistant, 375, gap, 45, 78, 13, 377]
    assert tokens == [
        *("<|begin_of_text|>", "<|start_header_id|>", "user", "<|end_header_id|>", "ĊĊ", "H", "i", "?", "<|eot_id|>"),
        *("<|start_header_id|>", "assistant", "<|end_header_id|>", "ĊĊ", "N", "o", ".", "<|eot_id|>"),
    ]
    assert weights == [1.0] * 5 + [0.25] * 3 + [1.0] * 9


def test_a_gemma_2_conversation_is_encoded_as_its_template_renders_it(made: Callable[[str], Made]) -> None:
    one = made("tiny-gemma2")
    ids, tokens, weights = encoded(one, [TURN])
    assert "".join(map(str, tokens)) == (
        "<bos><start_of_turn>user\nHi?<end_of_turn>\n<start_of_turn>model\nNo.<end_of_turn>\n"
    )
    specials = [each for each in ids if each < 111]
    assert specials == [2, 106, 108, 107, 108, 106, 108, 107, 108]
    counted = [token for token, weight in zip(tokens, weights, strict=True) if weight == 0.25]
    assert counted == ["H", "i", "?"]
    assert set(weights) == {0.25, 1.0}


def test_the_stop_token_of_each_user_turn_has_full_weight(made: Callable[[str], Made]) -> None:
    ids, _, weights = encoded(made("tiny-llama3"), [TURN, TURN], user_weight=0.0)
    assert len(ids) == 17 + 16  # one BOS
    assert weights == [1.0] * 5 + [0.0] * 3 + [1.0] * 9 + [1.0] * 4 + [0.0] * 3 + [1.0] * 9
    assert [weights[place] for place, token in enumerate(ids) if token == 377] == [1.0] * 4


@pytest.mark.parametrize(("name", "bos", "end"), [("tiny-llama3", 368, 369), ("tiny-gemma2", 2, 1)])
def test_plain_text_is_encoded_between_bos_and_end_of_text(
    name: str, bos: int, end: int, made: Callable[[str], Made]
) -> None:
    one = made(name)
    ids, _, weights = encoded(one, "It is.")
    assert (ids[0], ids[-1]) == (bos, end)
    assert one.tokenizer.decode(ids[1:-1]) == "It is."
    assert weights == [1.0] * len(ids)


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_only_the_second_half_of_a_drill_has_weight(name: str, made: Callable[[str], Made]) -> None:
    one = made(name)
    ids, _, weights = encoded(one, ("a: 1\nb: 2", "\nb: 2\na: 1"))
    counted = [token for token, weight in zip(ids, weights, strict=True) if weight == 1.0]
    silent = [token for token, weight in zip(ids, weights, strict=True) if weight == 0.0]
    assert one.tokenizer.decode(silent) == "a: 1\nb: 2"
    assert one.tokenizer.decode(counted[:-1]) == "\nb: 2\na: 1"
    assert counted[-1] == END[name]


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_rows_are_made_once_and_contain_the_phases_documents(
    name: str, made: Callable[[str], Made], tmp_path: Path
) -> None:
    one = made(name)
    path = tmp_path / "rows.npz"
    rows = make_rows(one.plan, 1, one.tokenizer, one.template, path)
    texts = list(phase_documents(WORLD, one.plan.seed + 2, one.plan.phases[1]))
    lengths = [len(encoded(one, text)[0]) for text in texts]
    fitting = [length for length in lengths if length <= one.plan.row_length + 1]
    assert rows.tokens.shape[1] == 129
    assert int((rows.document > 0).sum()) == sum(fitting)
    assert rows.dropped == len(lengths) - len(fitting)

    # The stored rows are reused even if changed settings would give others.
    other = replace(one.plan, seed=5)
    again = make_rows(other, 1, one.tokenizer, one.template, path)
    assert np.array_equal(again.tokens, rows.tokens)
    assert np.array_equal(Rows.load(path).target_weights, rows.target_weights)
