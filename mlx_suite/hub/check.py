"""Judge a model before it is downloaded or loaded: what it is, whether it runs here, its memory and its best speed.

Only headers are read, for a hub repository by `repository_headers`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load
from yaml import YAMLError

from mlx_suite.checkpoints.description import DTYPE_BYTES, ModelDescription, describe
from mlx_suite.checkpoints.load import get_model_classes, is_ours, load_model
from mlx_suite.checkpoints.other_formats import UNREAD, foreign_packing, unread
from mlx_suite.checkpoints.safetensors_header import TensorHeader, read_headers
from mlx_suite.checkpoints.stored_weights import as_stored
from mlx_suite.gguf.description import describe_gguf
from mlx_suite.gguf.file import GgufFile, is_gguf, open_gguf
from mlx_suite.gguf.importing import checkpoint_bytes
from mlx_suite.gguf.model_config import config_of
from mlx_suite.gguf.vocabulary import check_vocabulary
from mlx_suite.hub.local_models import is_complete
from mlx_suite.hub.repository_headers import RepositoryHeaders, repository_headers
from mlx_suite.hub.resolve import resolve_with, similar_names
from mlx_suite.hub.stores import StoredModel, find_in_store
from mlx_suite.modeling.text_part import text_weights
from mlx_suite.runtime.benchmark import gemv_bandwidth
from mlx_suite.runtime.device import Device, device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import json_if_any
from mlx_suite.text.template import load_chat_template
from mlx_suite.text.tokenizer import load_tokenizer

USUAL_CONTEXT = 4096
"""Tokens of a conversation that memory is computed for, unless the model's context is shorter."""

