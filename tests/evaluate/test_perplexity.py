"""Perplexity: each token is scored once, in windows that start with BOS, and equals a direct computation."""

import math
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.engine.token_scores import Window, cut_windows, score_windows
from mlx_suite.evaluate.passages import ANSWERS, TEXT, Passage, read_passages, text_passage
from mlx_suite.evaluate.perplexity import PassageLoss, Perplexity, measure
from tests.evaluate.conftest import Loaded
from tests.modeling.tiny import tiny_model


def windows(count: int, **settings: Any) -> list[Window]:
    return list(cut_windows(range(count), **{"prefix": (99,), "first": 0, **settings}))


# ---- windows


def test_a_short_text_is_one_window_after_bos() -> None:
    assert windows(4, context=8, stride=4) == [Window(fed=(99, 0, 1, 2), targets=(0, 1, 2, 3))]


def test_later_windows_start_with_bos_and_overlap_the_previous_one() -> None:
    assert windows(10, context=4, stride=2) == [
        Window(fed=(99, 0, 1, 2), targets=(0, 1, 2, 3)),
        Window(fed=(99, 2, 3, 4), targets=(4, 5)),
        Window(fed=(99, 4, 5, 6), targets=(6, 7)),
        Window(fed=(99, 6, 7, 8), targets=(8, 9)),
    ]


def test_the_last_window_has_a_full_context() -> None:
    assert windows(9, context=4, stride=3)[1:] == [
        Window(fed=(99, 3, 4, 5), targets=(4, 5, 6)),
        Window(fed=(99, 5, 6, 7), targets=(7, 8)),
    ]


def test_without_bos_the_first_token_is_not_scored() -> None:
    assert windows(5, prefix=(), first=1, context=3, stride=2) == [
        Window(fed=(0, 1, 2), targets=(1, 2, 3)),
        Window(fed=(1, 2, 3), targets=(4,)),
    ]


def test_scoring_can_start_far_into_a_text() -> None:
    assert windows(20, first=18, context=4, stride=3) == [Window(fed=(99, 16, 17, 18), targets=(18, 19))]


@given(st.data())
def test_every_token_is_scored_once_within_the_context(data: st.DataObject) -> None:
    bos = data.draw(st.booleans())
    count, context = data.draw(st.integers(2, 40)), data.draw(st.integers(2, 12))
    first = data.draw(st.integers(0 if bos else 1, count - 1))
    stride = data.draw(st.integers(1, context if bos else context))
    cut = windows(count, prefix=(99,) if bos else (), first=first, context=context, stride=stride)
    assert [target for window in cut for target in window.targets] == list(range(first, count))
    for window in cut:
        assert len(window.targets) <= len(window.fed) <= context
        assert (window.fed[0] == 99) is bos
        body = window.fed[1:] if bos else window.fed
        assert list(body) == list(range(window.targets[-1] - len(body), window.targets[-1]))


# ---- log-probabilities


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral"])
def test_batches_give_the_scores_of_single_texts(family: str) -> None:
    model = tiny_model(family)
    random = np.random.default_rng(0)
    cut = [
        Window(fed=tuple(random.integers(0, 50, n).tolist()), targets=tuple(random.integers(0, 50, m).tolist()))
        for n, m in [(5, 5), (17, 3), (1, 1), (9, 9), (17, 17), (8, 1)]
    ]
    found = score_windows(model, cut, batch=40, logits=50 * 4)
    for window, scores in zip(cut, found, strict=True):
        logits = np.array(model(mx.array([window.fed]))[0].astype(mx.float32), np.float64)[-len(window.targets) :]
        expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        plain = expected[np.arange(len(window.targets)), list(window.targets)]
        assert scores.log_probs == pytest.approx(plain, abs=1e-5)
        assert scores.greedy.tolist() == (expected.argmax(-1) == list(window.targets)).tolist()


def test_a_model_of_unknown_structure_is_scored_from_its_full_logits() -> None:
    class Plain:
        """Predicts the successor of each token, with a logit of 3 against 0 for the four others."""

        config = SimpleNamespace(vocab_size=5)

        def __call__(self, tokens: mx.array) -> mx.array:
            return 3.0 * (mx.arange(5) == ((tokens + 1) % 5)[..., None])

    [scores] = score_windows(Plain(), [Window(fed=(0, 1, 2), targets=(1, 2, 4))])
    total = math.log(math.exp(3) + 4)
    assert scores.log_probs == pytest.approx([3 - total, 3 - total, -total], abs=1e-5)
    assert scores.greedy.tolist() == [True, True, False]
    assert scores.total == pytest.approx(6 - 3 * total, abs=1e-5)


