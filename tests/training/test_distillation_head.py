"""The chunked distillation loss has the loss and gradients of the one that holds all logits, for every kind of head."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.modeling.head import head_of
from mlx_suite.training import chunked_head
from mlx_suite.training.distillation_head import (
    Objective,
    Targets,
    Teacher,
    TeacherDraws,
    TeacherLogits,
    TeacherStates,
    TeacherTop,
    distillation_loss,
    distillation_loss_of_logits,
)
from mlx_suite.training.divergences import Softmax
from mlx_suite.training.loss import token_losses
from mlx_suite_apps.bench.head_memory import HeadShape, measure_head
from tests.modeling.tiny import tiny_model
from tests.training.test_cut_cross_entropy import HEADS, D, V, capped, rows, same, tied

TEMPERED = Objective(kind="jsd", beta=0.3, temperature=2.0, data_share=0.25)
OBJECTIVES = {
    "forward": Objective(),
    "reverse": Objective(kind="reverse"),
    "jsd": Objective(kind="jsd", beta=0.5),
    "forward at 2": Objective(temperature=2.0),
    "with the data": Objective(data_share=0.5),
    "jsd at 2 with the data": TEMPERED,
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunk sizes that divide neither the seven rows nor the vocabulary of 50."""
    monkeypatch.setattr(chunked_head, "LOGITS", 6 * V)
    monkeypatch.setattr(chunked_head, "MIN_ROWS", 1)
    monkeypatch.setattr(chunked_head, "VOCAB_CHUNK", 16)


def teacher_states(make: Callable[[], nn.Module] = capped, count: int = 7) -> TeacherStates:
    head = head_of(make())
    assert head is not None
    hidden = mx.array(2 * np.random.default_rng(5).normal(size=(count, D)).astype(np.float32))
    return TeacherStates(inputs=head.inputs(hidden), head=head)


def teacher_logits(make: Callable[[], nn.Module] = capped) -> mx.array:
    states = teacher_states(make)
    logits: mx.array = make().head(states.inputs[0])
    return logits


def targets() -> Targets:
    _, ids, weights = rows()
    return Targets(ids=ids, weights=weights, from_data=mx.array([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]))


def plain(objective: Objective, teacher: mx.array) -> Callable[[nn.Module, mx.array], mx.array]:
    """The loss as the definitions say it, differentiated by MLX."""

    def loss(model: nn.Module, hidden: mx.array) -> mx.array:
        logits, wanted, tau = model.head(hidden), targets(), objective.temperature
        log_q = nn.log_softmax(logits / tau, axis=-1)
        log_p = nn.log_softmax(teacher / tau, axis=-1)
        p, q = mx.exp(log_p), mx.exp(log_q)
        if objective.kind == "forward":
            each = (p * (log_p - log_q)).sum(axis=-1)
        elif objective.kind == "reverse":
            each = (q * (log_q - log_p)).sum(axis=-1)
        else:
            log_m = mx.log(objective.beta * p + (1 - objective.beta) * q)
            each = objective.beta * (p * (log_p - log_m)).sum(axis=-1)
            each = each + (1 - objective.beta) * (q * (log_q - log_m)).sum(axis=-1)
        data = token_losses(logits, wanted.ids) * wanted.from_data
        share = objective.data_share
        return (wanted.weights * ((1 - share) * tau**2 * each + share * data)).sum()

    return loss


def chunked(objective: Objective, teacher: Teacher, training: bool = True) -> Callable[[nn.Module, mx.array], mx.array]:
    def loss(model: nn.Module, hidden: mx.array) -> mx.array:
        head = head_of(model)
        assert head is not None
        return distillation_loss(hidden, targets(), head, teacher, objective, training=training)

    return loss


def gradients(loss: Callable[[nn.Module, mx.array], mx.array], model: nn.Module) -> tuple[float, dict[str, mx.array]]:
    """The loss and its gradients with respect to the trainable parameters and the hidden states."""

    def of_both(hidden: mx.array, parameters: dict[str, Any]) -> mx.array:
        model.update(parameters)
        return loss(model, hidden)

    parameters = model.trainable_parameters()
    value, (by_hidden, by_parameters) = mx.value_and_grad(of_both, argnums=(0, 1))(rows()[0], parameters)
    model.update(parameters)
    return float(value.item()), {"hidden": by_hidden} | dict(tree_flatten(by_parameters))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_matches_its_definition(name: str) -> None:
    objective = OBJECTIVES[name]
    expected = gradients(plain(objective, teacher_logits()), capped())
    same(gradients(chunked(objective, teacher_states()), capped()), expected, within=2e-5)
    alone = chunked(objective, teacher_states(), training=False)(capped(), rows()[0])
    assert float(alone.item()) == pytest.approx(expected[0], rel=2e-5)


@pytest.mark.parametrize("name", ["quantized", "LoRA, tied and softcapped", "trained rows, with a bias", "DoRA"])
def test_every_kind_of_student_head_matches(name: str) -> None:
    expected = gradients(plain(TEMPERED, teacher_logits()), HEADS[name]())
    same(gradients(chunked(TEMPERED, teacher_states()), HEADS[name]()), expected, within=2e-5)


@pytest.mark.parametrize("name", ["quantized and tied", "LoRA", "DoRA"])
def test_every_kind_of_teacher_head_matches(name: str) -> None:
    expected = gradients(plain(Objective(), teacher_logits(HEADS[name])), tied())
    same(gradients(chunked(Objective(), teacher_states(HEADS[name])), tied()), expected, within=2e-5)


