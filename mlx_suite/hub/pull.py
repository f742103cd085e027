"""Download a repository of the hub into the hub cache, or update it.

Imports the hub client, which takes long; `resolve` imports this module when something has to be downloaded.
"""

import sys
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined, unused-ignore]

from mlx_suite.checkpoints.safetensors_header import shard_names
from mlx_suite.hub.download import fetch_weights
from mlx_suite.hub.errors import TransportError, hub_errors, no_model_inside
from mlx_suite.hub.local_models import find_snapshot, is_complete, text_files, wanted_files
from mlx_suite.hub.resolve import is_repository, similar_names
from mlx_suite.runtime.errors import UserError


def pull(repo: str, revision: str | None = None, progress: bool = True) -> Path:
    """Download or update a repository's checkpoint in the hub cache and return its folder.

    Fetches only JSON, tokenizer, chat template and safetensors weights; never code. An interrupted pull is resumed.
    `revision` is a branch, tag or full commit. `progress` shows a bar on stderr, and a line if the hub is unreachable
    and the cached copy is used.

    Raises UserError for a repository or revision that does not exist, is gated or has no safetensors; if the hub is
    unreachable and the model not cached; for a full disk or read-only cache; and for a lost connection.
    """
    if not is_repository(repo):
        raise UserError(what="not a valid hub repository name", where=repo, fix="write it as OWNER/REPO")
    similar = partial(similar_names, repo)
    try:
        with hub_errors(repo, revision, similar):
            commit, names = _listing(repo, revision)
    except UserError as error:
        cached = find_snapshot(repo, revision)
        if not _unreachable(error.__cause__) or cached is None or not is_complete(repo, cached):
            raise
        if progress:
            why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "The hub cannot be reached"
            print(f"{why}; using the cached copy of {repo}.", file=sys.stderr)
        return cached
    _refuse_without_weights(repo, revision, names)
    with hub_errors(repo, revision, similar, transferring=True):
        # Small files first: they include the index of the weights, so a snapshot with weights is complete. The
        # revision's name keeps pointing at the old commit until the new one is complete, so that an interrupted update
        # loses nothing.
        name = revision or constants.DEFAULT_REVISION
        first = commit if find_snapshot(repo, name) else name
        folder = _snapshot(repo, first, text_files(names))
        wanted = wanted_files(names, shard_names(folder))
        _refuse_missing_shards(repo, set(wanted) - set(names))
        missing = [file for file in wanted if not (folder / file).is_file()]
        fetch_weights(repo, commit, missing, progress=progress)
        left_to_client = progress and constants.HF_XET_HIGH_PERFORMANCE
        return _snapshot(repo, name, wanted, bars=left_to_client)


def pull_texts(repo: str, revision: str | None) -> Path:
    """Download config, tokenizer and chat template of a repository into the cache and return its folder.

    Raises UserError as `pull` does.
    """
    similar = partial(similar_names, repo)
    with hub_errors(repo, revision, similar):
        _, names = _listing(repo, revision)
    _refuse_without_weights(repo, revision, names)
    with hub_errors(repo, revision, similar, transferring=True):
        return _snapshot(repo, revision or constants.DEFAULT_REVISION, text_files(names))


def _listing(repo: str, revision: str | None) -> tuple[str, list[str]]:
    """Ask the hub for the commit of a revision and its file names."""
    info = HfApi().model_info(repo, revision=revision, timeout=constants.DEFAULT_REQUEST_TIMEOUT)
    if info.sha is None:
        raise ValueError("the hub's answer names no commit")
    return info.sha, [sibling.rfilename for sibling in info.siblings or []]


def _snapshot(repo: str, revision: str, names: list[str], *, bars: bool = False) -> Path:
    """Link the named files into the cached snapshot, downloading those not cached yet."""
    silent = partial(tqdm, disable=True)  # its bars count files; ours counts the weights' bytes
    bar = None if bars else cast(Any, silent)
    folder = snapshot_download(
        repo,
        revision=revision,
        allow_patterns=[escape(name) for name in names],
        tqdm_class=bar,
    )
    return Path(folder)


def _unreachable(cause: BaseException | None) -> bool:
    """Whether the hub did not respond, or responded with a server error."""
    if isinstance(cause, HfHubHTTPError):
        return cause.response.status_code >= 500
    return isinstance(cause, TransportError | OfflineModeIsEnabled)


def _refuse_without_weights(repo: str, revision: str | None, names: list[str]) -> None:
    """Raise UserError for a repository without a model we can load."""
    if error := no_model_inside(repo, revision, names):
        raise error


def _refuse_missing_shards(repo: str, missing: set[str]) -> None:
    if missing:
        raise UserError(
            what="the index lists files that the repository does not contain",
            details=sorted(missing),
            where=repo,
            fix="pull another copy of the model, and tell the owner of this one",
        )