_HUB_FILE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+\.gguf)(?:@(?P<revision>.+))?")
_EXPERTS = re.compile(r"\.(experts|switch_mlp)\.")


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """A judgement of one model on this machine; None for what its files do not state."""

    name: str
    source: str
    """Where it is: `hub`, `folder`, `file`, or the store's address."""
    format: str
    """`safetensors` or `GGUF`."""
    description: ModelDescription
    license: str | None
    base_model: str | None
    download_bytes: int
    """Bytes that are not on this machine yet."""
    runs_in: str | None
    """`mlx-suite` for families of our own, `mlx-lm` for the rest of its models; None if it does not run."""
    problems: tuple[str, ...]
    """Why it does not run."""
    notes: tuple[str, ...]
    """What is missing or different, though it runs."""
    precision: str
    """Of the weights in memory."""
    weight_bytes: int | None
    """Memory of the weights once loaded on this machine."""
    context: int
    """Tokens that `cache_bytes` is computed for."""
    cache_bytes: int | None
    """KV cache of one conversation of `context` tokens."""
    memory_bytes: int
    """Memory for models and caches on this machine."""
    bandwidth: float
    """GB/s of a matrix-vector product on this machine."""
    tokens_per_second: float | None
    """Upper bound at batch size 1, from memory bandwidth."""

    @property
    def fits(self) -> bool | None:
        """Whether weights and KV cache fit into memory."""
        if self.weight_bytes is None:
            return None
        return self.weight_bytes + (self.cache_bytes or 0) <= self.memory_bytes


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A model's headers on this machine, and what else is known of it."""

    path: Path
    source: str
    license: str | None = None
    base_model: str | None = None
    download_bytes: int | None = None
    files: tuple[str, ...] = ()
    """Names of a checkpoint's files, including those that were not fetched."""
    stored: StoredModel | None = None


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Whether a model runs, and what loading it takes."""

    description: ModelDescription
    runs_in: str | None
    problems: list[str]
    notes: list[str]
    precision: str
    weight_bytes: int | None
    read_bytes: int | None
    """Bytes of weights read per token."""
    element_bytes: int
    """Bytes of an element of the KV cache."""


def check_model(name: str, context: int | None = None) -> ModelCheck:
    """Judge the model called `name`: a hub repository, one of its GGUF files, a folder, a local GGUF or a store's name.

    Measures memory bandwidth for half a second. `context` is the length of the conversation whose KV cache is counted;
    None: 4,096 tokens or the model's context, whichever is less.

    Raises UserError for a name that matches nothing, damaged files, something that is no model, and a hub that is
    offline, out of reach or denies access.
    """
    here = device()
    with ExitStack() as stack:
        found = _find(name, stack)
        gguf = open_gguf(found.path) if found.path.is_file() else None
        judged = _judge_gguf(gguf, found, here) if gguf else _judge_checkpoint(found, here)
    description = judged.description
    tokens = context or min(USUAL_CONTEXT, description.context or USUAL_CONTEXT)
    if context and description.context and context > description.context:
        judged.notes.append(f"its context is {description.context:,} tokens, fewer than {context:,}")
    bandwidth = gemv_bandwidth(here.kind, here.memory_bytes)
    metadata: Mapping[str, Any] = gguf.metadata if gguf else {}
    base = metadata.get("general.base_model.0.repo_url") or metadata.get("general.base_model.0.name")
    return ModelCheck(
        name=name,
        source=found.source,
        format="GGUF" if gguf else "safetensors",
        description=description,
        license=found.license or _text(metadata.get("general.license")),
        base_model=found.base_model or _text(base),
        download_bytes=found.download_bytes or 0,
        runs_in=None if judged.problems else judged.runs_in,
        problems=tuple(judged.problems),
        notes=tuple(judged.notes),
        precision=judged.precision,
        weight_bytes=judged.weight_bytes,
        context=tokens,
        cache_bytes=description.cache_bytes(tokens, judged.element_bytes),
        memory_bytes=here.working_set_bytes,
        bandwidth=bandwidth,
        tokens_per_second=bandwidth * 1e9 / judged.read_bytes if judged.read_bytes else None,
    )


def _find(name: str, stack: ExitStack) -> _Found:
    """Locate the model; what is fetched from the hub lives as long as `stack`."""
    if stored := find_in_store(name):
        return _Found(path=stored.file, source=stored.source, license=stored.license, stored=stored)
    file = Path(name).expanduser()
    if is_gguf(file):
        return _Found(path=file, source="file")
    if not file.exists() and (one := _HUB_FILE.fullmatch(name)):
        similar = partial(similar_names, one["repo"])
        return _from_hub(stack.enter_context(repository_headers(one["repo"], one["revision"], one["file"], similar)))
    fetched: list[_Found] = []

    def fetch(repo: str, revision: str | None) -> Path:
        headers = stack.enter_context(repository_headers(repo, revision, similar=partial(similar_names, repo)))
        fetched.append(_from_hub(headers))
        return headers.path

    folder = resolve_with(name, fetch, is_complete)
    if fetched:
        return fetched[0]
    readme = folder / "README.md"
    license_name, base = read_card(readme)
    names = tuple(path.name for path in folder.iterdir())
    return _Found(path=folder, source="folder", files=names, license=license_name, base_model=base)


def _from_hub(headers: RepositoryHeaders) -> _Found:
    license_name, base = _card(headers.card)
    return _Found(
        path=headers.path,
        source="hub",
        license=license_name,
        base_model=base,
        download_bytes=sum(headers.files.values()),
        files=tuple(headers.files),
    )


def read_card(card: Path) -> tuple[str | None, str | None]:
    """Licence and base model of a model card's file; None without a card that can be read: nothing depends on it."""
    try:
        values = metadata_load(card) if card.is_file() else None
    except (OSError, ValueError, YAMLError):
        values = None
    return _card(values or {})


