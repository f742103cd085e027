"""The moving average as an anchor: its divergence is in the loss, the gradient is the policy's, resuming is exact."""

from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.data.batch.batches import Batch
from mlx_suite.training.anchor import AnchoredLoss
from mlx_suite.training.loop import make_optimizer
from mlx_suite.training.loss import token_losses
from mlx_suite.training.recompute import recompute
from mlx_suite.training.train_step import CrossEntropy, TrainStep, batch_arrays, target_states
from tests.training.toy import bits, toy_batches, toy_model, toy_settings, train_in

LN2 = log(2)


pytestmark = pytest.mark.usefixtures("uncompiled")


class Table(nn.Module):
    """A model with the same logits at every position."""

    def __init__(self, probs: list[float]) -> None:
        super().__init__()
        self.logits = mx.log(mx.array(probs))
        self.config = SimpleNamespace(vocab_size=len(probs))

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        return mx.broadcast_to(self.logits, (*tokens.shape, self.logits.size))


def one_token() -> Batch:
    return Batch(
        tokens=np.zeros((1, 1), np.uint32),
        document=None,
        index=np.zeros(1, np.int32),
        targets=np.zeros(1, np.int32),
        weights=np.ones(1, np.float32),
    )


def anchored(model: nn.Module, average: Any, beta: float, batch: Batch) -> tuple[float, dict[str, mx.array]]:
    """Loss and gradients of a batch."""
    loss = AnchoredLoss(average=lambda: average, beta=beta)
    value, gradient = nn.value_and_grad(model, loss.summed)(model, *loss.arrays(batch))
    return float(value.item()), dict(tree_flatten(gradient))


def toy_batch() -> Batch:
    batches = toy_batches()
    return batches.take(batches.order(0, 0)[0])


def moved(model: nn.Module) -> Any:
    """Other trainable parameters, in fp32."""
    noise = np.random.default_rng(1)
    return tree_map(
        lambda x: x.astype(mx.float32) + mx.array(0.05 * noise.normal(size=x.shape), mx.float32),
        model.trainable_parameters(),
    )


def adapted(dropout: float = 0.0) -> nn.Module:
    model = toy_model()
    add_adapters(model, AdapterConfig(rank=4, dropout=dropout, modules=("q_proj", "embed_tokens")))
    model.update(tree_map(lambda x: x + 0.02, model.trainable_parameters()))
    return model.train()


# ---- the loss


def test_the_loss_is_the_cross_entropy_and_beta_times_the_divergence() -> None:
    """q = (1/2, 1/4, 1/4), a = (1/4, 1/4, 1/2): −log q(0) = ln 2, KL(q‖a) = ln 2 / 4."""
    loss, _ = anchored(Table([0.5, 0.25, 0.25]), {"logits": mx.log(mx.array([0.25, 0.25, 0.5]))}, 2.0, one_token())
    assert loss == pytest.approx(1.5 * LN2, rel=1e-6)


def test_the_gradient_is_that_of_both_terms_by_the_policy() -> None:
    average = {"logits": mx.log(mx.array([0.25, 0.25, 0.5]))}
    _, gradient = anchored(Table([0.5, 0.25, 0.25]), average, 2.0, one_token())
    expected = [-0.5 + 0.75 * LN2, 0.25 - 0.125 * LN2, 0.25 - 0.625 * LN2]
    assert gradient["logits"].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [toy_model, lambda: toy_model("gemma2"), adapted], ids=["llama", "gemma2", "LoRA"])
def test_loss_and_gradients_of_a_model_match_the_definition(make: Any) -> None:
    model, batch = make().train(), toy_batch()
    average = moved(model)

    def logits(model: nn.Module) -> mx.array:
        tokens, documents, index, *_ = batch_arrays(batch)
        states, _ = target_states(model, tokens, documents, index)
        found: mx.array = model.head(states)
        return found

    other = make().eval()
    other.update(average)
    log_a = nn.log_softmax(logits(other), axis=-1)

    def definition(model: nn.Module) -> mx.array:
        found = logits(model)
        log_q = nn.log_softmax(found, axis=-1)
        divergence = (mx.exp(log_q) * (log_q - log_a)).sum(axis=-1)
        each = token_losses(found, mx.array(batch.targets)) + 0.3 * divergence
        return (mx.array(batch.weights) * each).sum()

    expected, by_name = nn.value_and_grad(model, definition)(model)
    loss, gradients = anchored(model, average, 0.3, batch)
    assert loss == pytest.approx(float(expected.item()), rel=1e-5)
    for name, gradient in tree_flatten(by_name):
        scale = mx.abs(gradient).max().item()
        assert mx.abs(gradients[name] - gradient).max().item() < 1e-4 * scale, name