def test_the_head_is_applied_to_the_scored_positions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    seen: list[tuple[int, ...]] = []
    head = type(model).head

    def counted(self: Any, hidden: mx.array) -> mx.array:
        seen.append(hidden.shape)
        return head(self, hidden)

    monkeypatch.setattr(type(model), "head", counted)
    score_windows(model, [Window(fed=(1,) * 20, targets=(2,) * 3), Window(fed=(1,) * 9, targets=(2,) * 4)], logits=250)
    assert seen == [(5, 32), (2, 32)]


# ---- figures


def losses(*pairs: tuple[float, int]) -> tuple[PassageLoss, ...]:
    return tuple(PassageLoss(nats=nats, tokens=tokens, size=4 * tokens) for nats, tokens in pairs)


def test_the_mean_is_over_tokens_and_not_over_texts() -> None:
    found = Perplexity(passages=losses((10.0, 10), (90.0, 30)), windows=(), context=8, stride=4)
    assert (found.tokens, found.nats) == (40, 2.5)
    assert found.perplexity == pytest.approx(math.exp(2.5))
    assert found.bits_per_byte == pytest.approx(100 / math.log(2) / 160)
    # Residuals 10 − 25 and 90 − 75 in two clusters of 40 tokens in total.
    assert found.error == pytest.approx(math.sqrt((15**2 + 15**2) * 2) / 40)


def test_the_error_of_one_text_is_over_windows_and_one_window_has_none() -> None:
    one = losses((100.0, 40))
    assert Perplexity(passages=one, windows=one, context=8, stride=4).error is None
    parts = losses((10.0, 10), (90.0, 30))
    assert Perplexity(passages=one, windows=parts, context=8, stride=4).error is not None


def test_the_loss_of_a_text_equals_that_of_a_forward_pass(checkpoint: Loaded) -> None:
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    passages = [text_passage(tokenizer, text) for text in ("abc abc ?", "c", "b a " * 30)]
    found = measure(model, tokenizer, passages, context=64, stride=32)
    for passage, loss in zip(passages[:2], found.passages, strict=False):
        text = [tokenizer.bos_id, *passage.tokens]
        total = 0.0
        for place in range(1, len(text)):
            logits = np.array(model(mx.array([text[:place]]))[0, -1], np.float64)
            total -= logits[text[place]] - math.log(np.exp(logits).sum())
        assert loss.nats == pytest.approx(total, abs=1e-5 * len(text))
    assert [loss.tokens for loss in found.passages] == [9, 1, 120]
    assert [loss.size for loss in found.passages] == [9, 1, 120]
    assert len(found.windows) == 1 + 1 + 3


def test_only_the_responses_of_a_conversation_are_scored(checkpoint: Loaded, tmp_path: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a b", "output": "abc"}\n{"instruction": "b", "output": "c"}\n')
    read = read_passages(path, checkpoint.tokenizer, checkpoint.template)
    assert read.kind == ANSWERS
    scored = [
        checkpoint.tokenizer.decode([t for t, counts in zip(p.tokens, p.scored, strict=True) if counts], False)
        for p in read.passages
    ]
    assert scored == ["abc<|eot_id|>", "c<|eot_id|>"]
    found = measure(checkpoint.model, checkpoint.tokenizer, read.passages, context=256)
    assert (found.tokens, found.bits_per_byte) == (6, None)


def test_a_text_file_is_one_text_and_json_lines_are_many(checkpoint: Loaded, tmp_path: Any) -> None:
    (tmp_path / "one.txt").write_text("a b\n\nc")
    (tmp_path / "two.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    for name, count in (("one.txt", 1), ("two.jsonl", 2)):
        read = read_passages(tmp_path / name, checkpoint.tokenizer, None)
        assert (read.kind, len(read.passages)) == (TEXT, count)
    assert len(read_passages(tmp_path / "two.jsonl", checkpoint.tokenizer, None, limit=1).passages) == 1


def test_tokens_between_scored_responses_are_not_scored(checkpoint: Loaded) -> None:
    tokens = tuple(checkpoint.tokenizer.encode("abcabcabcabc"))
    scored = tuple(place in (3, 4, 9) for place in range(12))
    passage = Passage(tokens=tokens, scored=scored)
    whole = measure(checkpoint.model, checkpoint.tokenizer, [passage], context=64)
    assert whole.tokens == 3
    text = [checkpoint.tokenizer.bos_id, *tokens]
    logits = np.array(checkpoint.model(mx.array([text]))[0], np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert whole.nats * 3 == pytest.approx(-sum(log_probs[i, tokens[i]] for i in (3, 4, 9)), abs=1e-4)
    assert measure(checkpoint.model, checkpoint.tokenizer, [passage], context=4, stride=2).tokens == 3
