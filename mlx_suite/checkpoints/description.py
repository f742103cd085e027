"""Describe a checkpoint folder from its JSON files and weight headers, without loading it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.config_file import CONFIG_KEYS
from mlx_suite.checkpoints.safetensors_header import TensorHeader, read_headers
from mlx_suite.checkpoints.stored_weights import as_stored, is_tied
from mlx_suite.modeling.config import OUR_TYPES, ModelConfig
from mlx_suite.modeling.text_part import text_config, text_weights
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import json_if_any
from mlx_suite.runtime.json_file import (
    TEXTS,
    TOKEN_IDS,
    WHOLE,
    Kind,
    check_kinds,
    read_object,
)
from mlx_suite.text.fast_backend import TOKENIZER_JSON_KEYS
from mlx_suite.text.settings import LEGACY_TEMPLATE_FILE, TEMPLATE_FILE, TOKENIZER_KEYS, token_text

DTYPE_NAMES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2",
}
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
PACKED = ("U32", "I32")
"""Dtypes of packed quantized weights, with several weights per element."""

_SIZE = Kind(
    name="a whole number",
    holds=lambda value: WHOLE.holds(value) or isinstance(value, list) and all(map(WHOLE.holds, value)),
)
_SHAPE_KEYS = {
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "hidden_size",
            "vocab_size",
            "max_position_embeddings",
            "sliding_window",
        ),
        _SIZE,
    ),
    "layer_types": TEXTS,
}
NOT_PARAMETERS = (".scales", ".biases", ".rotary_emb.inv_freq", "_scale_inv")


@dataclass(frozen=True, kw_only=True)
class StopToken:
    """A token that ends a response; `text` is None if the tokenizer does not list it as added."""

    id: int
    text: str | None


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """A checkpoint's shape, size and memory needs; None for facts that its files do not state."""

    path: Path
    model_type: str
    architecture: str | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    hidden_size: int | None
    vocab_size: int | None
    context: int | None
    """Context length in tokens, from `max_position_embeddings`."""
    window: int | None
    """Sliding window in tokens, the query's own included."""
    window_layers: int
    dtype: str
    quantization: str | None
    parameters: int | None
    """Parameter count without quantization scales; a tied head counts once. None for packings other than MLX's."""
    size_bytes: int
    """Size of all files in the folder."""
    kv_bytes_per_token: int | None
    """KV cache bytes per token in all layers, in `dtype`."""
    kv_bytes_per_token_past_window: int | None
    """KV cache bytes per token beyond the sliding window, where only global layers keep growing."""
    chat_template: bool
    stop_tokens: tuple[StopToken, ...]

    def cache_bytes(self, tokens: int, element_bytes: int) -> int | None:
        """KV cache bytes of a conversation of `tokens` tokens, with elements of `element_bytes`; None if unknown."""
        per_token, past = self.kv_bytes_per_token, self.kv_bytes_per_token_past_window
        if per_token is None:
            return None
        within = min(tokens, self.window or tokens)
        stored = per_token * within + (past or 0) * (tokens - within)
        return stored * element_bytes // DTYPE_BYTES.get(self.dtype, 2)


def describe(folder: Path) -> ModelDescription:
    """Describe the checkpoint in `folder`.

    Raises UserError for a folder without a readable `config.json`, for an invalid config of one of our architectures,
    and for missing or truncated weight files.
    """
    config = read_object(folder / "config.json", CONFIG_KEYS)
    if config.get("model_type") is None:
        raise UserError(
            what="the model's configuration is missing or has no model_type",
            where=str(folder / "config.json"),
            fix="use a complete Hugging Face checkpoint",
        )
    tensors = read_headers(folder)
    config = as_stored(config, folder)
    if config["model_type"] in OUR_TYPES:
        tensors = text_weights(tensors)
    files = (path for path in folder.rglob("*") if path.is_file())
    return describe_config(
        config,
        path=folder,
        dtype=_dtype(tensors),
        quantization=stored_quantization(config),
        parameters=_count_parameters(tensors, config),
        size_bytes=sum(path.stat().st_size for path in files),
        chat_template=_has_chat_template(folder),
        stop_tokens=_stop_tokens(folder, config),
    )