def test_the_divergence_is_0_while_the_average_equals_the_policy() -> None:
    model, batch = toy_model().train(), toy_batch()
    plain, by_name = nn.value_and_grad(model, CrossEntropy().summed)(model, *CrossEntropy().arrays(batch))
    loss, gradients = anchored(model, model.trainable_parameters(), 1.0, batch)
    assert loss == pytest.approx(float(plain.item()), rel=1e-6)
    for name, gradient in tree_flatten(by_name):
        assert mx.abs(gradients[name] - gradient).max().item() < 1e-5 * batch.total, name


def test_the_anchor_has_no_gradient() -> None:
    model, batch = adapted(), toy_batch()
    loss = AnchoredLoss(average=lambda: moved(model), beta=1.0)
    *arrays, average = loss.arrays(batch)
    by_average = mx.grad(lambda tree: loss.summed(model, *arrays, tree))(average)
    assert all(not gradient.any().item() for _, gradient in tree_flatten(by_average))


def test_dropout_applies_to_the_policy_only() -> None:
    model, batch = adapted(dropout=0.5), toy_batch()
    tokens, documents, index, *_ = batch_arrays(batch)
    model.eval()
    log_a = nn.log_softmax(model.head(target_states(model, tokens, documents, index)[0]), axis=-1)
    model.train()
    mx.random.seed(7)
    found = model.head(target_states(model, tokens, documents, index)[0])
    log_q = nn.log_softmax(found, axis=-1)
    divergence = (mx.exp(log_q) * (log_q - log_a)).sum(axis=-1)
    each = token_losses(found, mx.array(batch.targets)) + divergence
    expected = (mx.array(batch.weights) * each).sum().item()
    mx.random.seed(7)
    loss = AnchoredLoss(average=model.trainable_parameters, beta=1.0)
    assert loss.summed(model, *loss.arrays(batch)).item() == pytest.approx(expected, rel=1e-5)
    assert model.training


# ---- training


def test_an_anchor_of_weight_0_changes_no_bit(tmp_path: Path) -> None:
    plain, other = toy_model(), toy_model()
    train_in(tmp_path / "plain", plain, steps=3, average=0.1)
    train_in(tmp_path / "other", other, steps=3, average=0.1, anchor=0.0)
    assert bits(tmp_path / "plain") == bits(tmp_path / "other")


def test_validation_measures_the_cross_entropy_alone() -> None:
    train_step = TrainStep(toy_model(), make_optimizer(toy_settings()), clip=1.0)
    plain = train_step.mean_loss([toy_batch()])
    average = moved(train_step.model)
    train_step.loss = AnchoredLoss(average=lambda: average, beta=5.0)
    assert train_step.mean_loss([toy_batch()]) == plain


def test_a_compiled_step_follows_the_average() -> None:
    mx.enable_compile()
    train_step = TrainStep(Table([0.5, 0.25, 0.25]), make_optimizer(toy_settings(learning_rate=0.1, warmup=0)), clip=0)
    train_step.keep_average(0.25)
    train_step.loss = AnchoredLoss(average=lambda: train_step.master["average"], beta=2.0)
    for number in range(3):
        logits, mean = (train_step.master[name]["logits"] for name in ("parameters", "average"))
        log_q, log_a = (nn.log_softmax(each) for each in (logits, mean))
        expected = (-log_q[0] + 2.0 * (mx.exp(log_q) * (log_q - log_a)).sum()).item()
        loss, _ = train_step.run([one_token()], 1.0, seed=number)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert not mx.allclose(logits, mean).item()


def test_a_strong_anchor_holds_the_model_near_its_start(tmp_path: Path) -> None:
    start, free, held = toy_model(), toy_model(), toy_model()
    train_in(tmp_path / "free", free, steps=8, average=0.01, optimizer="lion", learning_rate=1e-3)
    train_in(tmp_path / "held", held, steps=8, average=0.01, optimizer="lion", learning_rate=1e-3, anchor=20.0)
    tokens = mx.arange(40)[None]
    log_a = nn.log_softmax(start(tokens), axis=-1)

    def distance(model: nn.Module) -> float:
        log_q = nn.log_softmax(model(tokens), axis=-1)
        return float((mx.exp(log_q) * (log_q - log_a)).sum().item())

    assert distance(held) < 0.5 * distance(free)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_resumed_run_ends_with_the_same_bits(dtype: mx.Dtype, tmp_path: Path) -> None:
    models = [adapted(dropout=0.2) for _ in range(3)]
    for model in models:
        model.set_dtype(dtype)
        recompute(model.layers)
    how: dict[str, Any] = {"horizon": 5, "average": 0.1, "anchor": 0.5}
    train_in(tmp_path / "whole", models[0], steps=5, **how)
    train_in(tmp_path / "parts", models[1], steps=2, **how)
    train_in(tmp_path / "parts", models[2], steps=5, **how)
    assert bits(tmp_path / "whole") == bits(tmp_path / "parts")
    assert averages(tmp_path / "whole") == averages(tmp_path / "parts")


def averages(run: Path) -> dict[str, bytes]:
    arrays = mx.load(str(run / "checkpoint" / "average.safetensors"))
    assert isinstance(arrays, dict)
    return {name: np.array(array).tobytes() for name, array in arrays.items()}
