"""Where a stage may write: to a new folder, an empty one, or one that the same stage has filled before."""

from collections.abc import Callable
from pathlib import Path

from mlx_suite.runtime.errors import UserError


def check_output(out: Path, is_ours: Callable[[Path], bool], source: str | Path, *, force: bool) -> None:
    """Raise UserError unless `out` may be replaced.

    `is_ours` knows the folders that this stage has filled. `force` lets it take the place of another one, but never of
    what is read: of `source`, or of a folder around it.
    """
    read = Path(source).expanduser()
    if read.exists() and _holds(out.resolve(), read.resolve()):
        raise UserError(
            "This would take the place of the data that are read",
            where=f"--out {out}",
            fix="choose another folder",
        )
    if out.is_file():
        raise UserError(
            "There is a file of this name; a folder is made", where=f"--out {out}", fix="choose another name"
        )
    inside = [path.name for path in out.iterdir() if path.is_dir()] if out.is_dir() else []
    if inside:
        raise UserError(
            f"The folder holds other folders ({', '.join(sorted(inside)[:3])}); it is not replaced",
            where=f"--out {out}",
            fix="choose another folder, or move these away",
        )
    if out.is_dir() and any(out.iterdir()) and not is_ours(out) and not force:
        raise UserError(
            "The folder holds something that this command has not made",
            where=f"--out {out}",
            fix="choose another folder, or give --force to replace it with all that is in it",
        )


def _holds(folder: Path, path: Path) -> bool:
    return folder == path or folder in path.parents
