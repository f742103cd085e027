"""Ollama's store: manifests by name, and blobs by digest.

    manifests/<registry>/<namespace>/<name>/<tag>    JSON: a config and layers, each with media type, digest and size
    blobs/sha256-<digest>                            one layer: the GGUF file, template, licence, parameters, …

Ollama writes the manifest after all blobs, and calls an unfinished blob `sha256-<digest>-partial`. The folder is
OLLAMA_MODELS, or else `~/.ollama/models`; Ollama's Linux service keeps its own under `/usr/share/ollama`.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.hub.stored_model import StoredModel, licence_title, not_in_store, usable
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sha256_of

PREFIX = "ollama:"
REGISTRY, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
"""What a short name leaves out."""
SERVICE_FOLDER = Path("/usr/share/ollama/.ollama/models")

_PART = re.compile(r"\w[\w.-]*")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_BLOB = re.compile(r"sha256-([0-9a-f]{64})")
_LAYER = "application/vnd.ollama.image."


@dataclass(frozen=True, slots=True)
class _Layer:
    """One blob of a model."""

    kind: str
    """End of the media type: `model`, `template`, `license`, …"""
    blob: Path
    size: int


class _Damaged(Exception):
    """Reason why a model cannot be used; the second argument is the fix, if it is not to pull the model again."""


def store_folder() -> Path:
    """Return Ollama's folder of models, which need not exist."""
    if named := os.environ.get("OLLAMA_MODELS"):
        return Path(named).expanduser()
    own = Path.home() / ".ollama" / "models"
    return SERVICE_FOLDER if not own.is_dir() and SERVICE_FOLDER.is_dir() else own


def ollama_models() -> list[StoredModel]:
    """Return every model in Ollama's store, damaged ones too, sorted by name."""
    root = store_folder()
    manifests = (path for path in root.glob("manifests/*/*/*/*") if path.is_file() and path.name[0] != ".")
    return sorted((_model(root, path) for path in manifests), key=lambda model: model.name)


def find_ollama(name: str) -> StoredModel:
    """Return the model called `[registry/][namespace/]name[:tag]`.

    Raises UserError for a name that the store does not hold, with close ones, and for a model whose manifest or blobs
    are missing, unfinished or of another size. Contents are not hashed; `verify_blob` does that.
    """
    root = store_folder()
    path, _, tag = name.rpartition(":") if ":" in name else (name, "", TAG)
    parts = path.split("/")
    parts = [REGISTRY, NAMESPACE][: max(3 - len(parts), 0)] + parts
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in (*parts, tag)):
        raise UserError(
            f"{PREFIX}{name} is not the name of an Ollama model",
            where=PREFIX + name,
            fix=f"write it as {PREFIX}NAME[:TAG] or {PREFIX}NAMESPACE/NAME[:TAG]",
        )
    manifest = root / "manifests" / Path(*parts) / tag
    if not manifest.is_file():
        raise not_in_store(PREFIX + name, [model.name for model in ollama_models()], root, _unfinished(root))
    return usable(_model(root, manifest))


def verify_blob(path: Path) -> None:
    """Compare the content of an Ollama blob with the digest in its name; any other file passes.

    Reads the whole file. Raises UserError if they differ.
    """
    named = _BLOB.fullmatch(path.name)
    if named and sha256_of(path) != named[1]:
        raise UserError(
            "the blob is damaged: its content does not have the SHA-256 in its name",
            where=str(path),
            fix="delete the file, then `ollama pull` the model again",
        )


