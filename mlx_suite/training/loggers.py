"""Loggers in addition to metrics.jsonl: TensorBoard and Weights & Biases, through their own libraries.

Both write to the run folder: event files in tensorboard/, the W&B run in wandb/, its id and last logged steps in
wandb.json, so that a resumed run continues the same curves and logs no step twice.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically

Entry = Mapping[str, Any]
"""A line of metrics.jsonl."""


class Logger(Protocol):
    """Receives every line of metrics.jsonl."""

    def log(self, entry: Entry) -> None: ...

    def close(self) -> None: ...


def open_logger(names: Sequence[str], run: Path, settings: Mapping[str, Any]) -> Logger:
    """One logger that forwards to all of `names`; without names it does nothing.

    Args:
        names: Names from `LOGGERS` in the settings.
        run: Run folder.
        settings: Settings to show next to the curves.

    Raises UserError for a library that is not installed, and for W&B without an account.
    """
    check_loggers(names)
    return _Several([_KINDS[name](run, settings) for name in dict.fromkeys(names)])


def check_loggers(names: Sequence[str]) -> None:
    """Raise UserError that lists every requested library that is not installed."""
    missing = [name for name in dict.fromkeys(names) if not _installed(name)]
    if missing:
        libraries = " and ".join(_LIBRARIES[name] for name in missing)
        raise UserError(
            f"{libraries} {'is' if len(missing) == 1 else 'are'} not installed",
            where=f"--loggers {','.join(names)}",
            fix=f"pip install 'mlx-suite[{','.join(missing)}]'",
        )


class _Several:
    def __init__(self, loggers: list[Logger]) -> None:
        self._loggers = loggers

    def log(self, entry: Entry) -> None:
        for logger in self._loggers:
            logger.log(entry)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()


class _TensorBoard:
    """Event files in run/tensorboard: `tensorboard --logdir RUN` shows them."""

    def __init__(self, run: Path, settings: Entry) -> None:
        self._folder = run / "tensorboard"
        self._settings = settings
        self._writer: Any = None

    def log(self, entry: Entry) -> None:
        if self._writer is None:
            self._writer = self._open(entry["step"])
        for name, value in numbers(entry).items():
            self._writer.add_scalar(name, value, entry["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> Any:
        """A writer that starts at `step`; events from an earlier start at or after `step` are purged."""
        resumed = self._folder.exists()
        writer = import_module("tensorboardX").SummaryWriter(str(self._folder), purge_step=step if resumed else None)
        if not resumed:
            writer.add_text("settings", _table(self._settings), 0)
        return writer


class _WandB:
    """A W&B run; with WANDB_MODE=offline it stays in the run folder until `wandb sync`."""

    def __init__(self, run: Path, settings: Entry) -> None:
        self._path = run / "wandb.json"
        self._saved = _read(self._path) or {"id": uuid4().hex[:12], "told": {}}
        wandb = import_module("wandb")
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "mlx-suite"),
                name=run.resolve().name,
                id=self._saved["id"],
                resume="allow",
                dir=str(run),
                config=json.loads(json.dumps(dict(settings))),
            )
        except wandb.Error as error:
            raise UserError(
                f"W&B cannot start: {(str(error).splitlines() or ['no reason given'])[0]}",
                where="--loggers wandb",
                fix="wandb login, or set WANDB_MODE=offline",
            ) from error

    def log(self, entry: Entry) -> None:
        logged, kind, step = self._saved["told"], entry["kind"], entry["step"]
        # W&B cannot overwrite a step, and a repeated step has the same values.
        if step <= logged.get(kind, -1):
            return
        self._run.log(numbers(entry), step=step)
        logged[kind] = step
        write_atomically(self._path, json.dumps(self._saved) + "\n")

    def close(self) -> None:
        self._run.finish()


def numbers(entry: Entry) -> dict[str, float]:
    """The numbers of a line by curve name, such as "train/loss"."""
    return {
        f"{entry['kind']}/{name}": float(value)
        for name, value in entry.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _installed(name: str) -> bool:
    try:
        import_module(_LIBRARIES[name])
    except ImportError:
        return False
    return True


def _table(settings: Entry) -> str:
    """Settings as a Markdown table, which TensorBoard renders."""
    rows = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in settings.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        saved = json.loads(path.read_text())
        return saved if isinstance(saved["id"], str) and isinstance(saved["told"], dict) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


_LIBRARIES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
_KINDS: dict[str, Callable[[Path, Entry], Logger]] = {"tensorboard": _TensorBoard, "wandb": _WandB}
