"""`start_from`: an adapter or a full model is trained further on new data."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_suite.adapters.attach import load_adapter, write_adapter
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import FinishedRun, RunCallbacks, finetune
from mlx_suite.finetune.starting_point import inherited, starting_point
from mlx_suite.runtime.errors import UserError
from tests.finetune.story import bits, log, run_sums, sums_settings, write_sums

METHODS = {
    "lora": {"method": "lora"},
    "dora": {"method": "dora"},
    "rslora": {"method": "lora", "rslora": True, "rank": 8, "alpha": 8.0},
    "full": {"method": "full", "learning_rate": 1e-3, "dropout": 0.0},
}


pytestmark = pytest.mark.usefixtures("uncompiled")


def further(
    model: Path,
    folder: Path,
    start: Path,
    given: tuple[str, ...] = (),
    callbacks: RunCallbacks | None = None,
    **changes: object,
) -> FinishedRun:
    """Train what is in `start` further on the same sums; only the settings in `given` are the user's."""
    settings = sums_settings(model, folder, start_from=str(start), **changes)
    settings = inherited(settings, starting_point(settings.start_from), given)
    return finetune(settings, prepare(settings), callbacks=callbacks)


@pytest.fixture(scope="module")
def runs(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each method, under its name."""
    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    folder = tmp_path_factory.mktemp("runs")
    for name, changes in METHODS.items():
        run_sums(random_model, folder, out=str(folder / name), steps=4, save_every=4, **changes)
    mx.set_default_device(usual)
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_every_method_begins_with_the_loss_at_which_its_run_was_best(
    name: str, runs: Path, random_model: Path, tmp_path: Path
) -> None:
    best = min(line["loss"] for line in log(runs / name, "valid"))
    finished = further(random_model, tmp_path, runs / name, steps=2, learning_rate=1e-3)
    assert finished.valid_before == pytest.approx(best, abs=1e-5)
    assert bits(tmp_path / "run" / "last") != bits(runs / name / "best")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("dora", "full") else pytest.mark.slow) for name in METHODS]
)
def test_a_stopped_run_resumes_bit_exactly(name: str, runs: Path, random_model: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    further(random_model, whole, runs / name, steps=4, learning_rate=1e-3)
    pressed = RunCallbacks(step=lambda step, loss, trained: step == 3 and signal.raise_signal(signal.SIGINT))
    stopped = further(random_model, cut, runs / name, steps=4, learning_rate=1e-3, callbacks=pressed)
    assert (stopped.result.stopped, stopped.state.step) == (True, 3)
    further(random_model, cut, runs / name, steps=4, learning_rate=1e-3)
    assert bits(cut / "run" / "last") == bits(whole / "run" / "last")


def test_the_shape_of_the_adapter_comes_from_the_run(runs: Path, random_model: Path, tmp_path: Path) -> None:
    further(random_model, tmp_path, runs / "rslora", steps=1)
    config = load_adapter(tmp_path / "run" / "last").config
    assert (config.method, config.rank, config.alpha, config.rslora) == ("lora", 8, 8.0, True)


def test_settings_that_conflict_are_refused_by_name(runs: Path, random_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        further(
            random_model, tmp_path, runs / "dora", given=("rank", "modules", "method"), rank=16, modules=("q_proj",)
        )
    assert caught.value.details == (
        "method is lora, but " + str(runs / "dora") + " has dora",
        "rank is 16, but " + str(runs / "dora") + " has 4",
        f"modules is q_proj, but {runs / 'dora'} has q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
    )
    assert "omit --method, --rank, --modules" in (caught.value.fix or "")


def test_equal_settings_are_no_conflict(runs: Path, random_model: Path, tmp_path: Path) -> None:
    settings = sums_settings(random_model, tmp_path, start_from=str(runs / "lora"))
    assert inherited(settings, starting_point(settings.start_from), given=("method", "rank", "modules")).rank == 4


def test_a_library_call_with_other_settings_is_refused_too(runs: Path, random_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="conflict"):
        prepare(sums_settings(random_model, tmp_path, start_from=str(runs / "lora"), rank=2))


@pytest.mark.parametrize("layout", ["mlx", "peft"])
def test_an_adapter_folder_of_another_program_is_trained_further(
    layout: str, runs: Path, random_model: Path, tmp_path: Path
) -> None:
    adapter = load_adapter(runs / "dora")
    write_adapter(tmp_path / layout, adapter, layout)
    if layout == "mlx":  # as mlx-lm writes it
        path = tmp_path / layout / "adapter_config.json"
        settings = json.loads(path.read_text())
        del settings["mlx_suite"]
        path.write_text(json.dumps(settings))
    best = min(line["loss"] for line in log(runs / "dora", "valid"))
    finished = further(random_model, tmp_path, tmp_path / layout, steps=1)
    assert finished.valid_before == pytest.approx(best, abs=1e-5)


def test_layers_of_several_ranks_keep_theirs(runs: Path, random_model: Path, tmp_path: Path) -> None:
    adapter = load_adapter(runs / "lora")
    path = adapter.targets[0]
    arrays = dict(adapter.arrays)
    arrays[f"{path}.lora_a"], arrays[f"{path}.lora_b"] = (
        arrays[f"{path}.lora_a"][:, :2],
        arrays[f"{path}.lora_b"][:2],
    )
    write_adapter(tmp_path / "peft", replace(adapter, arrays=arrays), "peft")
    settings = sums_settings(random_model, tmp_path, start_from=str(tmp_path / "peft"), steps=1)
    settings = inherited(settings, starting_point(settings.start_from), ())
    prepared = prepare(settings)
    assert prepared.start is not None and prepared.start.adapter is not None
    assert prepared.start.adapter.arrays[f"{path}.lora_a"].shape[1] == 2
    finetune(settings, prepared)
    after = load_adapter(tmp_path / "run" / "last")
    assert after.arrays[f"{path}.lora_a"].shape[1] == 4  # mlx-lm's layout pads to one rank
    assert mx.all(after.arrays[f"{path}.lora_a"][:, 2:] == 0).item()


def test_the_run_records_what_it_started_from(runs: Path, random_model: Path, tmp_path: Path) -> None:
    further(random_model, tmp_path, runs / "lora", steps=1)
    record = json.loads((tmp_path / "run" / "started_from.json").read_text())
    assert record == {
        "run": str(runs / "lora"),
        "adapter": "best",
        "digest": starting_point(str(runs / "lora")).digest,
    }
    assert f"start_from: {runs / 'lora'}" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_run_is_not_resumed_from_another_start(runs: Path, random_model: Path, tmp_path: Path) -> None:
    adapter = load_adapter(runs / "lora")
    doubled = replace(adapter, arrays={name: 2 * array for name, array in adapter.arrays.items()})
    write_adapter(tmp_path / "other", doubled, "mlx")
    further(random_model, tmp_path, runs / "lora", steps=2)
    with pytest.raises(UserError) as caught:
        further(random_model, tmp_path, tmp_path / "other", steps=2)
    assert [line.split(":")[0] for line in caught.value.details] == ["start_from"]


@pytest.mark.parametrize("place", ["lora", "lora/best"])
def test_the_run_does_not_overwrite_what_it_starts_from(
    place: str, runs: Path, random_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="would overwrite what it starts from"):
        further(random_model, tmp_path, runs / "lora", out=str(runs / place))


def test_a_text_style_comes_from_the_run(random_model: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    run_sums(random_model, tmp_path, out=str(first), style="alpaca", steps=1, row_length=256)
    settings = sums_settings(random_model, tmp_path, start_from=str(first / "last"), steps=1, row_length=256)
    assert inherited(settings, starting_point(settings.start_from), ()).style == "alpaca"
    with pytest.raises(UserError, match="conflict"):
        inherited(settings, starting_point(settings.start_from), ("style",))


def test_the_template_of_the_adapter_is_used(runs: Path, random_model: Path, tmp_path: Path) -> None:
    adapter = load_adapter(runs / "lora")
    write_adapter(tmp_path / "own", adapter, "mlx", chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    settings = sums_settings(random_model, tmp_path, start_from=str(tmp_path / "own"))
    prepared = prepare(inherited(settings, starting_point(settings.start_from), ()))
    assert prepared.template is not None and prepared.template.origin == str(tmp_path / "own" / "chat_template.jinja")


def test_a_folder_without_weights_is_refused(random_model: Path, tmp_path: Path) -> None:
    write_sums(tmp_path / "sums.jsonl")
    with pytest.raises(UserError, match="contains no adapter"):
        starting_point(str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        starting_point(str(tmp_path / "missing"))


def test_a_full_model_of_other_dimensions_is_refused(runs: Path, random_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in random_model.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    settings = sums_settings(other, tmp_path, start_from=str(runs / "full"), method="full")
    with pytest.raises(UserError) as caught:
        prepare(settings)
    assert caught.value.details == (f"num_hidden_layers: 2 in {runs / 'full'}, 1 in the model",)
