"""Open settings are decided by the rule, and each says where it comes from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.modeling.config import ModelConfig
from mlx_suite.pretrain.model import ModelSource
from mlx_suite.pretrain.plan import Decisions, decide, plan_steps, step_memory
from mlx_suite.pretrain.settings import CorpusPart, PretrainSettings, TokenizerSource
from mlx_suite.pretrain.size import shape_of_size
from mlx_suite.runtime.device import Device, device
from mlx_suite.runtime.errors import UserError

SETTINGS = PretrainSettings(size=4, tokenizer=TokenizerSource(train=4096), data=(CorpusPart(path="books.txt"),))
CONFIG = ModelConfig.from_dict(shape_of_size(4) | {"vocab_size": 4096})
NEW, LOADED = ModelSource(config=CONFIG, folder=None), ModelSource(config=CONFIG, folder=Path("base"))
CORPUS = 10_000_000


@pytest.fixture
def machine() -> Device:
    return replace(device(), kind="cpu")


def decided(source: ModelSource, machine: Device, **changes: Any) -> Decisions:
    return decide(replace(SETTINGS, **changes), source, CORPUS, machine)


def test_size_4_trains_59_million_tokens_in_rows_of_512(machine: Device) -> None:
    decisions = decided(NEW, machine)
    chosen = decisions.settings
    assert decisions.parameters == 2_951_424
    assert (chosen.tokens, chosen.length, chosen.batch, chosen.accumulate) == (59_028_480, 512, 16, 3)
    assert (chosen.learning_rate, chosen.dtype) == (0.004, "float32")
    assert decisions.origin == {
        "length": "the model's context of 512, at most 2,048",
        "tokens": "20 for each of 2,951,424 parameters outside the embedding",
        "learning_rate": "for 1.0e+15 FLOPs, arXiv 2401.02954",
        "batch": "for 1.0e+15 FLOPs, arXiv 2401.02954",
        "accumulate": "for 1.0e+15 FLOPs, arXiv 2401.02954",
        "dtype": "the device, cpu",
    }
    assert plan_steps(chosen, steps_per_epoch=407, epoch_tokens=CORPUS).steps == 5 * 407 + round(
        9_028_480 / (16 * 512 * 3)
    )


@pytest.mark.parametrize(("tokens", "steps"), [(100, 1), (640, 1), (2_560, 4), (6_900, 11), (7_000, 11), (14_000, 22)])
def test_a_token_budget_counts_the_smaller_last_step_of_an_epoch(machine: Device, tokens: int, steps: int) -> None:
    # An epoch is 11 steps: ten of 640 tokens and one of 500.
    settings = decided(NEW, machine, tokens=tokens, length=64, batch=10).settings
    assert plan_steps(settings, steps_per_epoch=11, epoch_tokens=6_900).steps == steps


def test_a_checkpoint_is_trained_for_one_epoch_at_a_tenth_of_the_rate(machine: Device) -> None:
    decisions = decided(LOADED, machine)
    assert (decisions.settings.epochs, decisions.settings.tokens) == (1.0, None)
    new = decided(NEW, machine, epochs=1.0).settings.learning_rate
    assert new is not None
    assert decisions.settings.learning_rate == pytest.approx(new / 10)
    assert decisions.origin["learning_rate"].startswith("a tenth of a new model's, for ")
    assert plan_steps(decisions.settings, steps_per_epoch=407, epoch_tokens=CORPUS).steps == 407


def test_given_settings_are_kept_and_have_no_other_origin(machine: Device) -> None:
    given = {"length": 64, "batch": 3, "learning_rate": 1e-3, "steps": 7, "dtype": "bfloat16"}
    decisions = decided(NEW, machine, **given)
    assert {name: getattr(decisions.settings, name) for name in given} == given
    assert decisions.settings.tokens is None
    assert decisions.origin == {"accumulate": "batch is given"}
    assert plan_steps(decisions.settings, steps_per_epoch=407, epoch_tokens=CORPUS).steps == 7


def test_a_smaller_budget_has_smaller_batches(machine: Device) -> None:
    small, large = (decided(NEW, machine, tokens=tokens).settings for tokens in (10**6, 10**9))
    assert small.batch is not None and large.batch is not None and large.accumulate is not None
    assert small.accumulate == 1
    assert small.batch < 16 <= large.batch < large.batch * large.accumulate


def test_given_accumulation_divides_the_batch_of_the_rule(machine: Device) -> None:
    assert decided(NEW, machine, accumulate=12).settings.batch == 4


def test_the_plan_has_the_schedule_of_the_settings(machine: Device) -> None:
    settings = decided(NEW, machine, steps=100, schedule="wsd", decay=0.4, warmup=0.05, floor=0.1).settings
    plan = plan_steps(settings, steps_per_epoch=10, epoch_tokens=CORPUS)
    assert (plan.schedule, plan.decay, plan.warmup, plan.floor) == ("wsd", 0.4, 5, 0.1)
    assert (plan.eval_every, plan.save_every, plan.log_every) == (10, 10, 10)


def test_rows_longer_than_the_context_are_refused(machine: Device) -> None:
    with pytest.raises(UserError) as caught:
        decided(NEW, machine, length=513)
    assert caught.value.what == "Rows of 513 tokens are longer than the model's context of 512"
    assert "max_position_embeddings in config to 513" in caught.value.fix


def test_memory_is_that_of_the_rows_of_one_process(machine: Device) -> None:
    settings = decided(NEW, machine).settings
    alone, shared = (step_memory(settings, NEW, machine, processes).total for processes in (1, 2))
    assert shared < 0.7 * alone
    assert step_memory(replace(settings, recompute=True), NEW, machine, 1).total < alone
