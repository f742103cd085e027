"""Models on this machine: shipped with mlx-suite, or in the hub cache.

No network access. All Hugging Face tools share the hub cache, so models pulled by mlx-lm or transformers are found too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from huggingface_hub import constants

import mlx_suite
from mlx_suite.checkpoints.config_file import model_type_of
from mlx_suite.checkpoints.safetensors_header import shard_names, weight_files
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import json_if_any

DATA_PACKAGE = "mlx_suite_models"
WEIGHT_SUFFIX = ".safetensors"
TEXT_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken")
"""File types a checkpoint needs besides its weights. Never code: nothing pulled from the hub is executed."""
TREE_VERSION = 1
"""Version of the hub client's stored file lists that is read."""


@dataclass(frozen=True, kw_only=True)
class ShippedModel:
    """A checkpoint shipped with mlx-suite."""

    name: str
    path: Path
    size_bytes: int
    model_type: str | None


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """One revision of a hub repository in the local cache."""

    repo: str
    revision: str
    """The branch or tag it was pulled as, or else the commit."""
    commit: str
    path: Path
    size_bytes: int
    """Size on disk, partial files included. Revisions of one repository share identical files."""
    model_type: str | None
    """From `config.json`; None when the repository holds no such file."""
    complete: bool
    """Whether all files are present; False after an interrupted pull."""


def shipped_models() -> list[ShippedModel]:
    """Return the shipped checkpoints, sorted by name."""
    models: dict[str, ShippedModel] = {}
    for root in shipped_roots():
        for config in root.glob("*/config.json"):
            folder = config.parent
            sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
            found = ShippedModel(
                name=folder.name,
                path=folder,
                size_bytes=sum(sizes),
                model_type=model_type_of(folder),
            )
            models.setdefault(folder.name, found)
    return [models[name] for name in sorted(models)]


def shipped_roots() -> list[Path]:
    """Return the folders of shipped checkpoints: the data package's, then a source checkout's."""
    roots: list[Path] = []
    try:
        roots += [Path(str(child)).parent for child in resources.files(DATA_PACKAGE).iterdir()]
    except (ModuleNotFoundError, FileNotFoundError):
        pass  # a source checkout without the data package
    roots += [Path(folder).parent / "models" for folder in mlx_suite.__path__]
    return [root for root in dict.fromkeys(roots) if root.is_dir()]


def cached_models() -> list[CachedModel]:
    """Return every model revision in the hub cache, sorted by repository and revision."""
    # Imported here because the client takes long, and a model that is named needs no list.
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return []
    models = []
    for repo in cache.repos:
        if repo.repo_type != "model":
            continue
        partial = sum(path.stat().st_size for path in repo.repo_path.glob("blobs/*.incomplete"))
        for revision in repo.revisions:
            complete = is_complete(repo.repo_id, revision.snapshot_path)
            models.append(
                CachedModel(
                    repo=repo.repo_id,
                    revision=_best_ref(revision.refs) or revision.commit_hash,
                    commit=revision.commit_hash,
                    path=revision.snapshot_path,
                    size_bytes=revision.size_on_disk + (0 if complete else partial),
                    model_type=model_type_of(revision.snapshot_path),
                    complete=complete,
                )
            )
    return sorted(models, key=lambda model: (model.repo.lower(), model.revision))


def find_snapshot(repo: str, revision: str | None = None) -> Path | None:
    """Return the cached folder of `repo` at a branch, tag or full commit; None if it is not cached."""
    storage = storage_folder(repo)
    revision = revision or constants.DEFAULT_REVISION
    reference = storage / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = storage / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def storage_folder(repo: str) -> Path:
    """Return where the hub cache keeps `repo`; the folder need not exist."""
    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo.replace('/', '--')}"


def is_complete(repo: str, snapshot: Path) -> bool:
    """Whether a snapshot holds every file of its checkpoint.

    Checks the weights listed in the index and, if the hub client stored the repository's file list, every small file.
    """
    if not (snapshot / "config.json").is_file():
        return False
    try:
        weight_files(snapshot)
        names = _listed_files(repo, snapshot.name)
        return all((snapshot / name).is_file() for name in wanted_files(names, shard_names(snapshot)))
    except UserError:
        return False


def _listed_files(repo: str, commit: str) -> list[str]:
    """The files of a repository as the hub client stored the list; empty if it stored none.

    Equal to `huggingface_hub.get_cached_repo_tree`, whose import takes longer than that of MLX.
    """
    tree = json_if_any(storage_folder(repo) / "trees" / f"{commit}.json")
    files = tree.get("files") if tree.get("format_version") == TREE_VERSION else None
    return list(files) if isinstance(files, dict) else []


def wanted_files(names: Iterable[str], shards: Iterable[str] = ()) -> list[str]:
    """Return the files of a repository that make up its checkpoint, sorted.

    `shards` are the weight files named by the index. Without an index, or with one that is stale, these are
    `model*.safetensors`, or else every `.safetensors`, so that a second copy (`consolidated.safetensors`) is not
    downloaded. Subfolders are ignored; they repeat the weights in other formats.
    """
    top = [name for name in names if "/" not in name and not name.startswith(".")]
    weights = [name for name in top if name.endswith(WEIGHT_SUFFIX)]
    named = set(shards)
    others = [name for name in weights if name.startswith("model") and name not in named]
    if named and (named <= set(weights) or not others):
        weights = sorted(named)
    else:
        weights = others or weights
    return sorted(weights + text_files(top))


def text_files(names: Iterable[str]) -> list[str]:
    """Return the files a checkpoint needs besides its weights: config, tokenizer, chat template."""
    return sorted(
        name for name in names if name.endswith(TEXT_SUFFIXES) and "/" not in name and not name.startswith(".")
    )


def _best_ref(refs: Iterable[str]) -> str | None:
    names = sorted(refs)
    return constants.DEFAULT_REVISION if constants.DEFAULT_REVISION in names else next(iter(names), None)
