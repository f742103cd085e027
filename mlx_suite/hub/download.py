"""Weights over the network, kept byte by byte.

`huggingface_hub` 2.4 throws away a half-fetched file when a download ends early (read in its
`_download_to_tmp_and_move`; its issue 4196), so a broken connection costs a whole shard of several
gigabytes. Here the half-fetched file stays in the cache as `blobs/<etag>.incomplete` and the next
attempt, in this process or another, asks only for the rest. The finished file takes the place where
`snapshot_download` looks for it, after its SHA-256 has been compared with the hub's.

Set HF_XET_HIGH_PERFORMANCE=1 to leave the weights to the hub's Xet client instead: it uses several
connections for each file, and starts a file over after an interruption.
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
"""Files fetched at the same time."""

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
        """False leaves it to the hub client: small files without a SHA-256, giants that only Xet
        transfers.
        """
        return bool(SHA256.fullmatch(self.etag)) and self.size <= constants.MAX_HTTP_DOWNLOAD_SIZE

    def bytes_here(self) -> int:
        """How many of its bytes are on disk."""
        if self.blob.exists():
            return self.size
        return self.partial.stat().st_size if self.partial.exists() else 0


class _Cancelled(Exception):
    """Another file failed or the user pressed Ctrl-C: the remaining transfers stop."""


def fetch_weights(repo: str, commit: str, names: Sequence[str], *, progress: bool = True) -> None:
    """Fetch weight files of `repo` at `commit` into the hub cache, going on with partial ones.

    Only contents are put in place; `snapshot_download` afterwards links them into the snapshot.
    Raises UserError before the first byte when the disk cannot hold them, DamagedDownload when a
    checksum differs, and whatever the hub client raises. On any failure, Ctrl-C included,
    everything received stays for the next call.
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
    """Do `work` on all items, `CONNECTIONS` at a time; the first failure sets `stop` and is raised.

    The threads are daemons and are not waited for after a failure or Ctrl-C: one that hangs on a
    dead connection would otherwise hold the user's terminal for a minute.
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
    """Fetch one file, from where an earlier attempt ended."""
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
    """Compare a fetched file with the hub's SHA-256: its parts may come from several attempts."""
    if sha256_of(file.partial) != file.etag:
        file.partial.unlink()
        raise DamagedDownload(f"{file.name} arrived damaged and was thrown away")


class _Advance:
    """Adds up the bytes of all files; the bar it feeds may be absent."""

    def __init__(self, bar: Progress | None, total: int, done: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total, completed=done) if bar else None

    def __call__(self, count: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)


class _FileBar:
    """What `http_get` needs of a progress bar; also where a transfer can be stopped."""

    def __init__(self, advance: _Advance, stop: threading.Event, **_: Any) -> None:
        self._advance = advance
        self._stop = stop

    def __enter__(self) -> "_FileBar":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, count: float | None = 1) -> None:
        """Count `count` more bytes. Raises _Cancelled once the transfers are to stop."""
        if self._stop.is_set():
            raise _Cancelled
        self._advance(int(count or 0))


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep the hub client from logging each lost connection into the bar: the error says it once.

    A user who asks for its messages (HF_HUB_VERBOSITY=info) keeps them.
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
    """One bar on stderr for all files together; none where nobody watches."""
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
