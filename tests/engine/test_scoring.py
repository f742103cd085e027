"""Log-probabilities of labels against a full forward pass per label, without a cache."""

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample
from tests.engine.scripted import Choose
from tests.engine.small_models import (
    GREEDY,
    prompt_of,
    small_gemma,
    small_llama,
    small_mistral,
    written_by_mlx_lm,
)

LABELS = ((7,), (7, 8), (20, 21, 22, 23, 24), (7, 8, 9), (40,), (63, 62))
MODELS = {
    "llama": small_llama,
    "gemma with a window of 8": small_gemma,
    "gemma with a window of 2": lambda: small_gemma(window=2),
    "mistral with a window of 8": small_mistral,
}


def log_probs(model: Any, text: Sequence[int], labels: Sequence[Sequence[int]]) -> list[float]:
    """log p(label | text) of each label in nats, from logits in fp32 and sums in Python."""
    sums = []
    for label in labels:
        logits: Any = model(mx.array([[*text, *label]]))[0].astype(mx.float32).tolist()
        total = 0.0
        for i, token in enumerate(label, start=len(text)):
            row = logits[i - 1]
            top = max(row)
            total += row[token] - top - math.log(sum(math.exp(each - top) for each in row))
        sums.append(total)
    return sums


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 17, 40])
def test_log_probabilities_match_a_full_forward_pass(kind: str, length: int) -> None:
    model = MODELS[kind]()
    prompt = prompt_of(length, seed=length)

    def program() -> Program:
        yield Given(prompt)
        return (yield from Choose(LABELS).program())

    (done,) = Engine(model, slots=2).run([Request(program=program())])
    expected = log_probs(model, prompt, LABELS)
    assert done.result.log_probs == pytest.approx(expected, abs=1e-4)
    assert done.result.index == max(range(len(LABELS)), key=expected.__getitem__)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("count", [1, 3, 30])
def test_a_label_after_sampled_text_is_scored_after_all_of_it(kind: str, count: int) -> None:
    """Other rows keep a step in flight when the label is scored; the text continues afterwards."""
    model = MODELS[kind]()

    def program(prompt: tuple[int, ...]) -> Program:
        yield Given(prompt)
        text = yield Sample(limit=count, stop=frozenset(), sampling=GREEDY)
        first = yield from Choose(LABELS).program()
        yield Given((33, 34))
        second = yield from Choose(LABELS[:2]).program()
        rest = yield Sample(limit=12, stop=frozenset(), sampling=GREEDY)
        third = yield from Choose(LABELS).program()
        return text.tokens, first, second, rest.tokens, third

    prompts = [prompt_of(6 + i, seed=i) for i in range(4)]
    requests = [Request(program=program(prompt), seed=i) for i, prompt in enumerate(prompts)]
    for done in Engine(model, slots=3).run(requests):
        text, first, second, rest, third = done.result
        sequence = (*prompts[done.request.seed], *text)
        assert first.log_probs == pytest.approx(log_probs(model, sequence, LABELS), abs=1e-4)
        sequence = (*sequence, *LABELS[first.index], 33, 34)
        assert second.log_probs == pytest.approx(log_probs(model, sequence, LABELS[:2]), abs=1e-4)
        sequence = (*sequence, *LABELS[second.index])
        assert rest == written_by_mlx_lm(model, sequence, 12)
        assert third.log_probs == pytest.approx(log_probs(model, (*sequence, *rest), LABELS), abs=1e-4)
