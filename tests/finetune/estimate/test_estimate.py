"""Estimates of memory and time, made from the config alone, and proposed changes that make a run fit."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mlx_suite.finetune.estimate import estimate as estimates
from mlx_suite.finetune.estimate.alternatives import find_alternatives
from mlx_suite.finetune.estimate.duration import forward_flops, step_flops
from mlx_suite.finetune.estimate.estimate import RunEstimate, estimate_run, model_config, readable_time
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.hub import resolve as hub
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.device import Device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.settings_file import settings_from
from mlx_suite.training import step_memory
from mlx_suite.training.step_memory import TrainShape, estimate_memory
from tests.hub.server import Repository, checkpoint, running_hub
from tests.modeling.tiny import PUBLISHED, tiny_config

LLAMA = ModelConfig.from_dict(PUBLISHED["Llama 3.1 8B"])


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 100 GFLOP/s with all of its memory free."""
    monkeypatch.setattr(estimates, "measured_speed", lambda dtype, bits: 1e11)
    monkeypatch.setattr(step_memory, "available_memory", lambda: 10**15)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    pairs = [{"instruction": f"What is {n} plus {n}?", "output": f"It is {2 * n}. " * 12} for n in range(40)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def machine(size: float, kind: str = "cpu") -> Device:
    return Device(kind=kind, name="a laptop", memory_bytes=int(size), working_set_bytes=int(size), blas=None)  # type: ignore[arg-type]


def estimated(settings: FinetuneSettings, size: float, folder: Path | None = None, kind: str = "cpu") -> RunEstimate:
    return estimate_run(settings, prepare(settings, folder), machine(size, kind))


def with_flags(settings: FinetuneSettings, flags: str) -> FinetuneSettings:
    """The settings with these command-line flags applied."""
    words = shlex.split(flags)
    values: dict[str, object] = {}
    while words:
        name = words.pop(0).removeprefix("--")
        values[name] = words.pop(0) if words and not words[0].startswith("--") else True
    return replace(settings, **settings_from(values, "flags", FinetuneSettings))


def printed(found: RunEstimate) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(found.render())
    return capture.get()


# ---- memory


def test_an_estimate_needs_no_weights(tmp_path: Path, rows: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(resolve("tiny-llama3"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    settings = FinetuneSettings(model=str(folder), data=str(rows))
    assert estimated(settings, 10**9, folder).memory == estimated(replace(settings, model="tiny-llama3"), 10**9).memory


def test_a_hub_model_is_estimated_before_its_weights_are_downloaded(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "home" / "hub"
    texts = {path.name: path.read_bytes() for path in resolve("tiny-llama3").glob("*.json*")}
    texts |= {"chat_template.jinja": (resolve("tiny-llama3") / "chat_template.jinja").read_bytes()}
    weights = {name: data for name, data in checkpoint().items() if "safetensors" in name}
    with running_hub(monkeypatch, cache) as server:
        server.repositories["lab/llama"] = Repository(weights | texts)
        settings = FinetuneSettings(model="lab/llama", data=str(rows))
        folder = hub.resolve_texts("lab/llama")
        assert estimated(settings, 10**9, folder).memory.fits
        assert list(folder.glob("*.safetensors")) == []
        # A run downloads the rest into the same folder.
        assert hub.resolve("lab/llama", progress=False) == folder
        assert {path.name for path in folder.iterdir()} == set(weights | texts)


def test_a_run_that_fits_gets_no_proposals(rows: Path) -> None:
    found = estimated(FinetuneSettings(model="tiny-llama3", data=str(rows)), 10**9)
    assert found.alternatives is None
    assert "fits into the 1.00 GB available" in printed(found)
    assert {"fits", "peak_bytes", "seconds", "steps"} <= found.as_dict().keys()
    assert "to_fit" not in found.as_dict()


@pytest.mark.parametrize("size", [100e6, 50e6, 30e6])
def test_the_proposed_flags_make_the_run_fit(rows: Path, size: float) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows))
    found = estimated(settings, size)
    assert not found.memory.fits and found.alternatives and found.alternatives.together
    proposed = found.alternatives.together
    assert proposed.memory.fits
    changed = estimated(with_flags(settings, proposed.flags), size)
    assert changed.memory.total == proposed.memory.total <= size
    assert f"to fit     {proposed.flags}" in printed(found)
    # The optimizer step is unchanged.
    assert changed.shape.rows * changed.shape.accumulate == 4


def test_each_change_alone_saves_the_memory_it_states(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), row_length=512, rank=64)
    found = estimated(settings, 20e6)
    assert found.alternatives is not None
    flags = [change.flags for change in found.alternatives.single]
    assert flags[0] == "--batch 1 --accumulate 4" and "--recompute" in flags and "--row-length 256" in flags
    for change in found.alternatives.single:
        assert estimated(with_flags(settings, change.flags), 20e6).memory.total == change.memory.total


def test_the_estimate_says_so_if_no_change_is_enough(rows: Path) -> None:
    found = estimated(FinetuneSettings(model="tiny-llama3", data=str(rows)), 5e6)
    assert found.alternatives and found.alternatives.together and not found.alternatives.together.memory.fits
    assert "all changes together are not enough" in printed(found)
    assert found.as_dict()["to_fit"]["fits"] is False


def test_the_cheapest_sufficient_change_is_proposed() -> None:
    shape = TrainShape(rows=8, row_length=1024, quantize_base=4)
    settings = FinetuneSettings(model="m", data="d")

    def proposal(limit: float) -> str:
        alternatives = find_alternatives(
            settings, shape, 32, [], lambda shape: estimate_memory(LLAMA, shape, int(limit))
        )
        assert alternatives.together is not None
        return alternatives.together.flags

    assert proposal(24e9) == "--batch 1 --accumulate 8"
    assert proposal(9e9) == "--batch 1 --accumulate 8 --recompute"


def test_bucketed_examples_need_the_memory_of_the_longest(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), batching="bucket")
    found = estimated(settings, 10**9)
    assert found.shape.row_length == max(len(document) for document in prepare(settings).train) - 1


# ---- other models


def test_other_architectures_get_a_rough_estimate() -> None:
    source = {"model_type": "olmo3", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128}
    source |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    config, notes = model_config(source, "config.json")
    assert config.model_type == "olmo3" and config.head_dim == 32
    assert notes == ("a rough estimate: olmo3 is counted as if its blocks were Llama's",)
    _, notes = model_config(source | {"num_experts": 60}, "config.json")
    assert "its 60 experts need far more" in notes[0]


def test_a_config_without_dimensions_is_refused() -> None:
    with pytest.raises(UserError, match="lacks dimensions"):
        model_config({"model_type": "rwkv7", "vocab_size": 100}, "config.json")


# ---- time


def test_full_training_costs_six_flops_per_parameter_and_token() -> None:
    shape = TrainShape(method="full", rows=2, row_length=8, trained_share=1.0)
    config = tiny_config("llama")
    matrices = 3 * (2 * 32 * 16 * 4 + 2 * 32 * 16 * 2 + 3 * 32 * 48)
    head = 50 * 32
    attention = 3 * (2 * 2 * 8 * 64)  # scores and values over 8 keys, 4 heads of 16, in 3 blocks
    assert step_flops(config, shape) == 16 * (6 * (matrices + head) + 3 * attention)
    assert forward_flops(config, shape) == 16 * (2 * matrices + attention)


def test_frozen_weights_cost_four_flops_and_recomputation_two_more() -> None:
    config = tiny_config("llama")
    # Without modules the adapter itself costs nothing.
    shape = TrainShape(rows=1, row_length=1000, modules=(), trained_share=0.0)
    whole = replace(shape, modules=("q_proj",), rank=0)
    once = forward_flops(config, whole)
    # In blocks of 128 queries, half of the keys are computed, and their scores once more in the backward pass.
    attention = 3 * 1000 * (2 * 2 * 564 * 64)
    assert step_flops(config, whole) == 2 * once + 1.5 * attention
    assert step_flops(config, replace(whole, checkpointing=True)) == 3 * once + 1.5 * attention
    # Nothing is trained in the blocks, so there is no backward pass through them.
    assert step_flops(config, shape) == once


def test_the_duration_is_proportional_to_the_steps(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), valid_share=0.0, steps=10)
    ten, twenty = estimated(settings, 1e9).duration, estimated(replace(settings, steps=20), 1e9).duration
    assert ten.steps == 10 and ten.evaluations == 0
    assert twenty.seconds == 2 * ten.seconds == pytest.approx(20 * ten.step_flops / (0.6 * 1e11))
    assert ten.least < ten.seconds < ten.most


def test_durations_are_shown_with_two_digits() -> None:
    assert [readable_time(s) for s in (0.25, 3.14, 59, 200, 5000, 40000, 200000)] == [
        *("0.25 s", "3.1 s", "59 s", "3.3 min", "83 min", "11 h", "2.3 days")
    ]


def test_a_run_far_over_the_memory_is_refused_with_flags_that_fit(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), batch=64)
    found = estimated(settings, 10**10)
    found.refuse_if_infeasible()
    tight = estimated(settings, found.memory.total * 0.7)
    assert not tight.memory.fits
    tight.refuse_if_infeasible()  # the estimate may be too high
    with pytest.raises(UserError, match="far more memory than is available") as raised:
        estimated(settings, found.memory.total * 0.3).refuse_if_infeasible()
    assert raised.value.fix.startswith("--")
