"""TensorBoard and W&B log each step once, also after a resume."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.training.loggers import check_loggers, numbers, open_logger

SETTINGS = {"model": "tiny-llama3", "modules": ("q_proj", "v_proj"), "learning_rate": None}


def train_line(step: int, loss: float = 1.0) -> dict[str, Any]:
    return {"kind": "train", "step": step, "loss": loss, "learning_rate": 2e-4, "tokens": 100 * step}


def valid_line(step: int, loss: float = 2.0) -> dict[str, Any]:
    return {"kind": "valid", "step": step, "loss": loss, "best": True}


def log(names: tuple[str, ...], run: Path, *lines: dict[str, Any]) -> None:
    logger = open_logger(names, run, SETTINGS)
    for line in lines:
        logger.log(line)
    logger.close()


# ---- log lines


def test_each_number_of_a_line_is_a_curve() -> None:
    assert numbers(train_line(10)) == {"train/loss": 1.0, "train/learning_rate": 2e-4, "train/tokens": 1000.0}
    assert numbers(valid_line(10)) == {"valid/loss": 2.0}


def test_without_loggers_nothing_is_written(tmp_path: Path) -> None:
    log((), tmp_path, train_line(1))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_with_its_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboardX", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as caught:
        open_logger(("tensorboard", "wandb"), tmp_path, SETTINGS)
    assert "tensorboardX and wandb are not installed" in str(caught.value)
    assert "pip install 'mlx-suite[tensorboard,wandb]'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="wandb is not installed"):
        check_loggers(["wandb"])


# ---- TensorBoard


def tensorboard_events(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Events as TensorBoard shows them, in file order; a restart purges events starting at its step."""
    tensorboard = pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    assert tensorboard
    shown: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for path in sorted((run / "tensorboard").iterdir(), key=lambda path: path.name):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                for tag in shown:
                    shown[tag] = [point for point in shown[tag] if point[0] < event.step]
            for value in event.summary.value:
                shown[value.tag].append((event.step, value.simple_value))
    return shown


def test_tensorboard_gets_every_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    log(("tensorboard",), tmp_path, valid_line(0), train_line(5, 1.5), train_line(10, 1.25), valid_line(10))
    shown = tensorboard_events(tmp_path)
    assert shown["train/loss"] == [(5, 1.5), (10, 1.25)]
    assert shown["valid/loss"] == [(0, 2.0), (10, 2.0)]
    assert any(tag.startswith("settings") for tag in shown)


def test_tensorboard_shows_repeated_steps_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    import time

    log(("tensorboard",), tmp_path, *(train_line(step, 1.0) for step in (5, 10, 15)))
    # File names contain the time in seconds.
    later = time.time() + 2
    monkeypatch.setattr(time, "time", lambda: later)
    # Resume from step 8.
    log(("tensorboard",), tmp_path, *(train_line(step, 0.5) for step in (10, 15, 20)))
    assert tensorboard_events(tmp_path)["train/loss"] == [(5, 1.0), (10, 0.5), (15, 0.5), (20, 0.5)]


# ---- W&B


class FakeWandb(ModuleType):
    """Records calls by run id."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, Any]] = []
        self.logged: dict[str, list[tuple[int, dict[str, float]]]] = defaultdict(list)
        self.refuses = ""

    def init(self, **given: Any) -> Any:
        if self.refuses:
            raise self.Error(self.refuses)
        self.started.append(given)
        lines = self.logged[given["id"]]

        class Run:
            def log(self, values: dict[str, float], step: int) -> None:
                lines.append((step, values))

            def finish(self) -> None:
                lines.append((-1, {}))

        return Run()


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_a_resumed_run_continues_its_wandb_run_and_logs_no_step_twice(tmp_path: Path, wandb: FakeWandb) -> None:
    run = tmp_path / "mine"
    run.mkdir()
    log(("wandb",), run, valid_line(0), train_line(5), train_line(10))  # killed before the evaluation of step 10
    log(("wandb",), run, train_line(10), valid_line(10), train_line(15))
    one, other = wandb.started
    assert one["id"] == other["id"] and one["resume"] == "allow"
    assert one["name"] == "mine" and one["project"] == "mlx-suite" and one["dir"] == str(run)
    assert one["config"] == {"model": "tiny-llama3", "modules": ["q_proj", "v_proj"], "learning_rate": None}
    lines = [(step, set(values)) for step, values in wandb.logged[one["id"]]]
    train = {"train/loss", "train/learning_rate", "train/tokens"}
    ended = (-1, set[str]())
    assert lines == [
        *((0, {"valid/loss"}), (5, train), (10, train), ended),
        *((10, {"valid/loss"}), (15, train), ended),
    ]


def test_another_folder_is_another_wandb_run(tmp_path: Path, wandb: FakeWandb) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        log(("wandb",), tmp_path / name, train_line(1))
    assert wandb.started[0]["id"] != wandb.started[1]["id"]


def test_wandb_without_an_account_is_an_error_with_a_fix(tmp_path: Path, wandb: FakeWandb) -> None:
    wandb.refuses = "No API key configured.\nUse `wandb login`"
    with pytest.raises(UserError) as caught:
        open_logger(("wandb",), tmp_path, SETTINGS)
    assert "No API key configured." in caught.value.what and "WANDB_MODE=offline" in caught.value.fix


def test_both_loggers_work_together(tmp_path: Path, wandb: FakeWandb) -> None:
    pytest.importorskip("tensorboardX")
    log(("tensorboard", "wandb"), tmp_path, train_line(3, 0.25))
    assert tensorboard_events(tmp_path)["train/loss"] == [(3, 0.25)]
    [lines] = wandb.logged.values()
    assert lines[0][0] == 3


@pytest.mark.slow
def test_the_real_wandb_runs_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for lines in ([train_line(5), valid_line(5)], [train_line(5), train_line(10)]):
        log(("wandb",), tmp_path, *lines)
    kept = json.loads((tmp_path / "wandb.json").read_text())
    assert kept["told"] == {"train": 10, "valid": 5}
    assert len(list(tmp_path.glob(f"wandb/offline-run-*/run-{kept['id']}.wandb"))) == 2
