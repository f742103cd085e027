"""LM Studio's store: `<publisher>/<repository>/`, each with GGUF files or an MLX model, as on the hub.

A download in progress is called `downloading_<file>.part`. `mmproj` files hold a model's image encoder. LM Studio keeps
its models in `~/.lmstudio/models`; older versions kept them in `~/.cache/lm-studio/models`.
"""

import re
from pathlib import Path

from mlx_suite.checkpoints.config_file import model_type_of
from mlx_suite.checkpoints.description import stored_quantization
from mlx_suite.checkpoints.safetensors_header import weight_files
from mlx_suite.gguf.file import PART, read_general
from mlx_suite.hub.stored_model import StoredModel, not_in_store, usable
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import json_if_any

PREFIX = "lmstudio:"

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(?:/\w[\w.+-]*)?")
_TYPE = re.compile(r"(?:^|[-._])((?:UD-)?I?Q\d(?:_[A-Z0-9]+)*|B?F16|F32|MXFP4(?:_MOE)?)(?=$|[-.])", re.IGNORECASE)
"""Name of the quantisation within a file's name: `Q4_K_M`, `IQ3_XS`, `BF16`."""


def store_folders() -> list[Path]:
    """Return LM Studio's folders of models that exist, today's first."""
    home = Path.home()
    folders = (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models")
    return [folder for folder in folders if folder.is_dir()]


def lmstudio_models() -> list[StoredModel]:
    """Return every model in LM Studio's store, unfinished ones too, sorted by name.

    A repository with one GGUF file is called by its own name, with several by each file's.
    """
    found: dict[str, StoredModel] = {}
    for root in store_folders():
        for folder in root.glob("[!.]*/[!.]*"):
            for model in _models(folder):
                found.setdefault(model.name, model)
    return sorted(found.values(), key=lambda model: model.name.lower())


def find_lmstudio(name: str) -> StoredModel:
    """Return the model called `publisher/repository[/file]`; the file's `.gguf` may be left out.

    Raises UserError for a name that the store does not hold, with close ones, for a repository with several GGUF files,
    with their names, and for unfinished downloads and missing parts.
    """
    full = PREFIX + name
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{full} is not the name of a model of LM Studio",
            where=full,
            fix=f"write it as {PREFIX}PUBLISHER/REPO or {PREFIX}PUBLISHER/REPO/FILE",
        )
    models = lmstudio_models()
    if found := next((model for model in models if model.name.lower() == full.lower()), None):
        return usable(found)
    repository = "/".join(full.split("/")[:2]).lower()
    inside = [model for model in models if "/".join(model.name.split("/")[:2]).lower() == repository]
    file = name.split("/")[2].removesuffix(".gguf").lower() if name.count("/") == 2 else None
    if file is None and inside:
        raise UserError(
            f"{full} holds {len(inside)} models",
            where=str(inside[0].file.parent),
            fix=f"name one of them, such as {inside[0].name}",
            details=[model.name for model in inside],
        )
    for model in inside:
        if file in (model.file.stem.lower(), _whole(model.file).lower()):
            return usable(model)
    roots = store_folders() or [Path.home() / ".lmstudio" / "models"]
    raise not_in_store(full, [model.name for model in models], roots[0])


def _models(folder: Path) -> list[StoredModel]:
    """The models of one repository."""
    if (folder / "config.json").is_file():
        return [_mlx_model(folder)]
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.gguf")):
        if path.is_file() and not path.name.lower().startswith(("mmproj", "downloading_", ".")):
            groups.setdefault(_whole(path), []).append(path)
    models = [_gguf_model(folder, stem, files, alone=len(groups) == 1) for stem, files in groups.items()]
    return models or _unfinished(folder)


def _gguf_model(folder: Path, stem: str, files: list[Path], alone: bool) -> StoredModel:
    general = read_general(files[0])
    type_name = _TYPE.search(stem)
    problem = None
    if part := PART.fullmatch(files[0].name):
        absent = int(part["count"]) - len(files)
        problem = f"{absent} of its {int(part['count'])} parts are missing" if absent else None
    license_name = general.get("general.license")
    return StoredModel(
        name=_name(folder) + ("" if alone else f"/{stem}"),
        store="lmstudio",
        source=_source(folder),
        file=files[0],
        size_bytes=sum(path.stat().st_size for path in files),
        model_type=general.get("general.architecture"),
        quantization=type_name[1].upper() if type_name else None,
        license=license_name if isinstance(license_name, str) else None,
        problem=problem,
        fix="finish the download in LM Studio" if problem else "",
    )


def _mlx_model(folder: Path) -> StoredModel:
    problem = None
    parts = _parts(folder)
    if parts:
        problem = f"the download of {parts[0]} is not finished"
    else:
        try:
            weight_files(folder)
        except UserError as error:
            problem = error.what
    return StoredModel(
        name=_name(folder),
        store="lmstudio",
        source=_source(folder),
        file=folder,
        size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        model_type=model_type_of(folder),
        quantization=stored_quantization(json_if_any(folder / "config.json")),
        license=None,
        problem=problem,
        fix="finish the download in LM Studio" if problem else "",
    )


def _unfinished(folder: Path) -> list[StoredModel]:
    """A repository of which only a part of a download is there."""
    parts = _parts(folder)
    if not parts:
        return []
    return [
        StoredModel(
            name=_name(folder),
            store="lmstudio",
            source=_source(folder),
            file=folder,
            size_bytes=sum((folder / name).stat().st_size for name in parts),
            model_type=None,
            quantization=None,
            license=None,
            problem=f"the download of {parts[0]} is not finished",
            fix="finish the download in LM Studio",
        )
    ]


def _parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.part") if path.is_file())


def _whole(path: Path) -> str:
    """A file's name without suffix and without the number of its part."""
    part = PART.fullmatch(path.name)
    return part["stem"] if part else path.stem


def _name(folder: Path) -> str:
    return f"{PREFIX}{folder.parent.name}/{folder.name}"


def _source(folder: Path) -> str:
    return f"huggingface.co/{folder.parent.name}/{folder.name}"