def describe_config(
    config: Mapping[str, Any],
    *,
    path: Path,
    dtype: str,
    quantization: str | None,
    parameters: int | None,
    size_bytes: int,
    chat_template: bool,
    stop_tokens: tuple[StopToken, ...],
) -> ModelDescription:
    """Describe a model from its config and facts about its weights, wherever they are stored.

    Raises UserError for an invalid config of one of our architectures; `path` is named in it.
    """
    nested = text_config(config)
    nested |= config.get("text_config") or {}  # multimodal models nest the language model
    check_kinds(nested, _SHAPE_KEYS, path / "config.json")
    ours = config["model_type"] in OUR_TYPES
    shape = _Shape.of_ours(config, str(path)) if ours else _Shape.of_any(nested)
    per_layer = _kv_bytes(shape, dtype)
    return ModelDescription(
        path=path,
        model_type=config["model_type"],
        architecture=next(iter(config.get("architectures") or []), None),
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        hidden_size=_one(nested.get("hidden_size")),
        vocab_size=_one(nested.get("vocab_size")),
        context=_one(nested.get("max_position_embeddings")),
        window=shape.window,
        window_layers=shape.window_layers or 0,
        dtype=dtype,
        quantization=quantization,
        parameters=parameters,
        size_bytes=size_bytes,
        kv_bytes_per_token=_times(per_layer, shape.layers),
        kv_bytes_per_token_past_window=_times(per_layer, shape.unwindowed_layers),
        chat_template=chat_template,
        stop_tokens=stop_tokens,
    )


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """A model's attention layout; None for values that another architecture's config does not state."""

    layers: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    window: int | None
    window_layers: int | None
    """Number of sliding-window layers; None if unknown, or if some layers have no KV cache."""

    @property
    def unwindowed_layers(self) -> int | None:
        if self.layers is None or self.window_layers is None:
            return None
        return self.layers - self.window_layers

    @classmethod
    def of_ours(cls, config: Mapping[str, Any], where: str) -> "_Shape":
        ours = ModelConfig.from_dict(config, where=where)
        windows = [window for window in ours.windows if window is not None]
        return cls(
            layers=ours.num_hidden_layers,
            heads=ours.num_attention_heads,
            kv_heads=ours.num_key_value_heads,
            head_dim=ours.head_dim,
            window=windows[0] if windows else None,
            window_layers=len(windows),
        )

    @classmethod
    def of_any(cls, config: Mapping[str, Any]) -> "_Shape":
        """Read the keys that nearly all configs share."""
        heads, width = _one(config.get("num_attention_heads")), _one(config.get("hidden_size"))
        kinds = config.get("layer_types")
        window = _one(config.get("sliding_window")) if config.get("use_sliding_window", True) else None
        window_layers = None if window else 0
        if kinds:
            known = set(kinds) <= {"full_attention", "sliding_attention"}
            window_layers = list(kinds).count("sliding_attention") if known else None
        if config.get("kv_lora_rank"):
            window_layers = None  # latent attention caches something other than keys and values
        return cls(
            layers=_one(config.get("num_hidden_layers")),
            heads=heads,
            kv_heads=_one(config.get("num_key_value_heads")) or heads,
            head_dim=_one(config.get("head_dim")) or (width // heads if width and heads else None),
            window=window if window_layers != 0 else None,
            window_layers=window_layers,
        )


def _one(value: Any) -> int | None:
    """A number for the whole model; None for a list, with one for each layer."""
    return value if isinstance(value, int) else None


def _kv_bytes(shape: _Shape, dtype: str) -> int | None:
    """KV cache bytes of one token in one layer."""
    if shape.window_layers is None or not shape.kv_heads or not shape.head_dim:
        return None
    return 2 * shape.kv_heads * shape.head_dim * DTYPE_BYTES.get(dtype, 2)


def _times(count: int | None, factor: int | None) -> int | None:
    return None if count is None or factor is None else count * factor


def _dtype(tensors: Mapping[str, TensorHeader]) -> str:
    """The most common floating-point dtype by elements, which activations and KV caches use."""
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in DTYPE_NAMES:
            sizes[tensor.dtype] += tensor.size
    return DTYPE_NAMES[sizes.most_common(1)[0][0]] if sizes else "unknown"


def stored_quantization(config: Mapping[str, Any]) -> str | None:
    """Return how a `config.json` says that its weights are quantized, such as "4 bits in groups of 64"; None if not."""
    settings = config.get("quantization") or config.get("quantization_config")
    if not isinstance(settings, Mapping):
        return None
    if "bits" in settings and "quant_method" not in settings:
        text = f"{settings['bits']} bits in groups of {settings.get('group_size')}"
        if (mode := settings.get("mode", "affine")) != "affine":
            text += f" ({mode})"
        mixed = any(isinstance(value, Mapping) for value in settings.values())
        return text + (", some layers differ" if mixed else "")
    bits = f", {settings['bits']} bits" if "bits" in settings else ""
    return f"{settings.get('quant_method', 'of an unknown kind')}{bits}"


def _count_parameters(tensors: Mapping[str, TensorHeader], config: Mapping[str, Any]) -> int | None:
    """Count weights from the headers; a packed MLX matrix has one scale per group of each row."""
    settings = config.get("quantization") or {}
    tied = is_tied(config)
    total = 0
    for name, tensor in tensors.items():
        if name.endswith(NOT_PARAMETERS):
            continue
        if tied and name.startswith("lm_head."):
            continue  # some checkpoints store the tied head a second time
        if tensor.dtype not in PACKED:
            total += tensor.size
            continue
        module = name.removesuffix(".weight")
        scales = tensors.get(f"{module}.scales")
        own = settings.get(module)
        group_size = (own if isinstance(own, Mapping) else settings).get("group_size")
        if scales is None or not isinstance(group_size, int):
            return None
        total += scales.size * group_size
    return total


def _has_chat_template(folder: Path) -> bool:
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return path.stat().st_size > 0
    others = (folder / LEGACY_TEMPLATE_FILE, folder / "tokenizer_config.json")
    return any(bool(json_if_any(other).get("chat_template")) for other in others)


def _stop_tokens(folder: Path, config: Mapping[str, Any]) -> tuple[StopToken, ...]:
    """The end-of-sequence ids of `generation_config.json`, or else `config.json`, with texts."""
    ids = read_object(folder / "generation_config.json", {"eos_token_id": TOKEN_IDS}).get("eos_token_id")
    ids = config.get("eos_token_id") if ids is None else ids
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    texts = _added_tokens(folder) if ids else {}
    return tuple(StopToken(id=int(token), text=texts.get(int(token))) for token in ids)


def _added_tokens(folder: Path) -> dict[int, str]:
    listed = read_object(folder / "tokenizer_config.json", TOKENIZER_KEYS).get("added_tokens_decoder")
    if listed:
        return {int(number): token_text(token) or "" for number, token in listed.items()}
    listed = read_object(folder / "tokenizer.json", TOKENIZER_JSON_KEYS).get("added_tokens") or []
    return {token["id"]: token["content"] for token in listed}