def _card(card: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Licence and base model of a model card."""
    license_name = card.get("license")
    if license_name == "other":
        license_name = card.get("license_name") or license_name
    base = card.get("base_model")
    return _text(license_name), ", ".join(map(str, base)) if isinstance(base, list) else _text(base)


def _judge_gguf(gguf: GgufFile, found: _Found, here: Device) -> _Judged:
    description = describe_gguf(gguf)
    problems: list[str] = []
    notes: list[str] = []
    on_cpu = here.kind == "cpu"
    weights: int | None = None
    runs_in: str | None = None
    try:
        config, missing = config_of(gguf)
        weights = checkpoint_bytes(gguf, packed=not on_cpu, dtype="float32" if on_cpu else None)
        runs_in, problem = _implementation(config)
        problems += [problem] if problem else []
        notes += missing
    except UserError as error:
        problems += [error.what, *error.details]
    try:
        check_vocabulary(gguf.metadata)
    except UserError as error:
        problems.append(error.what)
    if not description.chat_template:
        notes.append("the file holds no chat template: right for a base model, wrong for a chat model")
    if found.source == "hub" and not problems:
        notes.append("download the file with `hf download`, and give its path as the model")
    if found.stored and found.stored.template and not description.chat_template:
        notes.append("Ollama's own template is written for Go and is not used")
    embedding = gguf.tensors.get("token_embd.weight")
    untied = embedding.size if embedding and "output.weight" in gguf.tensors else 0
    return _Judged(
        description=description,
        runs_in=runs_in,
        problems=problems,
        notes=notes,
        precision="float32" if on_cpu else "as in the file, or 16 bits",
        weight_bytes=weights,
        read_bytes=_without(weights, untied, description.parameters),
        element_bytes=4 if on_cpu else 2,
    )


def _judge_checkpoint(found: _Found, here: Device) -> _Judged:
    folder = found.path
    description = describe(folder)
    if found.download_bytes is not None:
        description = replace(description, size_bytes=found.download_bytes)
    config, tensors = as_stored(json_if_any(folder / "config.json"), folder), read_headers(folder)
    if is_ours(config):
        tensors = text_weights(tensors)
    runs_in, problem = _implementation(config)
    problems = [problem] if problem else []
    if packing := unread(config, tensors):
        problems.append(UNREAD.format(packing))
    if not {"tokenizer.json", "tokenizer.model"} & set(found.files or (path.name for path in folder.iterdir())):
        problems.append("there is no tokenizer: neither tokenizer.json nor tokenizer.model")
    if found.source == "folder" and not problems:
        problems += _refusals(partial(load_tokenizer, folder))
        if foreign_packing(config):
            problems += _refusals(partial(load_model, folder, lazy=True))
    on_cpu = here.kind == "cpu"
    stored = sum(tensor.num_bytes for tensor in tensors.values())
    weights = stored if not on_cpu else None if description.parameters is None else 4 * description.parameters
    return _Judged(
        description=description,
        runs_in=runs_in,
        problems=problems,
        notes=list(_notes(config, description, folder, None if problems else foreign_packing(config))),
        precision="float32" if on_cpu else description.quantization or description.dtype,
        weight_bytes=weights,
        read_bytes=_without(weights, _not_read(tensors, config), stored),
        element_bytes=4 if on_cpu else DTYPE_BYTES.get(description.dtype, 2),
    )


def _implementation(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Whose implementation loads a model of this config; or why none does."""
    if is_ours(config):
        return "mlx-suite", None
    try:
        get_model_classes(dict(config))
    except (ValueError, ImportError, AttributeError):
        return None, f"neither mlx-suite nor mlx-lm supports the architecture {config['model_type']!r}"
    return "mlx-lm", None


def _refusals(load: Callable[[], object]) -> list[str]:
    """Why something cannot be loaded; empty if it can."""
    try:
        load()
    except UserError as error:
        return [error.what, *error.details]
    return []


def _notes(
    config: Mapping[str, Any], description: ModelDescription, folder: Path, packing: str | None
) -> Iterator[str]:
    if not description.chat_template:
        yield "there is no chat template: right for a base model, wrong for a chat model"
    else:
        yield from _refusals(partial(load_chat_template, folder))[:1]
    if config.get("auto_map"):
        yield "the repository brings code of its own, which is never executed"
    if packing:
        yield f"it is quantized with {packing}, of which mlx-lm reads some layouts only"


def _not_read(tensors: Mapping[str, TensorHeader], config: Mapping[str, Any]) -> int:
    """Stored bytes that a decode step leaves alone: an untied input embedding, and experts that are not chosen."""
    untied = any(name.endswith("lm_head.weight") for name in tensors) and not config.get("tie_word_embeddings")
    embedding = sum(t.num_bytes for name, t in tensors.items() if ".embed_tokens." in name) if untied else 0
    settings = {**config, **(config.get("text_config") or {})}
    counts = (settings.get(key) for key in ("num_local_experts", "num_experts", "n_routed_experts"))
    experts = next((count for count in counts if count), None)
    chosen = settings.get("num_experts_per_tok")
    if not experts or not chosen:
        return embedding
    stored = sum(tensor.num_bytes for name, tensor in tensors.items() if _EXPERTS.search(name))
    return embedding + stored * (int(experts) - int(chosen)) // int(experts)


def _without(weights: int | None, part: int, whole: int | None) -> int | None:
    """`weights` less the share `part / whole`."""
    return None if weights is None or not whole else round(weights * (1 - part / whole))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
