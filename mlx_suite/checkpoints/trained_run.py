"""Results in the folder of a finetuning run: `best/` and `last/`, each an adapter or a full model."""

from pathlib import Path

from mlx_suite.runtime.errors import UserError

NAMES = ("best", "last")
"""Results of a run, in order of preference."""

ADAPTER, MODEL = "adapter_config.json", "config.json"


def adapter_folder(folder: Path) -> Path:
    """`folder` itself, or the best (else the last) adapter in the folder of a run.

    Raises UserError if the folder does not exist or the run trained the full model.
    """
    if not folder.is_dir():
        raise UserError("There is no such folder", where=str(folder), fix="give the folder of an adapter or of a run")
    if not (folder / ADAPTER).is_file():
        if found := _result(folder, ADAPTER):
            return found
        if model := _result(folder, MODEL):
            raise UserError(
                "This run trained the full model, so there is no adapter",
                where=str(folder),
                fix=f"use {model} as the model, without --adapter",
            )
    return folder


def model_folder(folder: Path) -> Path:
    """`folder` itself, or the best (else the last) model in the folder of a full finetuning run.

    Raises UserError if the folder contains an adapter.
    """
    if not (folder / MODEL).is_file():
        if found := _result(folder, MODEL):
            return found
        if _result(folder, ADAPTER) or (folder / ADAPTER).is_file():
            raise UserError(
                "This folder contains an adapter, which needs its base model",
                where=str(folder),
                fix=f"give the base model, with --adapter {folder}",
            )
    return folder


def _result(folder: Path, file: str) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name / file).is_file()), None)
