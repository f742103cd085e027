"""Two processes sharing each batch train like one, and the death of one loses nothing.

They connect through MLX's ring backend on localhost. Each has its own folder, to show which one writes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.training import process_group
from mlx_suite.training.process_group import ProcessGroup, lost_process
from tests.training.toy import STEPS, bits, train_toy

REPOSITORY = Path(__file__).parents[2]
SECONDS = 60
"""Timeout after which a process counts as hanging."""

CHILD = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.train_step import TrainStep
from mlx_suite.training.process_group import join
from tests.training.toy import train_toy

folder, steps, dies_at, signal_ = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[5])
run, steps_run = TrainStep.run, []

def run_or_die(*arguments):
    steps_run.append(1)
    if len(steps_run) == dies_at:
        os.kill(os.getpid(), signal_)
    return run(*arguments)

TrainStep.run = run_or_die
try:
    train_toy(folder, steps=steps, horizon=12, eval_every=4, group=replace(join(), patience=float(sys.argv[4])))
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def start(
    folder: Path,
    steps: int = STEPS,
    dies_at: tuple[int, int] = (0, 0),
    by: signal.Signals = signal.SIGKILL,
    patience: float = 100.0,
) -> list[subprocess.Popen[str]]:
    """Start two processes that train the toy; rank 1 has the folder "second".

    `dies_at` is, for each rank, the step at which it sends itself the signal `by`; 0 for never.
    """
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in (first, second)]
    folder.parent.mkdir(exist_ok=True)
    (folder.parent / "hosts.json").write_text(json.dumps(hosts))
    ring = {"MLX_HOSTFILE": str(folder.parent / "hosts.json"), "MLX_DISABLE_COMPILE": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(own_folder), *map(str, (steps, dies_at[rank], patience, int(by)))],
            cwd=REPOSITORY,
            env=os.environ | ring | {"MLX_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, own_folder in enumerate((folder, folder.with_name("second")))
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and stderr of each process. One that hangs is killed and fails the test."""
    try:
        errors = [process.communicate(timeout=SECONDS)[1] for process in processes]
        return [(process.returncode, text) for process, text in zip(processes, errors, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def trained(folder: Path, **how: Any) -> None:
    results = ended(start(folder, **how))
    assert [code for code, _ in results] == [0, 0], results


def saved_weights(run: Path) -> dict[str, np.ndarray]:
    arrays = mx.load(str(run / "checkpoint" / "model.safetensors"))
    assert isinstance(arrays, dict)
    return {name: np.array(array) for name, array in arrays.items()}


def same_weights(one: Path, other: Path) -> None:
    expected = saved_weights(other)
    for name, array in saved_weights(one).items():
        assert np.abs(array - expected[name]).max() < 1e-5, name


def alone(folder: Path) -> Path:
    mx.disable_compile()
    train_toy(folder, eval_every=4)
    mx.enable_compile()
    return folder


# ---- two processes


def test_two_processes_with_half_a_batch_each_train_like_one_and_only_rank_0_writes(tmp_path: Path) -> None:
    trained(tmp_path / "two" / "run")
    one = alone(tmp_path / "one")
    same_weights(tmp_path / "two" / "run", one)
    assert list((tmp_path / "two" / "second").iterdir()) == []

    logs = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path / "two" / "run", one)
    ]
    for together, by_one in zip(*logs, strict=True):
        assert (together["kind"], together["step"]) == (by_one["kind"], by_one["step"])
        assert together["loss"] == pytest.approx(by_one["loss"], abs=2e-5)
        assert together.get("tokens") == by_one.get("tokens")


def test_a_lost_process_ends_the_other_with_an_error_and_a_checkpoint_to_resume_from(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (code, error), (killed, _) = ended(start(run, dies_at=(0, 7)))
    assert (code, killed) == (2, -signal.SIGKILL)
    assert error[error.index("error:") :].splitlines() == [
        "error: Another process of this run has exited",
        "       - the checkpoint of step 4 is intact",
        f"where: {run}",
        "fix:   see that process's own error message, then repeat the command",
    ]
    alone(run)
    same_weights(run, alone(tmp_path / "one"))


@pytest.mark.slow
def test_losing_rank_0_ends_rank_1(tmp_path: Path) -> None:
    (killed, _), (code, error) = ended(start(tmp_path / "run", dies_at=(7, 0)))
    assert (killed, code) == (-signal.SIGKILL, 2)
    assert "error: Another process of this run has exited" in error


@pytest.mark.slow
def test_waiting_for_an_unresponsive_process_times_out(tmp_path: Path) -> None:
    first, second = start(tmp_path / "run", dies_at=(0, 7), by=signal.SIGSTOP, patience=5.0)
    [(code, error)] = ended([first])
    ended_second = second.poll()
    second.kill()
    second.communicate()
    assert (code, ended_second) == (2, None)
    assert "error: Another process of this run has not responded for 5 seconds" in error
    assert json.loads((tmp_path / "run" / "checkpoint" / "state.json").read_text())["step"] == 4


@pytest.mark.slow
def test_resume_with_two_processes_is_bit_exact(tmp_path: Path) -> None:
    trained(tmp_path / "whole" / "run")
    trained(tmp_path / "parts" / "run", steps=5)
    trained(tmp_path / "parts" / "run")
    assert bits(tmp_path / "parts" / "run") == bits(tmp_path / "whole" / "run")


@pytest.mark.slow
def test_a_checkpoint_that_rank_0_cannot_use_ends_rank_1_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(run, steps=4)
    (run / "checkpoint" / "model.safetensors").write_bytes(b"damaged")
    (first, error), (second, other_error) = ended(start(run))
    assert (first, second) == (2, 2)
    assert "error: The checkpoint cannot be used: model.safetensors is damaged or was modified" in error
    assert "error: Another process of this run has exited" in other_error


# ---- one process


def test_a_group_of_one_returns_its_input() -> None:
    tree = {"a": mx.array([1.0, 2.0]), "b": [mx.array(3)]}
    assert ProcessGroup().all_sum(tree) is tree
    assert ProcessGroup().broadcast(tree) is tree


def test_arrays_are_sent_in_messages_of_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "MESSAGE_BYTES", 12)
    sent: list[list[float]] = []

    def all_sum(array: mx.array, group: object) -> mx.array:
        sent.append(array.tolist())  # type: ignore[arg-type]
        return 2 * array  # as if the other rank had the same values

    monkeypatch.setattr(mx.distributed, "all_sum", all_sum)
    tree = {"a": mx.array([1.0, 2.0]), "b": mx.array(7), "c": {"d": mx.array([[3.0], [4.0]]), "e": mx.array(5.0)}}
    summed = ProcessGroup(rank=0, size=2).all_sum(tree)
    assert sent == [[1.0, 2.0, 3.0, 4.0], [5.0], [7]]
    assert summed["c"]["d"].tolist() == [[6.0], [8.0]]  # type: ignore[index]
    assert (summed["a"].tolist(), summed["b"].item()) == ([2.0, 4.0], 14)  # type: ignore[attr-defined]
    assert (summed["b"].dtype, summed["b"].shape) == (mx.int32, ())  # type: ignore[attr-defined]


def test_only_connection_errors_are_turned_into_a_user_error() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), lost_process(Path("run"), lambda: 3):
        raise RuntimeError("[malloc] out of memory")
    with pytest.raises(UserError, match="Another process of this run has exited"), lost_process(Path("run"), lambda: 3):
        raise RuntimeError("[ring] connection to a peer was lost")