def _model(root: Path, manifest: Path) -> StoredModel:
    registry, namespace, base, tag = manifest.relative_to(root / "manifests").parts
    shown = base if namespace == NAMESPACE else f"{namespace}/{base}"
    shown = shown if registry == REGISTRY else f"{registry}/{namespace}/{base}"
    name = f"{shown}:{tag}"
    file, size, config, texts = manifest, 0, {}, {}
    problem: str | None = None
    fix = f"ollama pull {name}"
    try:
        config_layer, layers = _layers(root, manifest)
        size = sum(layer.size for layer in layers)
        file = next((layer.blob for layer in layers if layer.kind == "model"), manifest)
        for layer in (config_layer, *layers):
            _check_blob(layer)
        config = _json(config_layer.blob)
        texts = {kind: _texts(layers, kind) for kind in ("template", "system", "license")}
        _refuse_other_kinds(layers, config)
    except _Damaged as damage:
        problem, *other_fix = damage.args
        fix = other_fix[0] if other_fix else fix
    licences = texts.get("license") or []
    return StoredModel(
        name=PREFIX + name,
        store="ollama",
        source=f"{registry}/{namespace}/{base}:{tag}",
        file=file,
        size_bytes=size,
        model_type=_text(config, "model_family"),
        quantization=_text(config, "file_type"),
        license=licence_title(licences[0]) if licences else None,
        template=next(iter(texts.get("template") or []), None),
        system=next(iter(texts.get("system") or []), None),
        problem=problem,
        fix=fix if problem else "",
    )


def _layers(root: Path, manifest: Path) -> tuple[_Layer, list[_Layer]]:
    """The config and the layers of a manifest."""
    content = _json(manifest)
    try:
        return _layer(root, content["config"]), [_layer(root, entry) for entry in content["layers"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _Damaged("its manifest names no layers") from None


def _layer(root: Path, entry: Mapping[str, Any]) -> _Layer:
    digest = _DIGEST.fullmatch(entry["digest"])
    if digest is None:
        raise ValueError(entry["digest"])
    kind = str(entry["mediaType"]).split(";")[0].removeprefix(_LAYER)
    return _Layer(kind, root / "blobs" / f"sha256-{digest[1]}", int(entry["size"]))


def _check_blob(layer: _Layer) -> None:
    """Raise _Damaged unless the blob is present with the manifest's size."""
    name = f"{layer.blob.name[:19]}…"
    try:
        size = layer.blob.stat().st_size
    except OSError:
        if any(layer.blob.parent.glob(f"{layer.blob.name}-partial*")):
            raise _Damaged(f"the download of its {layer.kind} blob {name} is not finished") from None
        raise _Damaged(f"its {layer.kind} blob {name} is missing") from None
    if size != layer.size:
        raise _Damaged(f"its {layer.kind} blob {name} has {size:,} bytes, and the manifest says {layer.size:,}")


def _refuse_other_kinds(layers: list[_Layer], config: Mapping[str, Any]) -> None:
    """Raise _Damaged unless the model is a single GGUF file."""
    kinds = [layer.kind for layer in layers]
    if "adapter" in kinds:
        raise _Damaged(
            "it is a base model with an adapter in GGUF form, which cannot be applied",
            "use the base model, or the adapter's original in PEFT or mlx-lm form with --adapter",
        )
    if kinds.count("model") == 1:
        return
    if config.get("remote_host") or config.get("remote_model"):
        raise _Damaged("it runs in Ollama's cloud, and its weights are not on this machine", "use a local model")
    if "tensor" in kinds or config.get("model_format") == "safetensors":
        raise _Damaged(
            "Ollama stores it tensor by tensor, not as a GGUF file",
            "use the same model from the hub: `mlx-suite models pull OWNER/REPO`",
        )
    raise _Damaged(f"it has {kinds.count('model')} GGUF files, not one", "use another variant of the model")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _Damaged(f"{path.name} cannot be read: {error.strerror or error}", "check its permissions") from None
    except (ValueError, RecursionError):
        raise _Damaged("its manifest or config is not JSON, perhaps half-written") from None
    if not isinstance(value, dict):
        raise _Damaged("its manifest or config is not a JSON object")
    return value


def _texts(layers: list[_Layer], kind: str) -> list[str]:
    return [layer.blob.read_text(encoding="utf-8", errors="replace") for layer in layers if layer.kind == kind]


def _text(config: Mapping[str, Any], key: str) -> str | None:
    return str(config[key]) if config.get(key) else None


def _unfinished(root: Path) -> list[str]:
    """A line about downloads whose manifest is still to come."""
    blobs = [path for path in root.glob("blobs/sha256-*-partial") if path.is_file()]
    if not blobs:
        return []
    return [f"{len(blobs)} unfinished download{'s' if len(blobs) > 1 else ''} in {root / 'blobs'}"]
