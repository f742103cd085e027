"""What a finetuning run has left in its folder: `best/` and `last/`, an adapter or a whole model each."""

from pathlib import Path

from mlx_suite.runtime.errors import UserError

NAMES = ("best", "last")
"""The results of a run, the better one first."""

ADAPTER, MODEL = "adapter_config.json", "config.json"


def adapter_folder(folder: Path) -> Path:
    """`folder`, or the best adapter in it, or else the last, where it is a run's.

    Raises UserError where there is no such folder, and where the run has trained a whole model or nothing yet.
    """
    if not folder.is_dir():
        raise UserError("There is no such folder", where=str(folder), fix="name the folder of an adapter or of a run")
    if not (folder / ADAPTER).is_file():
        if found := _result(folder, ADAPTER):
            return found
        if model := _result(folder, MODEL):
            raise UserError(
                "This run has trained the whole model, so there is no adapter",
                where=str(folder),
                fix=f"use {model} as the model, without --adapter",
            )
    return folder


def model_folder(folder: Path) -> Path:
    """`folder`, or the best model in it, or else the last, where it is a run's that has trained a whole one.

    Raises UserError where the run has trained an adapter.
    """
    if not (folder / MODEL).is_file():
        if found := _result(folder, MODEL):
            return found
        if _result(folder, ADAPTER) or (folder / ADAPTER).is_file():
            raise UserError(
                "This folder holds an adapter, which needs the model it was trained on",
                where=str(folder),
                fix=f"name that model, and --adapter {folder}",
            )
    return folder


def _result(folder: Path, file: str) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name / file).is_file()), None)
