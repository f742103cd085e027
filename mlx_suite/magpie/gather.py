"""Merge the workers' draft files into `drafts.jsonl`.

If a row has two lines in a file, the last one counts; across files the order is unknown. So every run, with any number
of workers, first appends the draft files left by the other workers of the run before it.
"""

import os
from pathlib import Path

from mlx_suite.curation.dataset import DRAFTS_FILE
from mlx_suite.magpie.records import DRAFTS_GLOB
from mlx_suite.runtime.files import disk_errors, sync_folder
from mlx_suite.runtime.journal import Journal

CHUNK = 1 << 20


def gather_drafts(folder: Path) -> None:
    """Append the other draft files to `drafts.jsonl` and delete them. This process must hold the folder's lock.

    A kill in between is harmless: drafts already copied are copied again, with the same content.

    Raises UserError for a broken line, a file that a worker of an earlier run still writes to, or a full disk.
    """
    own = folder / DRAFTS_FILE
    others = sorted(path for path in folder.glob(DRAFTS_GLOB) if path != own)
    if not others:
        return
    with Journal(own):  # cuts off a torn last line, which would end up in the middle
        for path in others:
            with Journal(path):
                _append(path, own)
                path.unlink()
    sync_folder(folder)


def _append(path: Path, own: Path) -> None:
    """Append the bytes of `path` to `own`, or leave `own` unchanged."""
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
