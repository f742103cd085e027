"""What a corpus consisted of when it was tokenized: names, sizes and checksums of its files."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_suite.data.read.sources import DataFile
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sha256_of


def source_state(files: Sequence[DataFile], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Size, modification time and SHA-256 of each file by its name.

    A file with the size and time of `known`, an earlier state, is not read again. Raises UserError for a file that
    cannot be read.
    """
    state: dict[str, Any] = {}
    for file in files:
        before = (known or {}).get(file.name)
        try:
            status = file.path.stat()
            now: dict[str, Any] = {"bytes": status.st_size, "changed_ns": status.st_mtime_ns}
            if before and all(before.get(key) == value for key, value in now.items()):
                now = dict(before)
            else:
                now["sha256"] = sha256_of(file.path)
        except OSError as error:
            raise UserError(
                f"the file cannot be read: {error.strerror or error}",
                where=str(file.path),
                fix="check the path and its permissions",
            ) from error
        state[file.name] = now
    return state


def source_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each file that is new, missing, or has another content; its modification time does not count."""
    lines = []
    for name in sorted({*before, *now}):
        if name not in now:
            lines.append(f"{name} is missing now")
        elif name not in before:
            lines.append(f"{name} is new")
        elif before[name]["sha256"] != now[name]["sha256"]:
            lines.append(f"{name} had {before[name]['bytes']:,} bytes, now {now[name]['bytes']:,}, of other content")
    return lines