def test_the_loss_can_be_compiled() -> None:
    model, teacher = capped(), teacher_states()
    step = mx.compile(lambda hidden: nn.value_and_grad(model, chunked(TEMPERED, teacher))(model, hidden))
    loss, by_parameters = step(rows()[0])
    expected = gradients(plain(TEMPERED, teacher_logits()), model)
    del expected[1]["hidden"]
    same((float(loss.item()), dict(tree_flatten(by_parameters))), expected, within=2e-5)


def test_a_teacher_given_as_logits_is_the_same_teacher() -> None:
    states = gradients(chunked(TEMPERED, teacher_states()), tied())
    same(gradients(chunked(TEMPERED, TeacherLogits(logits=teacher_logits())), tied()), states)


def test_a_student_given_as_logits_has_the_same_loss_and_gradient() -> None:
    def of_logits(model: nn.Module, hidden: mx.array) -> mx.array:
        return distillation_loss_of_logits(model.head(hidden), targets(), teacher_states(), TEMPERED)

    same(gradients(of_logits, capped()), gradients(chunked(TEMPERED, teacher_states()), capped()), within=2e-5)


def test_a_student_equal_to_its_teacher_has_no_loss_and_no_gradient() -> None:
    model = capped()
    teacher = TeacherLogits(logits=model.head(rows()[0]))
    for objective in (Objective(), Objective(kind="reverse"), Objective(kind="jsd", beta=0.3, temperature=3.0)):
        loss, by_name = gradients(chunked(objective, teacher), model)
        assert abs(loss) < 1e-4
        assert all(mx.abs(gradient).max().item() < 1e-4 for gradient in by_name.values())


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_jensen_shannon_divergence_at_0_and_1_is_the_forward_and_the_reverse_kl(beta: float) -> None:
    kind = "forward" if beta == 0.0 else "reverse"
    ends = [
        chunked(objective, teacher_states())(tied(), rows()[0]).item()
        for objective in (Objective(kind="jsd", beta=beta), Objective(kind=kind))
    ]
    assert ends[0] == ends[1]


def test_rows_of_weight_0_and_sampled_tokens_count_as_they_should() -> None:
    """Row 2 has no weight; row 3 was sampled by the student, so its token is not learned from as data."""
    only_data = Objective(data_share=1.0)
    _, by_name = gradients(chunked(only_data, teacher_states()), tied())
    counts: Any = (mx.abs(by_name["hidden"]).sum(axis=1) > 0).tolist()
    assert counts == [True, True, False, False, True, False, True]


def test_padding_rows_of_the_larger_embedding_are_left_out() -> None:
    wide = tiny_model("llama", tie_word_embeddings=True, vocab_size=V + 14)
    narrow = teacher_states(tied)
    logits = wide.head(rows()[0])
    expected = distillation_loss_of_logits(logits[:, :V], targets(), narrow, Objective())
    assert chunked(Objective(), narrow)(wide, rows()[0]).item() == pytest.approx(expected.item(), rel=1e-5)
    _, by_name = gradients(chunked(Objective(), narrow), wide)
    assert not by_name["model.embed_tokens.weight"][V:].any().item()


# ---- draws


def test_draws_of_every_token_by_its_probability_are_the_forward_kl() -> None:
    probs = mx.softmax(teacher_logits(), axis=-1)
    every = mx.broadcast_to(mx.arange(V), (7, V))
    entropy = -(probs * mx.log(probs)).sum(axis=-1)
    exact = gradients(chunked(Objective(), teacher_states()), capped())
    same(
        gradients(chunked(Objective(), TeacherDraws(ids=every, weights=probs, entropy=entropy)), capped()),
        exact,
        within=2e-5,
    )
    same(gradients(chunked(Objective(), TeacherTop(ids=every, probs=probs)), capped()), exact, within=1e-4)


def test_the_temperature_squares_into_the_loss_so_that_gradients_keep_their_size() -> None:
    """At a high temperature the gradient tends to (s − t) / V, for logits of mean 0, whatever the temperature."""
    logits = mx.array([[0.2, -0.1, -0.1]])
    teacher = TeacherLogits(logits=mx.array([[-0.1, -0.1, 0.2]]))
    wanted = Targets(ids=mx.array([0]), weights=mx.array([1.0]))
    for temperature in (20.0, 40.0):
        slope = mx.grad(
            lambda x, tau=temperature: distillation_loss_of_logits(x, wanted, teacher, Objective(temperature=tau))
        )(logits)
        assert slope.tolist()[0] == pytest.approx([0.1, 0.0, -0.1], abs=1e-3)
    assert Softmax([logits], 2.0).logits[0].tolist()[0] == pytest.approx([0.1, -0.05, -0.05])


# ---- memory


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("cap", [None, 30.0], ids=["plain", "softcapped"])
def test_the_chunked_loss_takes_at_most_a_quarter_of_the_memory(
    trained: bool, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chunks of an eighth of the rows, as for 1024 rows and Llama 3's vocabulary.
    monkeypatch.setattr(chunked_head, "LOGITS", 2 * 64 * 8000)
    monkeypatch.setattr(chunked_head, "VOCAB_CHUNK", 512)
    shape = HeadShape(vocabulary=8000, hidden=32, rows=512, cap=cap, trained=trained, teacher=True)
    measured = measure_head(shape, rounds=1)
    assert measured.ours.loss_error < 1e-5
    assert measured.ours.gradient_error < 1e-5
    assert measured.ratio < 0.25
