"""A run folder is usable after a kill at any moment, and a resumed run gives the same weights."""

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.finetune.run import RunCallbacks
from mlx_suite.runtime.errors import UserError
from tests.finetune.story import STEPS, bits, log, run_sums, write_sums

REPOSITORY = Path(__file__).parents[2]

CHILD = """
import sys
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
mx.disable_compile()
from mlx_suite.finetune.run import RunCallbacks
from tests.finetune.story import run_sums

def step(number, loss, trained):
    print(number, flush=True)

def line(entry):
    print(entry["kind"], flush=True)

run_sums(Path(sys.argv[1]), Path(sys.argv[2]), RunCallbacks(step=step, line=line))
"""


pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def undisturbed(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an uninterrupted run."""
    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    folder = tmp_path_factory.mktemp("undisturbed")
    run_sums(random_model, folder)
    mx.set_default_device(usual)
    return folder / "run"


def same_as(run: Path, undisturbed: Path) -> bool:
    """Assert that adapters, losses and responses are bit-identical."""
    logs = [
        [(line["kind"], line["step"], line["loss"]) for kind in ("train", "valid") for line in log(each, kind)]
        for each in (run, undisturbed)
    ]
    answers = [(each / "samples.jsonl").read_text() for each in (run, undisturbed)]
    adapters = [bits(each / "last") | bits(each / "best") for each in (run, undisturbed)]
    return adapters[0] == adapters[1] and logs[0] == logs[1] and answers[0] == answers[1]


# ---- outputs


def test_a_run_folder_has_settings_log_samples_plot_and_adapters(undisturbed: Path) -> None:
    assert {path.name for path in undisturbed.iterdir() if not path.name.startswith(".")} == {
        "best",
        "checkpoint",
        "config.yaml",
        "last",
        "loss.png",
        "metrics.jsonl",
        "samples.jsonl",
        "samples.md",
    }
    assert {path.name for path in (undisturbed / "last").iterdir()} >= {
        "adapter_config.json",
        "adapters.safetensors",
        "chat_template.jinja",
    }
    assert [line["step"] for line in log(undisturbed, "train")] == list(range(1, STEPS + 1))
    assert [line["step"] for line in log(undisturbed, "valid")] == [0, 2, 4, 6, 8]


def test_the_best_adapter_has_the_lowest_validation_loss(random_model: Path, tmp_path: Path) -> None:
    # A learning rate that overfits the few examples.
    learnt_by_heart = {"learning_rate": 0.03, "schedule": "constant", "warmup": 0.0, "dropout": 0.0}
    finished = run_sums(random_model, tmp_path, steps=16, eval_every=4, **learnt_by_heart)
    losses = {line["step"]: line["loss"] for line in log(tmp_path / "run", "valid")}
    assert finished.state.best_step == min(losses, key=lambda step: losses[step])
    assert finished.state.best_step < 16
    assert bits(tmp_path / "run" / "best") != bits(tmp_path / "run" / "last")


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_every_method_lowers_the_validation_loss(method: str, random_model: Path, tmp_path: Path) -> None:
    finished = run_sums(random_model, tmp_path, method=method, dropout=0.0)
    assert finished.valid_before is not None and finished.state.best_loss is not None
    assert finished.state.best_loss < finished.valid_before - 0.05


def test_full_trains_embeddings_norms_and_head_and_saves_a_model(random_model: Path, tmp_path: Path) -> None:
    from mlx_suite.checkpoints.weights import named_parameters
    from mlx_suite.loading import load

    run_sums(random_model, tmp_path, method="full")
    before, after = (named_parameters(load(folder)[0]) for folder in (random_model, tmp_path / "run" / "last"))
    changed = {name for name, array in after.items() if not mx.array_equal(array, before[name])}
    assert changed == set(before)


def test_skipped_bad_rows_are_listed(random_model: Path, tmp_path: Path) -> None:
    data = write_sums(tmp_path / "sums.jsonl")
    with data.open("a") as file:
        file.write('{"instruction": "1 + 1"\n')
    run_sums(random_model, tmp_path, skip_bad=True, steps=1)
    [row] = [json.loads(line) for line in (tmp_path / "run" / "bad_rows.jsonl").read_text().splitlines()]
    assert row["place"] == "sums.jsonl:25"


# ---- interruptions


def test_ctrl_c_finishes_the_current_step_and_the_same_call_resumes(
    random_model: Path, tmp_path: Path, undisturbed: Path
) -> None:
    pressed = RunCallbacks(step=lambda step, loss, trained: step == 5 and signal.raise_signal(signal.SIGINT))
    stopped = run_sums(random_model, tmp_path, pressed)
    assert (stopped.result.stopped, stopped.state.step) == (True, 5)
    assert not (tmp_path / "run" / "last").exists()
    run_sums(random_model, tmp_path)
    assert same_as(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_a_run_killed_repeatedly_ends_with_the_same_bits(random_model: Path, tmp_path: Path, undisturbed: Path) -> None:
    chance = random.Random(3)
    kills = 0
    for _ in range(3):
        arguments = [sys.executable, "-c", CHILD, str(random_model), str(tmp_path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as child:
            assert child.stdout is not None
            for _ in range(chance.randint(3, 11)):
                child.stdout.readline()
            child.kill()
            child.wait()
            kills += child.returncode == -signal.SIGKILL
    assert kills >= 2
    run_sums(random_model, tmp_path)
    assert same_as(tmp_path / "run", undisturbed)


def test_a_finished_run_reports_the_same_result_again(random_model: Path, tmp_path: Path, undisturbed: Path) -> None:
    first = run_sums(random_model, tmp_path)
    before = bits(tmp_path / "run" / "last")
    again = run_sums(random_model, tmp_path)
    assert again.state == first.state
    assert bits(tmp_path / "run" / "last") == before
    assert same_as(tmp_path / "run", undisturbed)


# ---- user errors


def test_resuming_with_changed_data_is_refused(random_model: Path, tmp_path: Path) -> None:
    run_sums(random_model, tmp_path, steps=2)
    write_sums(tmp_path / "sums.jsonl", count=25)
    with pytest.raises(UserError) as raised:
        run_sums(random_model, tmp_path, steps=2)
    assert raised.value.what == "The folder was started with other settings"
    [detail] = raised.value.details
    assert detail.startswith("data: was ")


def test_every_changed_setting_is_listed(random_model: Path, tmp_path: Path) -> None:
    run_sums(random_model, tmp_path, steps=2)
    with pytest.raises(UserError) as raised:
        run_sums(random_model, tmp_path, steps=2, rank=8, seed=1)
    assert raised.value.details == ("rank: was 4, now 8", "seed: was 0, now 1")


def test_settings_that_do_not_affect_weights_may_change(random_model: Path, tmp_path: Path) -> None:
    run_sums(random_model, tmp_path, steps=2)
    run_sums(random_model, tmp_path, steps=2, log_every=5, sample_tokens=2)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_recompute_may_change_unless_there_is_dropout(dropout: float, random_model: Path, tmp_path: Path) -> None:
    # Weights are the same either way, except that a recomputed block draws other dropout masks.
    run_sums(random_model, tmp_path, steps=4, dropout=dropout, out=str(tmp_path / "kept"))
    pressed = RunCallbacks(step=lambda step, loss, trained: step == 2 and signal.raise_signal(signal.SIGINT))
    run_sums(random_model, tmp_path, pressed, steps=4, dropout=dropout)
    if dropout:
        with pytest.raises(UserError) as raised:
            run_sums(random_model, tmp_path, steps=4, dropout=dropout, recompute=True)
        assert raised.value.details == ("recompute: was false, now true",)
    else:
        run_sums(random_model, tmp_path, steps=4, dropout=dropout, recompute=True)
        assert bits(tmp_path / "run" / "last") == bits(tmp_path / "kept" / "last")


def test_a_restarted_run_keeps_nothing_from_the_previous_one(random_model: Path, tmp_path: Path) -> None:
    run_sums(random_model, tmp_path, steps=2)
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    finished = run_sums(random_model, tmp_path, steps=2, learning_rate=1e-30, rank=2)
    assert finished.state.best_step == 0
    assert not (tmp_path / "run" / "best").exists()
    assert json.loads((tmp_path / "run" / "last" / "adapter_config.json").read_text())["lora_parameters"]["rank"] == 2


def test_a_damaged_checkpoint_is_not_trained_on(random_model: Path, tmp_path: Path) -> None:
    run_sums(random_model, tmp_path, steps=2)
    weights = tmp_path / "run" / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UserError, match="model.safetensors is damaged or was modified"):
        run_sums(random_model, tmp_path, steps=2)


def test_unmatched_module_names_are_noted_and_no_match_is_refused(random_model: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    callbacks = RunCallbacks(begin=lambda trainable, plan, state: notes.extend(trainable.notes))
    run_sums(random_model, tmp_path, callbacks, steps=1, modules=("q_proj", "qkv_proj"))
    assert notes == ["matched nothing in this model: qkv_proj"]
    with pytest.raises(UserError, match="No layer of this model matches"):
        run_sums(random_model, tmp_path, steps=1, modules=("qkv_proj",), out=str(tmp_path / "other"))


def test_block_numbers_that_do_not_exist_are_listed(random_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_sums(random_model, tmp_path, steps=1, modules=("q_proj",), layers=(7, 9))
    assert caught.value.where == "--modules q_proj --layers 7,9"


def test_patience_without_validation_is_refused(random_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_sums(random_model, tmp_path, valid_share=0.0, patience=2)
    assert caught.value.where == "--patience 2"


def test_the_data_folder_cannot_be_the_run_folder(random_model: Path, tmp_path: Path) -> None:
    write_sums(tmp_path / "train.jsonl")
    with pytest.raises(UserError, match="The run folder is the data folder"):
        run_sums(random_model, tmp_path, data=str(tmp_path), out=f"{tmp_path}/../{tmp_path.name}")
    assert [path.name for path in tmp_path.iterdir() if path.name != "sums.jsonl"] == ["train.jsonl"]


# ---- the prompt style is saved with the model


def test_an_adapter_trained_in_a_text_style_is_prompted_in_it(random_model: Path, tmp_path: Path) -> None:
    from mlx_suite.export.fuse import fuse_checkpoint
    from mlx_suite.text import Message, encode_chat, load_chat_template, load_tokenizer

    run_sums(random_model, tmp_path, style="alpaca", steps=1, row_length=256, modules=("q_proj",))
    tokenizer = load_tokenizer(random_model)
    fuse_checkpoint(random_model, tmp_path / "run" / "last", tmp_path / "fused", dtype="float32")
    for template in (
        load_chat_template(random_model, adapter=tmp_path / "run" / "last"),
        load_chat_template(tmp_path / "fused"),
    ):
        asked = encode_chat(tokenizer, template, [Message("user", "1 + 1")], add_generation_prompt=True)
        assert tokenizer.decode(asked.ids, skip_special=False) == (
            "<|begin_of_text|>Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\n1 + 1\n\n### Response:\n"
        )


def test_a_model_trained_in_a_text_style_has_its_template(random_model: Path, tmp_path: Path) -> None:
    run_sums(random_model, tmp_path, style="phi3", steps=1, method="full")
    template = (tmp_path / "run" / "last" / "chat_template.jinja").read_text()
    assert "<|assistant|>" in template and "<|start_header_id|>" not in template


# ---- the average of the weights


def test_the_average_of_the_weights_is_saved_beside_the_last(random_model: Path, tmp_path: Path) -> None:
    run_sums(random_model, tmp_path, ema=0.5)
    average, last = (bits(tmp_path / "run" / name) for name in ("ema", "last"))
    assert average.keys() == last.keys()
    assert not any(average[name] == last[name] for name in last)


@pytest.mark.parametrize("changes", [{}, {"anchor": 0.5}, {"anchor": 0.5, "method": "full"}], ids=str)
def test_a_resumed_run_saves_the_same_weights_and_average(
    changes: dict[str, Any], random_model: Path, tmp_path: Path
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    run_sums(random_model, tmp_path / "whole", ema=0.5, **changes)

    def stop(step: int, loss: float, trained: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sums(random_model, tmp_path / "parts", RunCallbacks(step=stop), ema=0.5, **changes)
    run_sums(random_model, tmp_path / "parts", ema=0.5, **changes)
    for name in ("ema", "last"):
        assert bits(tmp_path / "parts" / "run" / name) == bits(tmp_path / "whole" / "run" / name)


def test_an_anchor_changes_the_run_and_is_part_of_its_identity(random_model: Path, tmp_path: Path) -> None:
    plain = run_sums(random_model, tmp_path, out=str(tmp_path / "plain"), ema=0.5)
    anchored = run_sums(random_model, tmp_path, ema=0.5, anchor=5.0)
    assert plain.valid_before == anchored.valid_before
    assert bits(tmp_path / "plain" / "last") != bits(tmp_path / "run" / "last")
    assert "anchor" not in plain.state.identity and anchored.state.identity["anchor"] == 5.0
    with pytest.raises(UserError, match="other settings|another") as caught:
        run_sums(random_model, tmp_path, ema=0.5, anchor=1.0)
    assert any("anchor" in detail for detail in caught.value.details)
