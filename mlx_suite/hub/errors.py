"""Hub failures as `UserError`s: what happened, to which repository, and the command that helps.

Messages never quote request headers or signed URLs, because those carry tokens.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mlx_suite.checkpoints.safetensors_header import OTHER_WEIGHTS
from mlx_suite.hub.local_models import WEIGHT_SUFFIX, wanted_files
from mlx_suite.runtime.errors import UserError

TransportError = cast(type[Exception], HfHubHTTPError.__bases__[0])
"""Base class of the HTTP library's errors, taken from the hub client so that it is the one the client raises."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
Similar = Callable[[], Sequence[str]]
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class DamagedDownload(Exception):
    """A finished download does not have the hub's checksum."""


@contextmanager
def hub_errors(
    repo: str, revision: str | None, similar: Similar = list, *, transferring: bool = False
) -> Iterator[None]:
    """Turn every failure of the hub client within the block into a UserError.

    `similar` returns models to suggest when `repo` does not exist. `transferring` means that files are being
    downloaded, so a lost connection is described as resumable.
    """
    try:
        yield
    except UserError:
        raise
    except (TransportError, OSError, ValueError, KeyError, DamagedDownload) as error:
        raise explain(error, repo, revision, similar, transferring=transferring) from error


def explain(
    error: BaseException,
    repo: str,
    revision: str | None,
    similar: Similar = list,
    *,
    transferring: bool = False,
) -> UserError:
    """Return the UserError that describes a failure of the hub client."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return explain(error.__cause__, repo, revision, similar, transferring=transferring)
    where = f"{repo}@{revision}" if revision else repo
    again = f"mlx-suite models pull {repo}" + (f" --revision {revision}" if revision else "")
    page = f"{constants.ENDPOINT}/{repo}"
    default = constants.DEFAULT_REVISION

    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
        return offline(repo, revision)
    if isinstance(error, GatedRepoError):
        return _gated(error, where, page)
    if isinstance(error, RepositoryNotFoundError):
        return _missing(where, page, similar())
    if isinstance(error, RevisionNotFoundError):
        return UserError(
            what=f"the repository has no branch, tag or commit {revision or default!r}",
            where=where,
            fix=f"choose one from {page}/tree/{default}, or leave the revision out",
        )
    if isinstance(error, DisabledRepoError):
        return UserError(
            what="the hub has disabled this repository",
            where=where,
            fix=f"read {page}, or use another model",
        )
    if isinstance(error, HfHubHTTPError):
        return _refused(error.response.status_code, where, again)
    if isinstance(error, HFValidationError):
        return UserError(
            what="not a valid hub repository name",
            where=where,
            fix="write it as OWNER/REPO[@REVISION]",
        )
    if isinstance(error, DamagedDownload):
        return UserError(what=str(error), where=where, fix=f"download it again: {again}")
    if isinstance(error, FileMetadataError | ValueError | KeyError):
        return UserError(  # usually the page of a proxy or of a Wi-Fi login
            what=f"the answer from {constants.ENDPOINT} is not a hub response",
            where=where,
            fix="check HF_ENDPOINT, and whether a proxy or a login page intercepts the connection",
        )
    if isinstance(error, TransportError):
        return _disconnected(error, where, again, transferring)
    return _local_failure(error, where, again)


def no_model_inside(repo: str, revision: str | None, names: list[str]) -> UserError | None:
    """Return the error for a repository whose files hold no checkpoint we can load; None if they hold one."""
    if any(name.endswith(WEIGHT_SUFFIX) for name in wanted_files(names)) and "config.json" in names:
        return None
    if "adapter_config.json" in names:
        what, fix = "the repository contains an adapter, not a model", "pull its base model"
    elif any(name.endswith(WEIGHT_SUFFIX) for name in names):
        what, fix = (
            "the repository has weights but no config.json",
            "pull a Hugging Face model",
        )
    else:
        kinds = {OTHER_WEIGHTS[suffix] for name in names if (suffix := Path(name).suffix) in OTHER_WEIGHTS}
        what = "the repository has no safetensors weights" + (f", only {' and '.join(sorted(kinds))}" if kinds else "")
        fix = "look for the same model in safetensors format, for example under mlx-community"
    return UserError(what=what, where=f"{repo}@{revision}" if revision else repo, fix=fix)


def offline(repo: str, revision: str | None) -> UserError:
    """Return the error for a model that is not in the cache while the hub client is offline."""
    return UserError(
        what="the model is not completely in the local cache, and HF_HUB_OFFLINE is set",
        where=f"{repo}@{revision}" if revision else repo,
        fix="unset HF_HUB_OFFLINE, or choose a model from `mlx-suite models list`",
    )


def disk_full(needed: int, free: int, where: str) -> UserError:
    """Return the error for downloading `needed` bytes to a disk with `free` bytes left."""
    return UserError(
        what=f"the disk is too full: {needed / 1e9:.1f} GB to fetch, {free / 1e9:.1f} GB free",
        where=where,
        fix="free some space (`hf cache ls` shows what can go), or move the cache: set HF_HOME",
    )


def _gated(error: GatedRepoError, where: str, page: str) -> UserError:
    refused = error.response.status_code == 403
    return UserError(
        what="the model is gated, and "
        + ("your account has no access to it" if refused else "this machine is not logged in"),
        where=where,
        fix=f"accept its licence on {page}, then {LOG_IN}",
    )


def _missing(where: str, page: str, similar: Sequence[str]) -> UserError:
    nearest = f"did you mean {' or '.join(similar)}? Otherwise " if similar else ""
    return UserError(
        what="the hub has no such model, or it is private and this machine is not logged in",
        where=where,
        fix=f"{nearest}check the name on {page}; for a private model {LOG_IN}",
    )


def _refused(status: int, where: str, again: str) -> UserError:
    if status in (401, 403):
        return UserError(
            what=f"the hub rejected this machine's access token (status {status})",
            where=where,
            fix=f"{LOG_IN}; unset HF_TOKEN if it has expired",
        )
    if status == 429 or status >= 500:
        why = "is rate-limiting this machine" if status == 429 else "failed internally"
        return UserError(
            what=f"the hub {why} (status {status})", where=where, fix=f"try again in a few minutes: {again}"
        )
    return UserError(what=f"the hub answered with status {status}", where=where, fix=f"try again: {again}")


def _disconnected(error: BaseException, where: str, again: str, transferring: bool) -> UserError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    if transferring:
        return UserError(
            what=f"the connection was lost during the download ({reason})",
            where=where,
            fix=f"the received data is kept; resume with: {again}",
        )
    return UserError(
        what=f"the hub cannot be reached, and the model is neither a folder here nor in the local cache ({reason})",
        where=where,
        fix=f"check the network, proxy and HF_ENDPOINT, then: {again}",
    )


def _local_failure(error: BaseException, where: str, again: str) -> UserError:
    number = error.errno if isinstance(error, OSError) else None
    cache = constants.HF_HUB_CACHE
    if number in DISK_FULL:
        return UserError(
            what="the disk is full; the received data is kept",
            where=cache,
            fix=f"free some space or set HF_HOME to another disk, then: {again}",
        )
    if number in NOT_WRITABLE:
        return UserError(
            what=f"the model cache cannot be written ({getattr(error, 'strerror', error)})",
            where=cache,
            fix="make it writable, or set HF_HOME to a folder that is",
        )
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return UserError(what=f"the download failed: {reason}", where=where, fix=f"try again: {again}")
