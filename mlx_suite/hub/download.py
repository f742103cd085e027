"""Resumable downloads of weight files into the hub cache.

`huggingface_hub` 2.4 deletes a partial file when a download is interrupted (`_download_to_tmp_and_move`; its issue
4196), which can cost a shard of several gigabytes. Here the partial file stays in the cache as
`blobs/<etag>.incomplete`, and the next attempt, in this process or another, requests only the rest. A finished file is
checked against the hub's SHA-256 and moved to where `snapshot_download` looks for it.

Set HF_XET_HIGH_PERFORMANCE=1 to use the hub's Xet client instead: several connections per file, but an interrupted
file starts over.
"""

import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import FileMetadataError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import (  # type: ignore[attr-defined, unused-ignore]
    WeakFileLock,
    build_hf_headers,
)
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from mlx_suite.hub.errors import DamagedDownload, disk_full
from mlx_suite.hub.local_models import storage_folder
from mlx_suite.runtime.files import sha256_of

CONNECTIONS = 4
"""Number of files downloaded in parallel."""

T = TypeVar("T")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    """One weight file at one commit; `etag` is its SHA-256 for files kept in large-file storage."""

    name: str
    url: str
    etag: str
    size: int
    blob: Path

    @property
    def partial(self) -> Path:
        return self.blob.with_name(f"{self.etag}.incomplete")

    @property
    def resumable(self) -> bool:
        """Whether we download it; the hub client takes small files without a SHA-256 and files too large for HTTP."""
        return bool(SHA256.fullmatch(self.etag)) and self.size <= constants.MAX_HTTP_DOWNLOAD_SIZE

    def bytes_here(self) -> int:
        """Bytes already on disk."""
        if self.blob.exists():
            return self.size
        return self.partial.stat().st_size if self.partial.exists() else 0


class _Cancelled(Exception):
    """Stops the remaining transfers after another file failed or the user pressed Ctrl-C."""


def fetch_weights(repo: str, commit: str, names: Sequence[str], *, progress: bool = True) -> None:
    """Download weight files of `repo` at `commit` into the hub cache, resuming partial ones.

    Only blobs are written; `snapshot_download` links them into the snapshot afterwards. Raises UserError before the
    first byte if the disk is too small, DamagedDownload if a checksum differs, and whatever the hub client raises.
    After any failure, Ctrl-C included, the bytes received stay for the next call.
    """
    if constants.HF_XET_HIGH_PERFORMANCE:
        return
    remote: list[_RemoteFile] = []
    _for_each(names, lambda name: remote.append(_look_up(repo, commit, name)), threading.Event())
    files = [file for file in remote if not file.blob.exists() and file.resumable]
    if not files:
        return
    _check_disk(files)
    stop = threading.Event()
    with _quiet_client(), _bar(repo, files, shown=progress) as advance:
        _for_each(files, lambda file: _fetch(file, repo, advance, stop), stop)


def _for_each(items: Sequence[T], work: Callable[[T], None], stop: threading.Event) -> None:
    """Run `work` on all items, `CONNECTIONS` at a time; the first failure sets `stop` and is raised.

    The daemon threads are not joined after a failure or Ctrl-C: one stuck on a dead connection would block the
    terminal for a minute.
    """
    todo, done = SimpleQueue[T](), SimpleQueue[BaseException | None]()
    for item in items:
        todo.put(item)

    def worker() -> None:
        while not stop.is_set():
            try:
                work(todo.get_nowait())
            except Empty:
                return
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

    for _ in range(min(CONNECTIONS, len(items))):
        threading.Thread(target=worker, name="mlx-suite-download", daemon=True).start()
    try:
        for _ in items:
            error = done.get()
            if error is not None:
                raise error
    finally:
        stop.set()


def _look_up(repo: str, commit: str, name: str) -> _RemoteFile:
    """Ask the hub for a file's size and checksum."""
    url = hf_hub_url(repo, name, revision=commit)
    metadata = get_hf_file_metadata(url)
    if metadata.etag is None or metadata.size is None or metadata.commit_hash is None:
        raise FileMetadataError(f"no size, checksum or commit for {name}")
    blob = storage_folder(repo) / "blobs" / metadata.etag
    return _RemoteFile(name, url, metadata.etag, metadata.size, blob)


def _check_disk(files: Sequence[_RemoteFile]) -> None:
    folder = Path(constants.HF_HUB_CACHE).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size - file.bytes_here() for file in files)
    free = _free_bytes(folder)
    if needed > free:
        raise disk_full(needed, free, str(folder))


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _fetch(file: _RemoteFile, repo: str, advance: "_Advance", stop: threading.Event) -> None:
    """Download one file, resuming an earlier attempt."""
    file.blob.parent.mkdir(parents=True, exist_ok=True)
    lock = storage_folder(repo).parent / ".locks" / storage_folder(repo).name / f"{file.etag}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # the lock that the hub client takes for the same file
        if file.blob.exists():
            return
        if file.bytes_here() > file.size:
            file.partial.unlink()
        with file.partial.open("ab") as stream:
            http_get(
                file.url,
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.name,
                tqdm_class=cast(Any, partial(_FileBar, advance, stop)),
            )
        _check_sum(file)
        os.replace(file.partial, file.blob)


def _check_sum(file: _RemoteFile) -> None:
    """Compare a downloaded file with the hub's SHA-256; its parts may come from several attempts."""
    if sha256_of(file.partial) != file.etag:
        file.partial.unlink()
        raise DamagedDownload(f"{file.name} does not match its SHA-256 and was deleted")


class _Advance:
    """Byte counter over all files; updates the progress bar, if there is one."""

    def __init__(self, bar: Progress | None, total: int, done: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total, completed=done) if bar else None

    def __call__(self, count: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)


class _FileBar:
    """The progress-bar interface that `http_get` expects; also the point where a transfer can be cancelled."""

    def __init__(self, advance: _Advance, stop: threading.Event, **_: Any) -> None:
        self._advance = advance
        self._stop = stop

    def __enter__(self) -> "_FileBar":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, count: float | None = 1) -> None:
        """Count `count` more bytes. Raises _Cancelled once `stop` is set."""
        if self._stop.is_set():
            raise _Cancelled
        self._advance(int(count or 0))


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Silence the hub client's log of lost connections, which would break the progress bar.

    HF_HUB_VERBOSITY=info keeps its messages.
    """
    logger = logging.getLogger(http_get.__module__)
    level = logger.level
    if logger.getEffectiveLevel() >= logging.WARNING:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _bar(title: str, files: Sequence[_RemoteFile], *, shown: bool) -> Iterator[_Advance]:
    """One progress bar on stderr for all files; none if stderr is not a terminal."""
    total = sum(file.size for file in files)
    done = sum(file.bytes_here() for file in files)
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield _Advance(None, total, done)
        return
    console.print(f"Fetching {title}", highlight=False, soft_wrap=True)
    whole = Column(no_wrap=True)
    with Progress(
        BarColumn(bar_width=None),
        DownloadColumn(table_column=whole),
        TransferSpeedColumn(table_column=whole),
        TimeRemainingColumn(compact=True, table_column=whole),
        console=console,
        expand=True,
    ) as bar:
        yield _Advance(bar, total, done)
