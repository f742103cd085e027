"""Scores from log-probabilities worked out by hand."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite import load
from mlx_suite.curation.tags.scores import (
    ScoredConversation,
    base_log_probs,
    measured_rewards,
    own_log_probs,
    scores_of,
)
from mlx_suite.engine import context_length
from mlx_suite.engine.chat_model import ChatModel, EncodedConversation
from mlx_suite.microworld import heldout_examples, make_world
from mlx_suite.modeling.reward_model import RewardModel
from mlx_suite.text import load_chat_template
from tests.modeling.tiny import tiny_config

BOS, ASK, ANSWER, STOP, A, B = range(6)


class Bigrams:
    """A bigram model: `table[t]` holds the probabilities after token t; unnamed tokens share the rest."""

    def __init__(self, table: Mapping[int, Mapping[int, float]], size: int = 8, context: int = 64) -> None:
        self.config = SimpleNamespace(vocab_size=size, max_position_embeddings=context)
        rows = np.full((size, size), 1.0 / size)
        for token, line in table.items():
            rows[token] = (1.0 - sum(line.values())) / (size - len(line))
            for following, probability in line.items():
                rows[token, following] = probability
        self.log_probs = mx.array(np.log(rows))

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        return self.log_probs[tokens]


def tokenizer(bos: int | None = BOS) -> Any:
    return SimpleNamespace(adds_bos=bos is not None, bos_id=bos, encode=lambda text: [ASK] if text else [])


CONVERSATION = ScoredConversation(
    messages=[{"role": "user", "content": "?"}, {"role": "assistant", "content": "ab"}],
    encoded=EncodedConversation(ids=(BOS, ASK, ANSWER, A, B, STOP), instruction_end=2, response=(3, 5)),
)


def test_log_probs_are_means_over_the_responses_tokens_without_its_stop_token() -> None:
    model = Bigrams({BOS: {A: 0.1}, ASK: {A: 0.2}, ANSWER: {A: 0.4}, A: {B: 0.5}})

    [measured] = own_log_probs(model, tokenizer(), [CONVERSATION], bare=True)

    assert measured == pytest.approx(
        {
            "conversation": math.log(0.4 * 0.5) / 2,
            "nothing": math.log(0.1 * 0.5) / 2,
            "bare": math.log(0.2 * 0.5) / 2,
        },
        abs=1e-5,
    )


def test_without_a_bos_the_first_token_is_not_scored() -> None:
    model = Bigrams({A: {B: 0.5}})

    [measured] = own_log_probs(model, tokenizer(None), [CONVERSATION], bare=True)

    assert measured == pytest.approx(dict.fromkeys(("conversation", "nothing", "bare"), math.log(0.5)), abs=1e-5)
    one_token = ScoredConversation(
        messages=CONVERSATION.messages,
        encoded=EncodedConversation(ids=(ASK, ANSWER, A, STOP), instruction_end=1, response=(2, 3)),
    )
    assert own_log_probs(model, tokenizer(None), [one_token], bare=False) == [{}]


def test_a_base_model_scores_the_same_tokens() -> None:
    assert base_log_probs(Bigrams({ANSWER: {A: 0.25}, A: {B: 1.0 / 16}}), tokenizer(), [CONVERSATION]) == [
        pytest.approx({"base": math.log(1 / 64) / 2}, abs=1e-5)
    ]
    assert base_log_probs(Bigrams({}, context=3), tokenizer(), [CONVERSATION]) == [{}]


def test_scores_are_computed_from_the_measurements_available() -> None:
    everything = ("ifd", "reward", "reward_difference")
    own = {"conversation": -0.5, "nothing": -2.5}

    assert scores_of(own, everything) == {"ifd": 0.1353}  # e^-2
    assert scores_of({**own, "bare": -0.75}, everything) == {"ifd": 0.1353, "reward_difference": 0.25}
    assert scores_of({**own, "base": -1.5}, ["reward_difference"]) == {"reward_difference": 1.0}
    assert scores_of({**own, "reward": 2.0}, everything) == {"ifd": 0.1353, "reward": 2.0}
    rewards = {**own, "bare": -0.75, "reward": 2.0, "base_reward": -1.25}
    assert scores_of(rewards, ["reward_difference"]) == {"reward_difference": 3.25}
    assert scores_of({"conversation": -100.0, "nothing": -1.0}, everything)["ifd"] == pytest.approx(5.184705528e21)


def test_a_matching_response_has_a_lower_ifd_than_a_mismatched_one() -> None:
    folder = Path(__file__).parents[3] / "models" / "tiny-llama3"
    model, words = load(folder)
    chat = ChatModel(tokenizer=words, template=load_chat_template(folder), max_context=context_length(model))

    def ifd(question: str, answer: str) -> float:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        encoded = chat.encode(messages)
        assert isinstance(encoded, EncodedConversation)
        [measured] = own_log_probs(model, words, [ScoredConversation(messages=messages, encoded=encoded)], bare=False)
        return scores_of(measured, ["ifd"])["ifd"]

    one, other = heldout_examples(0, 2, make_world())
    assert ifd(one.instruction, one.answer) < 0.1 < ifd(one.instruction, other.answer)
    assert ifd(other.instruction, other.answer) < 0.1 < ifd(other.instruction, one.answer)


def test_rewards_cover_the_conversation_and_the_other_response() -> None:
    folder = Path(__file__).parents[3] / "models" / "tiny-llama3"
    _, words = load(folder)
    judge = ChatModel(tokenizer=words, template=load_chat_template(folder), max_context=32)
    mx.random.seed(0)
    model = RewardModel(tiny_config("llama", vocab_size=words.vocab_size))
    question, good, other = "What is 2 + 2?", "4", "Perhaps 5"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": good}]
    encoded = judge.encode(messages)
    assert isinstance(encoded, EncodedConversation)

    def alone(answer: str) -> float:
        ids = judge.encode_whole([messages[0], {"role": "assistant", "content": answer}])
        return float(model(mx.array([ids]), mx.array([len(ids)])).item())

    both = ScoredConversation(messages=messages, encoded=encoded, base_output=other)
    far_too_long = [*messages, {"role": "user", "content": "why? " * 20}, messages[1]]
    found = measured_rewards(model, judge, [both, ScoredConversation(messages=far_too_long, encoded=encoded)])
    assert found == [pytest.approx({"reward": alone(good), "base_reward": alone(other)}, abs=1e-5), {}]
