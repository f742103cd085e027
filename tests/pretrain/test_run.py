"""A pretraining run: its folder, its figures, and the same bits after any kill."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.loading import load
from mlx_suite.pretrain.run import FinishedRun, RunCallbacks, pretrain
from mlx_suite.pretrain.settings import CorpusPart, PretrainSettings, Replay, TokenizerSource
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.settings_file import read_settings
from tests.pretrain.story import STEPS, bits, log, rhyme_settings, run_rhymes, write_rhymes

REPOSITORY = Path(__file__).parents[2]
CHILD = """
import sys
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
mx.disable_compile()
from mlx_suite.pretrain.run import RunCallbacks
from tests.pretrain.story import run_rhymes

def step(number, loss, trained):
    print(number, flush=True)

def line(entry):
    print(entry["kind"], flush=True)

run_rhymes(Path(sys.argv[1]), Path(sys.argv[2]), RunCallbacks(step=step, line=line))
"""

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def undisturbed(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedRun]:
    """An uninterrupted run."""
    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    yield run_rhymes(letters, tmp_path_factory.mktemp("undisturbed"))
    mx.set_default_device(usual)


def same_as(run: Path, undisturbed: Path) -> bool:
    """Whether weights, moments, losses and continuations are bit-identical."""
    kept = [
        [(line["kind"], line["step"], line["loss"]) for kind in ("train", "valid") for line in log(each, kind)]
        for each in (run, undisturbed)
    ]
    texts = [(each / "samples.jsonl").read_text() for each in (run, undisturbed)]
    arrays = [[bits(each / name) for name in ("last", "best", "checkpoint")] for each in (run, undisturbed)]
    return kept[0] == kept[1] and texts[0] == texts[1] and arrays[0] == arrays[1]


# ---- outputs


def test_a_run_folder_has_settings_log_samples_plot_tokens_and_checkpoints(undisturbed: FinishedRun) -> None:
    folder = undisturbed.folder
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        *("best", "checkpoint", "config.yaml", "last", "loss.png"),
        *("metrics.jsonl", "samples.jsonl", "samples.md", "tokenizer", "tokens"),
    }
    assert [line["step"] for line in log(folder, "train")] == list(range(1, STEPS + 1))
    assert [line["step"] for line in log(folder, "valid")] == [0, 2, 4, 6, 8]


def test_the_loss_falls_and_bits_per_byte_with_it(undisturbed: FinishedRun) -> None:
    lines = log(undisturbed.folder, "valid")
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.2
    ratios = [line["bits_per_byte"] / line["loss"] for line in lines]
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-3)


def test_the_results_load_as_complete_checkpoints_of_the_trained_weights(undisturbed: FinishedRun) -> None:
    for name in ("last", "best"):
        model, tokenizer = load(undisturbed.folder / name)
        assert tokenizer.encode("cats") and model(mx.array([[1, 2, 3]])).shape == (1, 3, 272)
    last, state = bits(undisturbed.folder / "last"), bits(undisturbed.folder / "checkpoint")
    assert all(state[name] == array for name, array in last.items())


def test_every_token_is_trained_and_the_ledger_says_of_which_part(undisturbed: FinishedRun) -> None:
    [entry] = undisturbed.ledger
    [train] = undisturbed.prepared.corpus.train
    assert (
        undisturbed.state.tokens
        == entry.tokens
        == sum(line["tokens"] for line in log(undisturbed.folder, "train")[-1:])
    )
    assert (entry.name, entry.share) == ("rhymes", 1.0)
    assert entry.passes == pytest.approx(entry.tokens / (train.file.count - 1))
    assert log(undisturbed.folder, "valid")[-1]["read"] == {"rhymes": entry.tokens}


def test_the_written_configuration_repeats_the_run(undisturbed: FinishedRun, letters: Path, tmp_path: Path) -> None:
    values = read_settings(undisturbed.folder / "config.yaml", PretrainSettings, "")
    again = pretrain(replace(PretrainSettings(**values), out=str(tmp_path / "again")))
    assert same_as(again.folder, undisturbed.folder)


def test_decided_settings_are_written_with_their_origin(letters: Path, tmp_path: Path) -> None:
    settings = rhyme_settings(letters, tmp_path, learning_rate=None, batch=None, steps=1)
    pretrain(settings, origin={"steps": "tiny.yaml"})
    lines = (tmp_path / "run" / "config.yaml").read_text().splitlines()
    assert "steps: 1                                  # tiny.yaml" in lines
    [rate] = [line for line in lines if line.startswith("learning_rate: ")]
    assert rate.startswith("learning_rate: 0.004 ") and rate.endswith(" FLOPs, arXiv 2401.02954")


def test_held_out_documents_are_continued_at_each_evaluation(undisturbed: FinishedRun) -> None:
    lines = [json.loads(line) for line in (undisturbed.folder / "samples.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {0, 2, 4, 6, 8}
    assert {line["prompt"] for line in lines} <= {f"{i % 7} cats s"[:8] for i in range(7)}


def test_without_held_out_text_there_is_no_evaluation(letters: Path, tmp_path: Path) -> None:
    finished = run_rhymes(letters, tmp_path, valid_share=0.0, steps=1)
    assert finished.evaluations == () and not (finished.folder / "best").exists()
    assert (finished.folder / "last" / "model.safetensors").exists()


def test_a_file_of_held_out_text_replaces_the_share(letters: Path, tmp_path: Path) -> None:
    valid = CorpusPart(path=str(write_rhymes(tmp_path / "other.jsonl", 3)))
    finished = run_rhymes(letters, tmp_path, valid=valid, steps=1)
    [part] = finished.prepared.corpus.valid
    assert (part.name, part.file.documents) == ("valid", 3)
    assert finished.prepared.corpus.train[0].file.documents == 40


# ---- kinds of runs


@pytest.mark.parametrize("changes", [{"isolate": True}, {"optimizer": "muon"}, {"recompute": True}, {"accumulate": 2}])
def test_every_kind_of_run_learns(letters: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    finished = run_rhymes(letters, tmp_path, **changes)
    assert finished.evaluations[-1]["loss"] < finished.evaluations[0]["loss"] - 0.1


def test_accumulated_batches_are_one_batch(letters: Path, tmp_path: Path) -> None:
    whole = run_rhymes(letters, tmp_path, batch=4, out=str(tmp_path / "whole"))
    parts = run_rhymes(letters, tmp_path, batch=2, accumulate=2, out=str(tmp_path / "parts"))
    arrays = [mx.load(str(run.folder / "last" / "model.safetensors")) for run in (whole, parts)]
    for name, array in arrays[0].items():  # type: ignore[union-attr]
        assert np.abs(np.array(array - arrays[1][name])).max() < 2e-5, name  # type: ignore[index,call-overload]


def test_a_new_model_from_the_dial_with_a_tokenizer_of_its_corpus(letters: Path, tmp_path: Path) -> None:
    finished = run_rhymes(letters, tmp_path, config=None, size=1, tokenizer=TokenizerSource(train=280), steps=2)
    config = finished.prepared.source.config
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (1, 64, 280)
    _, tokenizer = load(finished.folder / "last")
    assert tokenizer.eos_id == tokenizer.id_of("<|end_of_text|>")


def test_continual_pretraining_mixes_a_share_of_replay(letters: Path, tmp_path: Path) -> None:
    old = write_rhymes(tmp_path / "old.jsonl", 200)
    finished = run_rhymes(
        letters,
        tmp_path,
        config=None,
        tokenizer=None,
        checkpoint=str(letters),
        replay=Replay(path=str(old), share=0.25),
        data=(CorpusPart(path=str(write_rhymes(tmp_path / "new.jsonl", 100)), name="new"),),
        steps=20,
    )
    shares = {entry.name: entry.share for entry in finished.ledger}
    assert shares == pytest.approx({"new": 0.75, "replay": 0.25}, abs=0.02)
    assert [part.name for part in finished.prepared.corpus.valid] == ["new", "replay"]
    before, after = (bits(folder) for folder in (letters, finished.folder / "last"))
    assert before.keys() == after.keys() and all(before[name] != after[name] for name in before)
    assert finished.evaluations[-1]["loss"] < finished.evaluations[0]["loss"]


def test_weights_set_the_shares_of_the_parts(letters: Path, tmp_path: Path) -> None:
    parts = tuple(
        CorpusPart(path=str(write_rhymes(tmp_path / f"{name}.jsonl", count)), weight=weight)
        for name, count, weight in (("few", 20, 3.0), ("many", 60, 1.0))
    )
    finished = run_rhymes(letters, tmp_path, data=parts, steps=12)
    assert {entry.name: entry.share for entry in finished.ledger} == pytest.approx(
        {"few": 0.75, "many": 0.25}, abs=0.03
    )


# ---- interruptions


def test_ctrl_c_finishes_the_current_step_and_the_same_call_resumes(
    letters: Path, tmp_path: Path, undisturbed: FinishedRun
) -> None:
    pressed = RunCallbacks(step=lambda step, loss, trained: step == 5 and signal.raise_signal(signal.SIGINT))
    stopped = run_rhymes(letters, tmp_path, pressed)
    assert (stopped.result.stopped, stopped.state.step) == (True, 5)
    assert not (tmp_path / "run" / "last").exists()
    run_rhymes(letters, tmp_path)
    assert same_as(tmp_path / "run", undisturbed.folder)


@pytest.mark.slow
def test_a_run_killed_repeatedly_ends_with_the_same_bits(
    letters: Path, tmp_path: Path, undisturbed: FinishedRun
) -> None:
    chance, kills = random.Random(5), 0
    for _ in range(3):
        arguments = [sys.executable, "-c", CHILD, str(letters), str(tmp_path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as child:
            assert child.stdout is not None
            for _ in range(chance.randint(3, 9)):
                child.stdout.readline()
            child.kill()
            child.wait()
            kills += child.returncode == -signal.SIGKILL
    assert kills >= 2
    run_rhymes(letters, tmp_path)
    assert same_as(tmp_path / "run", undisturbed.folder)


def test_a_finished_run_reports_the_same_result_again(letters: Path, tmp_path: Path, undisturbed: FinishedRun) -> None:
    first = run_rhymes(letters, tmp_path)
    again = run_rhymes(letters, tmp_path)
    assert (again.state, again.ledger, again.evaluations) == (first.state, first.ledger, first.evaluations)
    assert same_as(tmp_path / "run", undisturbed.folder)


# ---- user errors


def test_resuming_with_other_settings_lists_every_change(letters: Path, tmp_path: Path) -> None:
    run_rhymes(letters, tmp_path, steps=2)
    run_rhymes(letters, tmp_path, steps=2, log_every=5, sample_tokens=2)
    with pytest.raises(UserError) as caught:
        run_rhymes(letters, tmp_path, steps=2, seed=1, isolate=True)
    assert {detail.split(":")[0] for detail in caught.value.details} == {"seed", "isolate", "corpus.isolate"}


def test_a_changed_corpus_is_refused(letters: Path, tmp_path: Path) -> None:
    run_rhymes(letters, tmp_path, steps=1)
    write_rhymes(tmp_path / "rhymes.jsonl", 41)
    with pytest.raises(UserError, match="The corpus has changed since it was tokenized"):
        run_rhymes(letters, tmp_path, steps=1)


def test_another_model_in_the_same_folder_is_refused(letters: Path, tmp_path: Path) -> None:
    run_rhymes(letters, tmp_path, steps=1)
    with pytest.raises(UserError) as caught:
        run_rhymes(letters, tmp_path, steps=1, config=None, tokenizer=None, checkpoint=str(letters))
    assert any(detail.startswith("checkpoint: was none") for detail in caught.value.details)


def test_a_corpus_of_one_token_is_refused(letters: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UserError, match="There is no text in the corpus"):
        run_rhymes(letters, tmp_path, data=(CorpusPart(path=str(tmp_path / "empty.txt")),))


def test_a_run_that_cannot_fit_is_refused_before_the_model_is_made(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_rhymes(letters, tmp_path, batch=50_000_000)
    assert caught.value.what.startswith("This run needs far more memory than is available")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
