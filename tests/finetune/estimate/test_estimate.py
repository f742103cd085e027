"""What is said before a run: from the config alone, and with changes that do what they promise."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mlx_suite.finetune.estimate import estimate as outlooks
from mlx_suite.finetune.estimate.dimensions import model_config
from mlx_suite.finetune.estimate.duration import forward_flops, step_flops
from mlx_suite.finetune.estimate.estimate import Outlook, outlook, spoken
from mlx_suite.finetune.estimate.memory import TrainShape, estimate_memory
from mlx_suite.finetune.estimate.savings import find_savings
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.settings import FinetuneSettings, settings_from
from mlx_suite.hub import resolve as hub
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.device import Device
from mlx_suite.runtime.errors import UserError
from tests.hub.server import Repository, checkpoint, running_hub
from tests.modeling.tiny import PUBLISHED, tiny_config

LLAMA = ModelConfig.from_dict(PUBLISHED["Llama 3.1 8B"])


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 100 GFLOP/s with nothing else on it."""
    monkeypatch.setattr(outlooks, "measured_speed", lambda dtype, bits: 1e11)
    monkeypatch.setattr(outlooks, "available_memory", lambda: 10**15)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    pairs = [{"instruction": f"What is {n} plus {n}?", "output": f"It is {2 * n}. " * 12} for n in range(40)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def machine(size: float, kind: str = "cpu") -> Device:
    return Device(kind=kind, name="a laptop", memory_bytes=int(size), working_set_bytes=int(size), blas=None)  # type: ignore[arg-type]


def look(settings: FinetuneSettings, size: float, folder: Path | None = None, kind: str = "cpu") -> Outlook:
    return outlook(settings, prepare(settings, folder), machine(size, kind))


def with_flags(settings: FinetuneSettings, flags: str) -> FinetuneSettings:
    """The settings with flags as the command line would read them."""
    words = shlex.split(flags)
    values: dict[str, object] = {}
    while words:
        name = words.pop(0).removeprefix("--")
        values[name] = words.pop(0) if words and not words[0].startswith("--") else True
    return replace(settings, **settings_from(values, "flags"))


def printed(found: Outlook) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(found.render())
    return capture.get()


# ---- memory


def test_no_weights_are_needed(tmp_path: Path, rows: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(resolve("tiny-llama3"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    settings = FinetuneSettings(model=str(folder), data=str(rows))
    assert look(settings, 10**9, folder).memory == look(replace(settings, model="tiny-llama3"), 10**9).memory


def test_a_model_of_the_hub_is_estimated_before_it_is_fetched(
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
        assert look(settings, 10**9, folder).memory.fits
        assert list(folder.glob("*.safetensors")) == []
        # A run fetches the rest into the same folder.
        assert hub.resolve("lab/llama", progress=False) == folder
        assert {path.name for path in folder.iterdir()} == set(weights | texts)


def test_what_fits_is_said_to_fit_and_nothing_is_proposed(rows: Path) -> None:
    found = look(FinetuneSettings(model="tiny-llama3", data=str(rows)), 10**9)
    assert found.savings is None
    assert "fits, 1.00 GB may be taken" in printed(found)
    assert {"fits", "peak_bytes", "seconds", "steps"} <= found.as_dict().keys()
    assert "to_fit" not in found.as_dict()


@pytest.mark.parametrize("size", [100e6, 50e6, 30e6])
def test_the_flags_that_are_proposed_make_it_fit(rows: Path, size: float) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows))
    found = look(settings, size)
    assert not found.memory.fits and found.savings and found.savings.together
    proposed = found.savings.together
    assert proposed.memory.fits
    changed = look(with_flags(settings, proposed.flags), size)
    assert changed.memory.total == proposed.memory.total <= size
    assert f"to fit     {proposed.flags}" in printed(found)
    # The step stays the one that was asked for.
    assert changed.shape.rows * changed.shape.accumulate == 4


def test_every_single_change_saves_what_it_promises(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), row_length=512, rank=64)
    found = look(settings, 20e6)
    assert found.savings is not None
    flags = [saving.flags for saving in found.savings.single]
    assert flags[0] == "--batch 1 --accumulate 4" and "--recompute" in flags and "--row-length 256" in flags
    for saving in found.savings.single:
        assert look(with_flags(settings, saving.flags), 20e6).memory.total == saving.memory.total


def test_where_nothing_is_enough_that_is_said(rows: Path) -> None:
    found = look(FinetuneSettings(model="tiny-llama3", data=str(rows)), 5e6)
    assert found.savings and found.savings.together and not found.savings.together.memory.fits
    assert "not even all of these are enough" in printed(found)
    assert found.as_dict()["to_fit"]["fits"] is False


def test_the_cheapest_change_that_is_enough_comes_first() -> None:
    shape = TrainShape(rows=8, row_length=1024, quantize_base=4)
    settings = FinetuneSettings(model="m", data="d")

    def proposal(limit: float) -> str:
        savings = find_savings(settings, shape, 32, [], lambda shape: estimate_memory(LLAMA, shape, int(limit)))
        assert savings.together is not None
        return savings.together.flags

    assert proposal(24e9) == "--batch 1 --accumulate 8"
    assert proposal(9e9) == "--batch 1 --accumulate 8 --recompute"


def test_bucketed_examples_take_the_memory_of_the_longest(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), batching="bucket")
    found = look(settings, 10**9)
    assert found.shape.row_length == max(len(document) for document in prepare(settings).train) - 1


# ---- other models


def test_other_architectures_are_estimated_coarsely() -> None:
    source = {"model_type": "qwen3", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128}
    source |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    config, notes = model_config(source, "config.json")
    assert config.model_type == "qwen3" and config.head_dim == 32
    assert notes == ("a coarse estimate: qwen3 is counted as if its blocks were Llama's",)
    _, notes = model_config(source | {"num_experts": 60}, "config.json")
    assert "it has 60 experts, so it takes far more" in notes[0]


def test_a_config_that_tells_no_dimensions_is_refused() -> None:
    with pytest.raises(UserError, match="does not tell its dimensions"):
        model_config({"model_type": "rwkv7", "vocab_size": 100}, "config.json")


# ---- time


def test_full_training_costs_six_operations_for_each_parameter_and_token() -> None:
    shape = TrainShape(method="full", rows=2, row_length=8, trained_share=1.0)
    config = tiny_config("llama")
    matrices = 3 * (2 * 32 * 16 * 4 + 2 * 32 * 16 * 2 + 3 * 32 * 48)
    head = 50 * 32
    attention = 3 * (2 * 2 * 8 * 64)  # scores and values over 8 keys, 4 heads of 16, in 3 blocks
    assert step_flops(config, shape) == 16 * (6 * (matrices + head) + 3 * attention)
    assert forward_flops(config, shape) == 16 * (2 * matrices + attention)


def test_frozen_weights_cost_four_and_recomputing_two_more() -> None:
    config = tiny_config("llama")
    # No adapter's own operations: none of the modules exists.
    shape = TrainShape(rows=1, row_length=1000, modules=(), trained_share=0.0)
    whole = replace(shape, modules=("q_proj",), rank=0)
    once = forward_flops(config, whole)
    attention = 3 * 1000 * (2 * 2 * 1000 * 64)
    assert step_flops(config, whole) == 2 * once + attention
    assert step_flops(config, replace(whole, checkpointing=True)) == 3 * once + attention
    # Nothing learns in the blocks, so nothing goes back through them.
    assert step_flops(config, shape) == once


def test_the_time_of_a_run_follows_from_its_steps(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), valid_share=0.0, steps=10)
    ten, twenty = look(settings, 1e9).duration, look(replace(settings, steps=20), 1e9).duration
    assert ten.steps == 10 and ten.evaluations == 0
    assert twenty.seconds == 2 * ten.seconds == pytest.approx(20 * ten.step_flops / (0.6 * 1e11))
    assert ten.least < ten.seconds < ten.most


def test_durations_are_spoken_in_two_figures() -> None:
    assert [spoken(s) for s in (0.25, 3.14, 59, 200, 5000, 40000, 200000)] == [
        *("0.25 s", "3.1 s", "59 s", "3.3 min", "83 min", "11 h", "2.3 days")
    ]


def test_a_run_that_takes_far_more_than_there_is_is_refused_with_what_would_fit(rows: Path) -> None:
    settings = FinetuneSettings(model="tiny-llama3", data=str(rows), batch=64)
    found = look(settings, 10**10)
    found.refuse_if_hopeless()
    tight = look(settings, found.memory.total * 0.7)
    assert not tight.memory.fits
    tight.refuse_if_hopeless()  # an estimate may be off
    with pytest.raises(UserError, match="far more memory than there is") as raised:
        look(settings, found.memory.total * 0.3).refuse_if_hopeless()
    assert raised.value.fix.startswith("--")
