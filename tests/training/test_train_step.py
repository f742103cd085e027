"""An optimizer step does not depend on how its rows are batched, and its weights are updated in fp32."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.data.batch.batches import Batch, BucketedBatches, PackedBatches
from mlx_suite.data.batch.rows import Document, pack
from mlx_suite.modeling import attention
from mlx_suite.training import documents
from mlx_suite.training.loop import make_optimizer
from mlx_suite.training.neftune import add_noise, document_lengths
from mlx_suite.training.recompute import recompute
from mlx_suite.training.train_step import TrainStep
from tests.modeling.tiny import tiny_model
from tests.training.toy import toy_settings

FAMILIES = ["llama", "mistral", "gemma2", "gemma3_text", "qwen3"]


def conversations(lengths: Sequence[int] = (17, 14, 12, 9, 5, 21, 8, 30)) -> list[Document]:
    """Documents whose second half is the response, with loss. Sliding windows have 6 keys."""
    random = np.random.default_rng(1)
    return [Document(random.integers(0, 50, n).tolist(), [0.0] * (n // 2) + [1.0] * (n - n // 2)) for n in lengths]


def packed(size: int, length: int = 39) -> list[Batch]:
    batches = PackedBatches(pack(conversations(), length), size)
    return [batches.take(chosen) for chosen in batches.order(0, 0)]


def bucketed(size: int) -> list[Batch]:
    batches = BucketedBatches(conversations(), size, step=4)
    return [batches.take(chosen) for chosen in batches.order(0, 0)]


def first_step(model: nn.Module, batches: Sequence[Batch], clip: float = 0.0) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradient of one step; the gradient is 10 times AdamW's first moment after it."""
    train_step = TrainStep(model, make_optimizer(toy_settings()), clip)
    loss, _ = train_step.run(batches, sum(batch.total for batch in batches), seed=5)
    moments = {name: 10 * np.array(v) for name, v in tree_flatten(train_step.optimizer.state) if name.endswith(".m")}
    return float(loss.item()), moments


def same_step(one: tuple[float, Any], other: tuple[float, Any], within: float = 1e-5) -> None:
    assert one[0] == pytest.approx(other[0], abs=within)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        assert np.abs(gradient - other[1][name]).max() < within * max(1.0, np.abs(gradient).max()), name


# ---- equal steps


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_make_the_same_step_as_padded_rows(family: str) -> None:
    same_step(first_step(tiny_model(family), packed(4)), first_step(tiny_model(family), bucketed(8)))


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_make_the_same_step_as_single_documents(family: str) -> None:
    same_step(first_step(tiny_model(family), packed(4)), first_step(tiny_model(family), bucketed(1)))


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("make", [packed, bucketed])
def test_gradient_accumulation_over_single_rows_makes_the_step_of_one_batch(make: Any) -> None:
    # Rows have different numbers of target tokens: a mean of means would differ.
    assert len({batch.trained for batch in make(1)}) > 1
    same_step(first_step(tiny_model("llama"), make(1)), first_step(tiny_model("llama"), make(8)))


@pytest.mark.usefixtures("uncompiled")
def test_the_loss_is_the_mean_over_target_tokens() -> None:
    model = tiny_model("gemma2")
    losses = []
    for document in conversations():
        logits = model(mx.array([document.tokens[:-1]])).astype(mx.float32)[0]
        chances = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        picked = np.array(chances)[np.arange(len(document) - 1), document.tokens[1:]]
        losses += [-value for value, weight in zip(picked, document.weights[1:], strict=True) if weight]
    assert first_step(model, packed(4))[0] == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.slow
def test_a_compiled_step_equals_the_uncompiled_one() -> None:
    mx.disable_compile()
    plain = first_step(tiny_model("llama"), packed(4))
    mx.enable_compile()
    same_step(first_step(tiny_model("llama"), packed(4)), plain)


