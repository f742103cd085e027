"""Both trainers see the same rows and are counted by the same rules. Speed is not tested."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.adapters.attach import load_adapter, save_adapter
from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.data.batch.rows import Document
from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.bench.finetuning import TrainerComparison, TrainerFigures, compare, exact_loss
from mlx_suite_apps.bench.trainers import Job, Pass, as_chat, mlx_lm, ours, weighted_loss
from mlx_suite_apps.bench.training_rows import TrainingRows, make_documents, others_rows
from tests.modeling.tiny import tiny_model

VOCABULARY = 50


pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_model(folder, tiny_model("llama"))
    return folder


class NoWait:
    """TurnOrder whose turns start immediately."""

    def __init__(self) -> None:
        self.passes: list[Pass] = []

    def wait(self) -> None:
        pass

    def report(self, result: Any) -> None:
        self.passes.append(result)


def documents(*lengths: int) -> list[Document]:
    """Documents whose second half is trained."""
    return [
        Document([(7 * n + i) % VOCABULARY for i in range(n)], [0.0] * (n // 2) + [1.0] * (n - n // 2)) for n in lengths
    ]


def passes_of(trainer: Any, model: Path, train: Sequence[Document], out: Path, **settings: Any) -> list[Pass]:
    """Run two passes of a trainer over `train`; returns its reports."""
    rows = TrainingRows(rows=len(train), rank=4, repeats=1, **settings)
    start = out / "start"
    base = load_model(model)
    config = AdapterConfig(rank=rows.rank, alpha=rows.scale * rows.rank)
    add_adapters(base, config)
    save_adapter(start, base, config, base=str(model))
    turns = NoWait()
    trainer(Job(model=str(model), start=str(start), out=str(out / trainer.__name__), documents=train, rows=rows), turns)
    return turns.passes


# ---- the rows


def test_rows_depend_only_on_the_seed() -> None:
    rows = TrainingRows(rows=12, held_out=3)
    train, held_out = make_documents(rows, 1000)
    assert (len(train), len(held_out)) == (12, 3)
    assert make_documents(rows, 1000) == (train, held_out)
    assert make_documents(TrainingRows(rows=12, held_out=3, seed=1), 1000) != (train, held_out)


def test_lengths_are_log_normal_within_their_bounds() -> None:
    train, _ = make_documents(TrainingRows(rows=2000, longest=400), 1000)
    answers = sorted(document.trained for document in train)
    assert answers[1000] == pytest.approx(36, rel=0.1)
    # One standard deviation up: 36 · e.
    assert answers[1682] == pytest.approx(36 * math.e, rel=0.15)
    assert max(map(len, train)) == 400
    assert answers[0] >= 1


def test_every_token_follows_the_previous_one_by_the_rule_of_the_ring() -> None:
    train, _ = make_documents(TrainingRows(rows=20), VOCABULARY)
    steps = {
        (b - a) % VOCABULARY for document in train for a, b in zip(document.tokens, document.tokens[1:], strict=False)
    }
    assert steps == {1, 2, 3}


def test_a_document_is_a_chat_of_the_same_tokens() -> None:
    [document] = documents(5)
    assert as_chat(document)["messages"] == [
        {"role": "user", "content": [35, 36]},
        {"role": "assistant", "content": [37, 38, 39]},
    ]


# ---- counts


def test_both_trainers_train_the_same_tokens_and_mlx_lm_also_counts_a_padding_token_per_row(
    model: Path, tmp_path: Path
) -> None:
    train = documents(10, 20, 30, 41, 9, 8, 7, 6)
    for each in passes_of(ours, model, train, tmp_path):
        assert (each.trained, each.counted) == (67, 67)
    for each in passes_of(mlx_lm, model, train, tmp_path):
        assert (each.trained, each.counted) == (67, 67 + 8)


def test_the_padding_of_mlx_lms_batches_matches_a_count_by_hand(model: Path, tmp_path: Path) -> None:
    # Rows are padded to the longest, 41, rounded up to a multiple of 32, plus one position that is not fed.
    [_, timed] = passes_of(mlx_lm, model, documents(10, 20, 30, 41, 9, 8, 7, 6), tmp_path)
    assert (timed.fed, timed.held) == (4 * 64 + 4 * 32, 101 + 30)
    assert timed.steps == 2


def test_our_rows_hold_the_same_documents(model: Path, tmp_path: Path) -> None:
    # All fit into one row of 256, the first length that `finetune` takes.
    [_, timed] = passes_of(ours, model, documents(10, 20, 30, 41, 9, 8, 7, 6), tmp_path)
    assert (timed.fed, timed.held, timed.steps) == (256, 131, 1)


def test_bucketed_we_feed_single_documents_in_as_many_steps_as_mlx_lm(model: Path, tmp_path: Path) -> None:
    # Widths are multiples of 16: 48 for the four longest, whose 101 tokens have 97 targets, and 16 for the others.
    [_, timed] = passes_of(ours, model, documents(10, 20, 30, 41, 9, 8, 7, 6), tmp_path, batching="bucket")
    assert (timed.fed, timed.held, timed.steps) == (4 * 48 + 4 * 16, 97 + 26, 2)
    assert (timed.trained, timed.counted) == (67, 67)


def test_packed_alike_mlx_lm_trains_the_same_tokens_in_joined_rows(model: Path, tmp_path: Path) -> None:
    train = documents(10, 20, 30, 41, 9, 8, 7, 6)
    [one, _] = passes_of(ours, model, train, tmp_path, batching="pack-all")
    [other, _] = passes_of(mlx_lm, model, train, tmp_path, batching="pack-all")
    assert (one.fed, one.held, one.trained, one.counted, one.steps) == (256, 131, 67, 67, 1)
    assert (other.fed, other.held, other.trained, other.counted, other.steps) == (130, 130, 67, 67, 1)


def test_joined_rows_fill_every_step_and_keep_all_tokens() -> None:
    train = documents(*[100] * 7)
    joined, size = others_rows(train, TrainingRows(rows=7, batch=5, batching="pack-all"))  # a step has 500 tokens
    assert (size, [len(each) for each in joined]) == (2, [200, 200, 200, 100])
    assert sum(each.trained for each in joined) == 7 * 50
    assert others_rows(train, TrainingRows(rows=7)) == (train, 4)
    with pytest.raises(UserError, match="too few documents"):
        others_rows(documents(*[250] * 3), TrainingRows(rows=3, batch=2, batching="pack-all"))


def test_a_weight_for_each_token_and_a_span_give_the_same_loss() -> None:
    from mlx_lm.tuner.trainer import default_loss

    model, tokens = tiny_model("llama"), mx.array([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    spans, weights = mx.array([[2, 4], [3, 4]]), mx.array([[0.0, 0, 1, 1, 1], [0, 0, 0, 1, 1]])
    found, expected = weighted_loss(model, tokens, weights), default_loss(model, tokens, spans)
    assert [each.item() for each in found] == pytest.approx([each.item() for each in expected], abs=1e-6)


def test_the_first_steps_losses_agree_where_nothing_is_padded(model: Path, tmp_path: Path) -> None:
    # Rows of exactly the longest length have no padding that mlx-lm could count.
    train = documents(32, 32, 32, 32)
    [one, after_one] = passes_of(ours, model, train, tmp_path, longest=32)
    [other, after_other] = passes_of(mlx_lm, model, train, tmp_path, longest=32)
    assert one.loss == pytest.approx(other.loss, abs=1e-4)
    # The step is the same too.
    assert after_one.loss == pytest.approx(after_other.loss, abs=1e-3)
    assert after_one.loss < one.loss
    assert other.counted == other.trained == one.trained == 64


def test_an_adapter_that_mlx_lm_trained_loads_in_ours(model: Path, tmp_path: Path) -> None:
    passes_of(mlx_lm, model, documents(10, 20, 30, 41), tmp_path)
    start, trained = load_adapter(tmp_path / "start"), load_adapter(tmp_path / "mlx_lm")
    assert trained.arrays.keys() == start.arrays.keys()
    assert trained.config.scale == start.config.scale == 20.0
    name = "model.layers.0.self_attn.q_proj.lora_b"
    assert not mx.array_equal(trained.arrays[name], start.arrays[name])


def test_the_held_out_loss_is_the_mean_over_all_trained_tokens() -> None:
    model = tiny_model("llama")
    losses = []
    for document in documents(6, 15):
        logits = model(mx.array([document.tokens[:-1]]))[0]
        log_probs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        half = len(document) // 2
        losses += [-log_probs[i - 1, document.tokens[i]].item() for i in range(half, len(document))]
    assert len(losses) == 3 + 8
    assert exact_loss(model, documents(6, 15)) == pytest.approx(sum(losses) / 11, abs=1e-5)


# ---- the comparison


def test_a_comparison_has_figures_for_both_sides(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    rows = TrainingRows(rows=4, held_out=2, batch=2, prompt=8, answer=8, spread=0.3, repeats=1)
    comparison = compare(model, rows)
    one, other = comparison.sides
    assert (one.trainer, other.trainer) == ("mlx-suite", "mlx-lm")
    assert (one.counted, other.counted) == (comparison.trained, comparison.trained + 4)
    for side in comparison.sides:
        assert side.tokens_per_second > 0
        assert 0 < side.padding < 1
        assert side.peak_bytes and side.resident_bytes > side.peak_bytes
        assert side.loss != comparison.loss_before


def test_ratios_are_ours_over_theirs() -> None:
    def side(trainer: str, speed: float, peak: int | None) -> TrainerFigures:
        return TrainerFigures(
            trainer=trainer,
            tokens_per_second=speed,
            padding=0.1,
            steps=2,
            peak_bytes=peak,
            resident_bytes=9,
            counted=5,
            loss=1.0,
        )

    sides = (side("mlx-suite", 30.0, 2), side("mlx-lm", 10.0, 8), side("TRL", 90.0, None))
    comparison = TrainerComparison(rows=TrainingRows(), trained=5, loss_before=2.0, sides=sides)
    assert (comparison.speed_ratio, comparison.memory_ratio) == (3.0, 0.25)
