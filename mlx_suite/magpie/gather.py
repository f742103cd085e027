"""The drafts of several processes, put into the one file `drafts.jsonl` again.

Of a row that stands in a file twice the last line counts. Between files there would be no last one: so whoever begins
to work on a folder, with however many processes, first puts what the last run's others have left behind its own.
"""

import os
from pathlib import Path

from mlx_suite.curation.dataset import DRAFTS_FILE
from mlx_suite.magpie.drafts import DRAFTS_FILES
from mlx_suite.runtime.files import disk_errors, sync_folder
from mlx_suite.runtime.journal import Journal

CHUNK = 1 << 20


def gather_drafts(folder: Path) -> None:
    """Append the other files to `drafts.jsonl` and delete them. The folder is locked by this process.

    A kill in between costs nothing: what has been copied already is copied once more, and says the same.

    Raises UserError for a line that is broken, for a file that a process of an earlier run still writes to, or where
    the disk takes nothing more.
    """
    own = folder / DRAFTS_FILE
    others = sorted(path for path in folder.glob(DRAFTS_FILES) if path != own)
    if not others:
        return
    with Journal(own):  # a torn last line would be torn in the middle of the file
        for path in others:
            with Journal(path):
                _append(path, own)
                path.unlink()
    sync_folder(folder)


def _append(path: Path, own: Path) -> None:
    """Put the bytes of `path` behind those of `own`, or none of them."""
    size = own.stat().st_size
    with disk_errors(own, kept="All drafts are kept"), path.open("rb") as source, own.open("ab") as target:
        try:
            while chunk := source.read(CHUNK):
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        except OSError:
            os.truncate(own, size)
            raise
