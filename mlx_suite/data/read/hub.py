"""Datasets of the Hugging Face hub, downloaded into the cache that all Hugging Face tools share."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mlx_suite.hub.errors import DISK_FULL, LOG_IN, NOT_WRITABLE, TransportError
from mlx_suite.hub.resolve import URL, split_revision
from mlx_suite.runtime.errors import UserError

_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_hub_name(source: str) -> bool:
    """Whether `source` is `owner/repo`, `owner/repo@revision` or the URL of a hub page."""
    return URL.fullmatch(source.strip()) is not None or (_NAME.fullmatch(source) is not None and source[0] != ".")


def download_dataset(source: str, patterns: Sequence[str], similar: Sequence[str] = ()) -> Path:
    """Download the files of `owner/repo[@revision]` that match `patterns`, and return their folder.

    Without a network, a complete cached copy is used. `similar` are local paths that the user may have meant. Raises
    UserError for every failure.
    """
    repo, revision = split_revision(source)
    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=list(patterns)))
    except (TransportError, OSError, ValueError, KeyError) as error:
        raise explain(error, repo, revision, similar) from error


def list_dataset(source: str) -> list[str] | None:
    """Names of all files of `owner/repo[@revision]`, without downloading any; None if the hub does not say."""
    repo, revision = split_revision(source)
    try:
        info = HfApi().dataset_info(repo, revision=revision, timeout=constants.DEFAULT_REQUEST_TIMEOUT)
    except (TransportError, OSError, ValueError, KeyError):
        return None  # the download explains why, or finds a copy in the cache
    return [each.rfilename for each in info.siblings or ()] or None


def explain(error: BaseException, repo: str, revision: str | None, similar: Sequence[str] = ()) -> UserError:
    """The UserError for a failure of the hub client. It quotes no URLs, because signed ones contain tokens."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return explain(error.__cause__, repo, revision, similar)
    where = f"{repo}@{revision}" if revision else repo
    page = f"{constants.ENDPOINT}/datasets/{repo}"
    nearest = f"did you mean {' or '.join(similar)}? Otherwise " if similar else ""
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
        what = "the dataset is not complete in the local cache, and HF_HUB_OFFLINE forbids downloading it"
        return UserError(what, where, nearest + "unset HF_HUB_OFFLINE, or name a local file")
    if isinstance(error, GatedRepoError):
        return UserError("the dataset is gated", where, f"accept its terms on {page}, then {LOG_IN}")
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            "there is no such local file or folder, and the hub has no such dataset that you may read",
            where,
            f"{nearest}check the name on {page}; for a private dataset {LOG_IN}",
        )
    if isinstance(error, RevisionNotFoundError):
        what = f"the dataset has no branch, tag or commit {revision or constants.DEFAULT_REVISION!r}"
        return UserError(what, where, f"choose one from {page}/tree/{constants.DEFAULT_REVISION}")
    if isinstance(error, HFValidationError):
        return UserError("there is no such file, and this is not a dataset name", where, "write it as OWNER/REPO")
    if isinstance(error, HfHubHTTPError):
        what = f"the hub answered with status {error.response.status_code}"
        return UserError(what, where, "try again in a few minutes" if error.response.status_code >= 429 else LOG_IN)
    if isinstance(error, TransportError):
        return UserError(
            f"there is no such local file or folder, and the hub cannot be reached ({_reason(error)})",
            where,
            f"{nearest}check the network, proxy and HF_ENDPOINT, then retry; downloaded files are kept",
        )
    return _local_failure(error, where)


def _local_failure(error: BaseException, where: str) -> UserError:
    number = error.errno if isinstance(error, OSError) else None
    if number in DISK_FULL:
        fix = "free some space or set HF_HOME to another disk, then retry; downloaded files are kept"
        return UserError("the disk is full", constants.HF_HUB_CACHE, fix)
    if number in NOT_WRITABLE:
        what = "the Hugging Face cache is not writable"
        return UserError(what, constants.HF_HUB_CACHE, "make it writable, or set HF_HOME to a folder that is")
    fix = "check HF_ENDPOINT, and whether a proxy or a login page intercepts the connection"
    return UserError(f"downloading the dataset failed: {_reason(error)}", where, fix)


def _reason(error: BaseException) -> str:
    first = str(error).strip().split("\n")[0]
    return first or type(error).__name__
