"""A repository of the hub without its weights: the small files and the header of each weight file.

Headers come by HTTP range requests, a few hundred kilobytes of a model of any size. Each is written to a temporary
folder at the beginning of a file with the size of the real one; the rest is a hole that takes no disk. Whatever reads
headers of a local checkpoint can then read this one.
"""

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined, unused-ignore]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from mlx_suite.checkpoints.safetensors_header import INDEX_NAME, MAX_HEADER_BYTES, shard_names
from mlx_suite.gguf.file import PART, read_through_header
from mlx_suite.hub.errors import Similar, hub_errors, no_model_inside
from mlx_suite.hub.local_models import WEIGHT_SUFFIX, wanted_files
from mlx_suite.runtime.errors import UserError

FIRST_BYTES = 2**20
"""Bytes of the first request for a header; each further one doubles what is there."""
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    INDEX_NAME,
)
"""Files that describe a model, besides its weights."""
GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True, kw_only=True)
class RepositoryHeaders:
    """What the hub says about a model, and where the copies of its headers are."""

    path: Path
    """A folder with small files and safetensors headers, or the copy of a GGUF header. Temporary."""
    commit: str
    files: Mapping[str, int]
    """Size in bytes of each file that a download would take."""
    card: Mapping[str, Any]
    """Front matter of the model card: `license`, `base_model`, …"""


@contextmanager
def repository_headers(
    repo: str, revision: str | None = None, file: str | None = None, similar: Similar = list
) -> Iterator[RepositoryHeaders]:
    """Fetch the headers of a repository of the hub, or of its GGUF file called `file`, for the duration of the block.

    `similar` returns models to suggest when the repository does not exist. Raises UserError if the hub is offline or
    cannot be reached, and for a repository that does not exist, is private or gated, or holds no model; for one with
    several GGUF files and no safetensors, it lists them.
    """
    with tempfile.TemporaryDirectory(prefix="mlx-suite-headers-") as temporary:
        with hub_errors(repo, revision, similar):
            if constants.is_offline_mode():
                raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
            info = HfApi().model_info(
                repo, revision=revision, files_metadata=True, timeout=constants.DEFAULT_REQUEST_TIMEOUT
            )
            if info.sha is None:
                raise ValueError("the hub's answer names no commit")
            sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or []}
            fetch = partial(_fetch, repo, info.sha, Path(temporary), sizes)
            names = _gguf_files(repo, sizes, file)
            if names:
                path = [fetch(name) for name in names][0]
            else:
                path, names = _checkpoint(repo, revision, Path(temporary), sizes, fetch)
            headers = RepositoryHeaders(
                path=path,
                commit=info.sha,
                files={name: sizes[name] for name in names},
                card=dict(vars(info.card_data)) if info.card_data else {},
            )
        yield headers


def _gguf_files(repo: str, sizes: Mapping[str, int], file: str | None) -> list[str]:
    """The parts of the GGUF file that is meant; empty if a checkpoint in safetensors is."""
    models = [name for name in sizes if name.endswith(GGUF_SUFFIX) and "mmproj" not in name.lower()]
    if file is None and any(name.endswith(WEIGHT_SUFFIX) for name in sizes):
        return []
    groups: dict[str, list[str]] = {}
    for name in sorted(models):
        part = PART.fullmatch(Path(name).name)
        groups.setdefault(name if part is None else f"{name[: -len(Path(name).name)]}{part['stem']}", []).append(name)
    if file is not None:
        for stem, names in groups.items():
            if file in (stem, f"{stem}{GGUF_SUFFIX}", *names):
                return names
    if file is not None or len(groups) > 1:
        choices = [f"{repo}/{names[0]}" for names in groups.values()]
        raise UserError(
            f"the repository has no file {file!r}" if file else f"the repository has {len(groups)} GGUF files",
            where=repo,
            fix=f"name one of them, such as {choices[0]}" if choices else "check the name on the model's page",
            details=choices,
        )
    return next(iter(groups.values()), [])


def _checkpoint(
    repo: str, revision: str | None, folder: Path, sizes: Mapping[str, int], fetch: "partial[Path]"
) -> tuple[Path, list[str]]:
    """Fetch small files and headers of a checkpoint into `folder`; returns it and the files of a download."""
    if error := no_model_inside(repo, revision, list(sizes)):
        raise error
    for name in SMALL_FILES:
        if name in sizes:
            fetch(name)
    names = wanted_files(sizes, shard_names(folder))
    absent = [name for name in names if name not in sizes]
    if absent:
        raise UserError(
            "the index lists files that the repository does not contain",
            details=absent,
            where=repo,
            fix="use another copy of the model, and tell the owner of this one",
        )
    for name in names:
        if name.endswith(WEIGHT_SUFFIX):
            fetch(name)
    return folder, names


def _fetch(repo: str, commit: str, folder: Path, sizes: Mapping[str, int], name: str) -> Path:
    """Write a small file, or the header of a weight file and a hole of its size."""
    target = folder / Path(name).name
    remote = _RangeFile(hf_hub_url(repo, name, revision=commit), sizes[name])
    if name.endswith(GGUF_SUFFIX):
        read_through_header(cast(BinaryIO, remote), sizes[name], Path(repo) / name)
    elif name.endswith(WEIGHT_SUFFIX):
        length = int.from_bytes(remote.read(8), "little")
        remote.read(length if length <= MAX_HEADER_BYTES else 0)
    else:
        remote.read(sizes[name])
    with target.open("wb") as file:
        file.write(remote.fetched)
        file.truncate(sizes[name])
    return target


class _RangeFile(io.RawIOBase):
    """The beginning of a file on the hub, requested as far as it is read."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self._url, self._size, self._position = url, size, 0
        self.fetched = bytearray()

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._position + count, self._size)
        while len(self.fetched) < end:
            self._request(max(end, 2 * len(self.fetched), FIRST_BYTES))
        data = bytes(self.fetched[self._position : end])
        self._position = end
        return data

    def _request(self, end: int) -> None:
        """Append the bytes up to `end`. A server that ignores the range sends the file from its start."""
        start, end = len(self.fetched), min(end, self._size)
        headers = build_hf_headers() | {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        timeout = constants.DEFAULT_REQUEST_TIMEOUT
        with get_session().stream("GET", self._url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            if response.status_code != 206:
                self.fetched.clear()
            for chunk in response.iter_bytes():
                self.fetched += chunk
                if len(self.fetched) >= end:
                    break
        if len(self.fetched) <= start:
            raise ValueError(f"the hub sent no bytes from {start} of {self._url}")
        del self.fetched[end:]
