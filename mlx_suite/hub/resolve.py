"""Resolve a model name to a folder on this machine.

`tiny-llama3` is a shipped checkpoint, `path/to/folder` a folder, and `owner/repo` or `owner/repo@revision` a hub
repository, which is downloaded into the hub cache unless it is already there. `ollama:NAME` and `lmstudio:NAME` are
models in the stores of these programs. GGUF files are imported into a cache folder. The hub client is imported only
when something is downloaded.
"""

import difflib
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlx_suite.checkpoints.other_formats import ORIGINAL_CONFIG, original_format
from mlx_suite.checkpoints.trained_run import model_folder
from mlx_suite.gguf.file import is_gguf
from mlx_suite.hub.local_models import (
    CachedModel,
    ShippedModel,
    cached_models,
    find_snapshot,
    is_complete,
    shipped_models,
)
from mlx_suite.hub.stores import find_in_store, stored_models
from mlx_suite.runtime.errors import UserError

__all__ = [
    "CachedModel",
    "ShippedModel",
    "cached_models",
    "resolve",
    "resolve_texts",
    "resolve_with",
    "shipped_models",
    "similar_names",
    "split_revision",
]

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
URL = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:/(?:tree|blob|resolve|raw)/(?P<revision>[^/?#]+)[^?#]*)?/?(?:[?#].*)?"
)
"""A page of the hub, as copied from a browser."""
GGUF_SUFFIX = ".gguf"
PATH_STARTS = ("/", "./", "../", "~", ".\\", "..\\")


def resolve(name: str | os.PathLike[str], progress: bool = True) -> Path:
    """Return the folder of the model called `name`, downloading it if necessary.

    Tries a store (`ollama:`, `lmstudio:`), a folder, a shipped checkpoint, a GGUF file, a cached repository and a hub
    repository, in this order. The folder of a full finetuning run resolves to its best checkpoint. A cached model is
    used without checking the hub for updates; `pull.pull` does that. `progress` shows a bar on stderr while downloading
    or importing.

    Raises UserError if nothing matches, with the closest names, and whenever `pull.pull` does.
    """
    return resolve_with(name, partial(_download, progress=progress), is_complete, progress)


def resolve_texts(name: str | os.PathLike[str]) -> Path:
    """Like `resolve`, but download only config, tokenizer and chat template of a repository that is not cached.

    These few megabytes are enough for the model's dimensions and prompts. A later `resolve` completes the folder.
    A GGUF file is imported whole. Raises UserError as `resolve` does.
    """
    return resolve_with(name, _download_texts, lambda repo, folder: (folder / "config.json").is_file())


def resolve_with(
    name: str | os.PathLike[str],
    fetch: Callable[[str, str | None], Path],
    suffices: Callable[[str, Path], bool],
    progress: bool = True,
) -> Path:
    """Return the folder of `name`: a local one, an imported file's, a cached snapshot that `suffices`, or `fetch`'s.

    Raises UserError as `resolve` does, and whatever `fetch` raises.
    """
    text = os.fspath(name)
    if stored := find_in_store(text):
        text = str(stored.file)
    if URL.fullmatch(text.strip()):
        text = "@".join(filter(None, split_revision(text)))
    shipped = {model.name: model.path for model in shipped_models()}
    folder = _path(text)
    if text and folder.is_dir() and (text not in shipped or (folder / "config.json").is_file()):
        return _checked_folder(folder)
    if text in shipped:
        return shipped[text]
    if folder.suffix == GGUF_SUFFIX and folder.is_file() or is_gguf(folder):
        from mlx_suite.hub.imported_models import imported_folder  # imports MLX, which takes long

        return imported_folder(folder, os.fspath(name), progress)
    if text and folder.exists():
        raise UserError(
            what="this is a file, not a model folder with config.json and .safetensors files",
            where=text,
            fix=f"give the folder: {folder.parent}",
        )
    if text.startswith(PATH_STARTS) or folder.is_absolute() or text.endswith(os.sep):
        raise UserError(what="there is no such folder", where=text, fix="check the path; " + _known_models(text))
    repo, revision = split_revision(text)
    cached = find_snapshot(repo, revision) if is_repository(repo) or "/" not in repo else None
    if cached is not None and suffices(repo, cached):
        return cached
    if not is_repository(repo):
        raise UserError(
            what=f"there is no model {text!r}",
            where="no folder, shipped model or cached model has this name",
            fix=_known_models(text),
        )
    if str(folder.parent) != "." and folder.parent.is_dir():
        # OWNER is a folder here, so the name is more likely a path than a repository.
        raise UserError("there is no such folder", where=text, fix=_neighbours(folder, repo))
    return fetch(repo, revision)


def _download(repo: str, revision: str | None, *, progress: bool) -> Path:
    from mlx_suite.hub.pull import pull  # imports the hub client, which takes long

    return pull(repo, revision, progress)


def _download_texts(repo: str, revision: str | None) -> Path:
    from mlx_suite.hub.pull import pull_texts

    return pull_texts(repo, revision)


def _path(text: str) -> Path:
    """The name as a path. Raises UserError for one that cannot be looked up, such as a prompt in the model's place."""
    try:
        path = Path(text).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = text if len(text) <= 80 else f"{text[:79]}…"
        raise UserError(f"this is no model: {reason}", where=shown, fix="give a name, a folder or OWNER/REPO") from None
    return path


def _neighbours(folder: Path, repo: str) -> str:
    names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    near = [str(folder.parent / name) for name in difflib.get_close_matches(folder.name, names)]
    asked = f"did you mean {' or '.join(near)}?" if near else "check the path;"
    return f"{asked} For a repository of the hub: mlx-suite models pull {repo}"


def split_revision(name: str) -> tuple[str, str | None]:
    """Split `owner/repo@revision` or a page of the hub; without a revision the second value is None."""
    page = URL.fullmatch(name.strip())
    if page:
        return page["repo"], page["revision"]
    repo, _, revision = name.partition("@")
    return repo, revision or None


def similar_names(name: str) -> list[str]:
    """Return at most three models on this machine with names close to `name`, closest first."""
    names = [model.name for model in shipped_models()]
    names += sorted({model.repo for model in cached_models()} - {name})
    keys = {key: full for full in names for key in (full.rsplit("/", 1)[-1].lower(), full.lower())}
    for model in stored_models():
        base = model.name.split(":")[1]  # without store and tag
        keys |= {key.lower(): model.name for key in (base.rsplit("/", 1)[-1], base, model.name)} | keys
    close = difflib.get_close_matches(name.lower(), keys, n=6, cutoff=0.7)
    close += difflib.get_close_matches(name.rsplit("/", 1)[-1].lower(), keys, n=6, cutoff=0.8)
    return list(dict.fromkeys(keys[key] for key in close))[:3]


def is_repository(text: str) -> bool:
    """Whether `text` has the form OWNER/REPO."""
    return REPOSITORY.fullmatch(text) is not None


def _checked_folder(folder: Path) -> Path:
    """The folder itself, or the model inside the folder of a finetuning run."""
    folder = model_folder(folder)
    if (folder / "config.json").is_file():
        return folder
    if (folder / ORIGINAL_CONFIG).is_file():
        raise original_format(folder)
    inside = sorted(str(path.parent) for path in folder.glob("*/config.json"))
    inside = [*inside, *sorted(str(path) for path in folder.glob(f"*{GGUF_SUFFIX}"))][:3]
    raise UserError(
        what="not a model folder: there is no config.json",
        where=str(folder),
        fix=f"did you mean {' or '.join(inside)}?" if inside else _known_models(folder.name),
    )


def _known_models(name: str) -> str:
    nearest = similar_names(name)
    if nearest:
        return f"did you mean {' or '.join(nearest)}? `mlx-suite models list` shows all"
    shipped = ", ".join(model.name for model in shipped_models()) or "none"
    return f"shipped models: {shipped}; from the hub: `mlx-suite models pull OWNER/REPO`"