@pytest.mark.slow
def test_compiled_dropout_differs_between_seeds_and_between_batches() -> None:
    def losses(seed: int, batches: Sequence[Batch]) -> float:
        train_step = TrainStep(with_dropout(), make_optimizer(toy_settings()), clip=1.0)
        return float(train_step.run(batches, sum(batch.total for batch in batches), seed)[0].item())

    [first, *_] = packed(4)
    once = losses(1, [first])
    assert losses(1, [first]) == once
    assert losses(2, [first]) != pytest.approx(once, abs=1e-4)
    # The same batch twice has another mean loss: the second pass drops other values.
    assert losses(1, [first, first]) != pytest.approx(once, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_compiled_step_with_adapter_dropout_and_recompute_equals_the_uncompiled_one(family: str) -> None:
    steps = []
    for compiled in (False, True):
        (mx.enable_compile if compiled else mx.disable_compile)()
        model = tiny_model(family)
        add_adapters(model, AdapterConfig(rank=4, dropout=0.2))
        recompute(model.layers)
        steps.append(first_step(model, packed(4)))
    same_step(*steps)


# ---- gradient checkpointing


def with_dropout(family: str = "llama") -> nn.Module:
    """A model with dropout of 0.2 before the down projection of each MLP."""
    model = tiny_model(family)
    for layer in model.layers:
        layer.mlp.down_proj = nn.Sequential(nn.Dropout(0.2), layer.mlp.down_proj)
    return model


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("family", FAMILIES)
def test_recompute_does_not_change_the_gradient(family: str) -> None:
    model = tiny_model(family)
    recompute(model.layers)
    same_step(first_step(model, packed(4)), first_step(tiny_model(family), packed(4)))


@pytest.mark.usefixtures("uncompiled")
def test_recompute_drops_the_same_values_in_both_passes() -> None:
    # A finite difference matches the gradient only if both passes drop the same values.
    model = with_dropout()
    recompute(model.layers)
    loss, gradient = first_step(model, packed(4))
    name = "model.layers.0.mlp.up_proj.weight"
    step = 1e-2 * gradient[f"{name}.m"] / np.linalg.norm(gradient[f"{name}.m"])
    moved = with_dropout()
    recompute(moved.layers)
    moved.load_weights([(name, dict(tree_flatten(moved.parameters()))[name] + mx.array(step))], strict=False)
    slope = (first_step(moved, packed(4))[0] - loss) / 1e-2
    assert slope == pytest.approx(np.linalg.norm(gradient[f"{name}.m"]), rel=0.05)


def test_recompute_affects_no_other_model() -> None:
    model, other = tiny_model("llama"), tiny_model("llama")
    kind = type(other.layers[0])
    recompute(model.layers)
    recompute(model.layers)
    assert type(other.layers[0]) is kind and type(model.layers[0]) is not kind
    assert dict(tree_flatten(model.parameters())).keys() == dict(tree_flatten(other.parameters())).keys()


# ---- attention in blocks


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_attention_in_blocks_makes_the_same_step_as_over_all_pairs(
    family: str, recomputed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 2 has soft-caps, and every other layer a window of 6 keys."""

    def step(block: int) -> tuple[float, Any]:
        monkeypatch.setattr(attention, "BLOCK", block)
        model = tiny_model(family)
        if recomputed:
            recompute(model.layers)
        return first_step(model, packed(4))

    same_step(step(block=8), step(block=39))


def test_the_step_of_an_adapter_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled, as in a run."""

    def step(block: int) -> tuple[float, Any]:
        monkeypatch.setattr(attention, "BLOCK", block)
        model = tiny_model("gemma2", num_hidden_layers=2)
        add_adapters(model, AdapterConfig(rank=4, dropout=0.0))
        return first_step(model, packed(4))

    same_step(step(block=16), step(block=39))


def test_other_boundaries_of_documents_do_not_compile_the_step_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """39 positions: documents of up to 19 make one bound, longer ones another."""
    monkeypatch.setattr(documents, "BLOCK", 8)
    train_step = TrainStep(tiny_model("llama", num_hidden_layers=1), make_optimizer(toy_settings()), clip=0.0)
    traced = []
    summed = train_step.loss.summed

    def counting(model: nn.Module, *arrays: Any) -> mx.array:
        traced.append(arrays[1][1])
        return summed(model, *arrays)

    monkeypatch.setattr(train_step.loss, "summed", counting)
    for lengths in ([19, 18], [12, 15, 12], [11, 14], [30, 9], [25, 14]):
        batch = PackedBatches(pack(conversations(lengths), 39), 1).take(np.array([0]))
        batch = replace(batch, index=batch.index[:8], targets=batch.targets[:8], weights=batch.weights[:8])
        train_step.run([batch], batch.total, seed=0)
    assert traced == [19, 39]


# ---- noise on the embeddings


def test_noise_has_the_given_size_and_is_added_in_training_mode_only() -> None:
    model = tiny_model("llama")
    embedding, tokens = model.model.embed_tokens, mx.array([[1, 2, 3, 4, 5]])
    quiet = embedding(tokens)
    add_noise(embedding, alpha=5.0)
    model.eval()
    assert mx.array_equal(embedding(tokens), quiet)
    model.train()
    noise = np.abs(np.array(embedding(tokens) - quiet))
    most = 5.0 / (5 * 32) ** 0.5
    assert 0.8 * most < noise.max() <= most * 1.0001
    assert dict(tree_flatten(model.parameters())).keys() == dict(tree_flatten(tiny_model("llama").parameters())).keys()


def test_noise_in_a_packed_row_scales_with_the_length_of_each_document() -> None:
    model = tiny_model("llama")
    embedding, tokens = model.model.embed_tokens, mx.array([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
    quiet = embedding(tokens)
    add_noise(embedding, alpha=5.0)
    model.train()
    with document_lengths(embedding, mx.array([[1, 1, 2, 2, 2, 2, 2, 2, 2, 2]])):
        noise = np.abs(np.array(embedding(tokens) - quiet))[0]
    for part, length in ((noise[:2], 2), (noise[2:], 8)):
        most = 5.0 / (length * 32) ** 0.5
        assert 0.8 * most < part.max() <= most * 1.0001


@pytest.mark.usefixtures("uncompiled")
def test_noise_is_determined_by_the_seed() -> None:
    losses = []
    for seed in (1, 1, 2):
        model = tiny_model("llama")
        add_noise(model.model.embed_tokens, 5.0)
        train_step = TrainStep(model, make_optimizer(toy_settings()), clip=1.0)
        batches = packed(4)
        losses.append(float(train_step.run(batches, sum(b.total for b in batches), seed)[0].item()))
    assert losses[0] == losses[1] != losses[2]


# ---- precision and optimizers


@pytest.mark.usefixtures("uncompiled")
def test_small_updates_of_a_bf16_weight_accumulate_in_fp32() -> None:
    # One update of 1e-4 is lost when rounded to a bf16 weight near 1; the sum of 40 is not.
    model = tiny_model("llama")
    model.set_dtype(mx.bfloat16)
    before = dict(tree_flatten(model.parameters()))["model.norm.weight"]
    train_step = TrainStep(
        model, make_optimizer(toy_settings(learning_rate=1e-4, warmup=0, schedule="constant")), clip=1.0
    )
    batches = packed(4)
    for step in range(40):
        train_step.run(batches, sum(batch.total for batch in batches), step)
    moved = np.abs(np.array(train_step.master["parameters"]["model"]["norm"]["weight"] - before.astype(mx.float32)))
    assert moved.max() > 1e-3
    after = model.model.norm.weight
    assert after.dtype == mx.bfloat16
    assert not mx.array_equal(after, before)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "muon"])
def test_every_optimizer_reduces_the_loss(name: str) -> None:
    model = tiny_model("llama")
    settings = toy_settings(optimizer=name, learning_rate=3e-4 if name == "lion" else 3e-3, warmup=0)
    train_step = TrainStep(model, make_optimizer(settings), clip=1.0)
    batches = packed(4)
    total = sum(batch.total for batch in batches)
    losses = [float(train_step.run(batches, total, step)[0].item()) for step in range(12)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.usefixtures("uncompiled")
def test_only_trainable_parameters_change() -> None:
    model = tiny_model("llama")
    model.freeze()
    model.layers[1].mlp.up_proj.unfreeze()
    before = dict(tree_flatten(model.parameters()))
    train_step = TrainStep(model, make_optimizer(toy_settings()), clip=1.0)
    batches = packed(4)
    train_step.run(batches, sum(batch.total for batch in batches), seed=0)
    after = dict(tree_flatten(model.parameters()))
    assert [name for name in before if not mx.array_equal(before[name], after[name])] == [
        "model.layers.1.mlp.up_proj.weight"
    ]
