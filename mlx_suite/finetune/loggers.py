"""Where a run's lines go besides its own metrics.jsonl: TensorBoard and Weights & Biases, by their own libraries.

Both keep what is in the run's folder: tensorboard/ the event files, wandb/ the run of W&B, wandb.json its id and how
far it has come, so that a run that is continued is continued there too and no step is told twice.
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
    """Something that is told the lines of a run."""

    def log(self, entry: Entry) -> None: ...

    def close(self) -> None: ...


def open_logger(names: Sequence[str], run: Path, settings: Mapping[str, Any]) -> Logger:
    """One logger for all of `names`; it does nothing where there is none.

    Args:
        names: Of `LOGGERS` in the settings.
        run: The run's folder.
        settings: Shown beside the curves.

    Raises UserError for a library that is not installed and for W&B without an account; nothing is opened then.
    """
    check_loggers(names)
    return _Several([_KINDS[name](run, settings) for name in dict.fromkeys(names)])


def check_loggers(names: Sequence[str]) -> None:
    """Raises UserError that lists every library that is wanted and not installed."""
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
        """A writer that begins at `step`: what an earlier start has told of it and of later ones is purged."""
        begun = self._folder.exists()
        writer = import_module("tensorboardX").SummaryWriter(str(self._folder), purge_step=step if begun else None)
        if not begun:
            writer.add_text("settings", _table(self._settings), 0)
        return writer


class _WandB:
    """A run of W&B; WANDB_MODE=offline keeps it in the folder until `wandb sync`."""

    def __init__(self, run: Path, settings: Entry) -> None:
        self._path = run / "wandb.json"
        self._kept = _read(self._path) or {"id": uuid4().hex[:12], "told": {}}
        wandb = import_module("wandb")
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "mlx-suite"),
                name=run.resolve().name,
                id=self._kept["id"],
                resume="allow",
                dir=str(run),
                config=json.loads(json.dumps(dict(settings))),
            )
        except wandb.Error as error:
            raise UserError(
                f"W&B does not start: {(str(error).splitlines() or ['no reason given'])[0]}",
                where="--loggers wandb",
                fix="wandb login; or WANDB_MODE=offline, and wandb sync later",
            ) from error

    def log(self, entry: Entry) -> None:
        told, kind, step = self._kept["told"], entry["kind"], entry["step"]
        # W&B takes nothing back, and the values of a step that is done again are the same.
        if step <= told.get(kind, -1):
            return
        self._run.log(numbers(entry), step=step)
        told[kind] = step
        write_atomically(self._path, json.dumps(self._kept) + "\n")

    def close(self) -> None:
        self._run.finish()


def numbers(entry: Entry) -> dict[str, float]:
    """The curves of a line: "train/loss" and so on."""
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
    """Settings as a table of Markdown, which TensorBoard shows."""
    rows = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in settings.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text())
        return kept if isinstance(kept["id"], str) and isinstance(kept["told"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


_LIBRARIES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
_KINDS: dict[str, Callable[[Path, Entry], Logger]] = {"tensorboard": _TensorBoard, "wandb": _WandB}
