"""GGUF files used as models: each is imported once into a cache folder, and again only after it has changed.

The cache is `mlx-suite/gguf` in HF_HOME, next to the hub cache.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_suite.gguf.importing import SOURCE_FILE, OnBytes, import_gguf, source_of
from mlx_suite.hub.ollama_store import verify_blob
from mlx_suite.runtime.files import json_if_any, own_cache
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.runtime.progress import Progress

LOCKS = ".locks"
MEGABYTE = 1_000_000


def imported_folder(file: Path, name: str, progress: bool = True) -> Path:
    """The checkpoint folder of a GGUF file, imported unless it already is.

    Args:
        name: What the user calls the model.
        progress: Whether to say on stderr what is imported or reused, and what the file lacks.

    Before the import, a blob of Ollama's is compared with its digest. Raises UserError if they differ, as `import_gguf`
    does, and while another process imports the file.
    """
    source = source_of(file)
    kept = {key: source[key] for key in ("file", "packed")}
    key = hashlib.sha256(repr(kept).encode()).hexdigest()[:8]
    stem = file.stem if file.suffix else re.sub(r"[^\w.-]+", "-", name)  # Ollama's files have no name of their own
    folder = cache_folder() / f"{stem}-{key}"
    if not _is_of(folder, source):
        with folder_lock(cache_folder() / LOCKS / folder.name):
            if not _is_of(folder, source):
                verify_blob(file)
                _import(file, folder, name, progress)
                return folder
    if progress:
        print(f"Using {name} as imported into {folder}", file=sys.stderr)
    return folder


@contextmanager
def import_progress() -> Iterator[OnBytes]:
    """A progress line on stderr; yields the `on_bytes` of `import_gguf`."""
    with Progress("import", total=None, unit="MB") as line:

        def advance(done: int, total: int) -> None:
            line.total = total // MEGABYTE
            line.update(done // MEGABYTE)

        yield advance


def cache_folder() -> Path:
    """Where imported files are kept; the folder need not exist."""
    return own_cache() / "gguf"


def _is_of(folder: Path, source: dict[str, object]) -> bool:
    return json_if_any(folder / SOURCE_FILE) == source


def _import(file: Path, folder: Path, name: str, progress: bool) -> None:
    if not progress:
        import_gguf(file, folder)
        return
    print(f"Importing {name} once, into {folder}", file=sys.stderr)
    with import_progress() as on_bytes:
        imported = import_gguf(file, folder, on_bytes=on_bytes)
    for sentence in imported.missing:
        print(f"note: {sentence}", file=sys.stderr)
