"""Output folders of jobs that generate texts.

`settings.json` holds everything the texts depend on; a folder is resumed only with the same settings. Each text is
appended to a journal immediately, and all other files are written from it at the end, atomically.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.lock import LOCK_NAME, folder_lock
from mlx_suite.runtime.resume import Facts, differences, facts_text, refuse_other, stored_facts

SETTINGS_FILE = "settings.json"


@contextmanager
def open_stage(folder: Path, kind: str, facts: Facts) -> Iterator[None]:
    """Lock the folder for this process, creating it if necessary.

    Args:
        kind: The stage, as stored in the settings: "mlx-suite magpie pairs".
        facts: Everything the texts depend on, as JSON values.

    Raises UserError for a folder that is not ours, was started with other settings, or is in use.
    """
    path = folder / SETTINGS_FILE
    with disk_errors(folder):
        if folder.is_dir() and not path.exists():
            _check_empty(folder)
        with folder_lock(folder):
            if path.exists():
                # The model's name is for the record; its weights decide.
                refuse_other(differences(stored_facts(path, kind), facts, ignored=["model"]), folder)
            else:
                write_atomically(path, facts_text(kind, facts))
            yield


def _check_empty(folder: Path) -> None:
    # A kill while the settings are written leaves a partial file.
    ours = (LOCK_NAME, f".{SETTINGS_FILE}.partial")
    foreign = sorted(each.name for each in folder.iterdir() if not each.name.startswith(ours))
    if foreign:
        raise UserError(
            f"The folder holds {foreign[0]!r} but no {SETTINGS_FILE} that says how it was made",
            where=str(folder),
            fix="choose another folder with --out",
        )
