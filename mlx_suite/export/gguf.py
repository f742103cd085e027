"""Export of a model to one GGUF file for llama.cpp, Ollama and LM Studio, with a Modelfile."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.adapters.attach import apply_adapter, load_adapter
from mlx_suite.adapters.lora import adapted_layers, base_layer
from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.quantization import expand, quantized_layers
from mlx_suite.checkpoints.trained_run import adapter_folder
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.export.fuse import merged_weight
from mlx_suite.export.gguf_file import FILE_TYPES, write_gguf
from mlx_suite.export.gguf_tensors import misfits, usable_context
from mlx_suite.export.gguf_vocabulary import GGUFVocabulary, has_template, read_vocabulary
from mlx_suite.export.modelfile import modelfile
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text.settings import TEMPLATE_FILE
from mlx_suite.text.template import ChatTemplate, load_chat_template
from mlx_suite.text.tokenizer import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class GGUFExport:
    """Result of an export."""

    path: Path
    modelfile: Path
    """File for `ollama create`, next to the GGUF file."""
    type: str
    tensors: int
    num_bytes: int
    """Size of the GGUF file."""
    has_template: bool
    """Whether the Modelfile has the checkpoint's chat template."""
    notes: tuple[str, ...]
    """Notes for the user on what the file lacks compared with the checkpoint."""


def export_gguf(
    folder: Path | str,
    path: Path | str,
    *,
    type: str = "f16",
    adapter: Path | str | None = None,
    model: nn.Module | None = None,
) -> GGUFExport:
    """Write the checkpoint in `folder` to the GGUF file `path`, with a Modelfile next to it.

    Args:
        type: Type of the matrices: f16, bf16, f32 or q8_0 (8 bits in blocks of 32). bf16 is lossless for a bfloat16
            checkpoint.
        adapter: Folder of an adapter to fuse into the weights.
        model: A loaded model of `folder` whose weights are used instead of the folder's, with its adapters fused. It
            is not changed.

    Raises UserError, and leaves no partial file, for a family or shape that llama.cpp computes differently, a tokenizer
    without a counterpart in llama.cpp, weights with NaN or inf or beyond float16's range, and disk errors.
    """
    folder, path = Path(folder), Path(path)
    _check_arguments(path, type)
    config = _config_of(folder, model)
    vocabulary = read_vocabulary(folder, config.vocab_size)
    template = find_template(folder, adapter)
    weights = dense_weights(model or _open(folder, adapter))
    tensors = write_gguf(
        path,
        weights,
        config=config,
        vocabulary=vocabulary,
        chat_template=template.source if template else None,
        type=type,
        name=path.stem,
        source=folder,
    )

    tokenizer = load_tokenizer(folder)
    context = usable_context(config)
    text, reason = modelfile(path, folder, tokenizer, template, context=context)
    file = path.with_suffix(".Modelfile")
    write_atomically(file, text)
    return GGUFExport(
        path=path,
        modelfile=file,
        type=type,
        tensors=tensors,
        num_bytes=path.stat().st_size,
        has_template=reason is None,
        notes=tuple(_notes(config, vocabulary, context, reason)),
    )


def find_template(folder: Path, adapter: Path | str | None = None) -> ChatTemplate | None:
    """The chat template that the adapter was trained with, otherwise the checkpoint's; None if neither has one."""
    trained = None if adapter is None else adapter_folder(Path(adapter).expanduser())
    if has_template(folder) or (trained is not None and (trained / TEMPLATE_FILE).is_file()):
        return load_chat_template(folder, adapter=trained)
    return None


def dense_weights(model: nn.Module) -> dict[str, mx.array]:
    """Parameters by name with adapters fused and quantized layers expanded, not yet evaluated."""
    weights = named_parameters(model)
    for path, layer in adapted_layers(model).items():
        weights = {name: array for name, array in weights.items() if not name.startswith(f"{path}.")}
        weights[f"{path}.weight"] = merged_weight(layer)
        if "bias" in base_layer(layer):
            weights[f"{path}.bias"] = base_layer(layer).bias
    for path, settings in quantized_layers(model).items():
        if f"{path}.scales" in weights:
            expand(weights, path, settings, mx.float32)
    return weights


def _open(folder: Path, adapter: Path | str | None) -> nn.Module:
    """The model, lazily loaded, in fp32 so that fusing is exact."""
    model = load_model(folder, dtype="float32", dequantize=True, lazy=True)
    if adapter is not None:
        apply_adapter(model, load_adapter(adapter), where=str(adapter))
    return model


def _check_arguments(path: Path, type: str) -> None:
    if type not in FILE_TYPES:
        raise UserError(
            f"GGUF weights cannot be stored as {type!r} here", "type", f"choose one of {', '.join(FILE_TYPES)}"
        )
    if path.suffix != ".gguf":
        raise UserError("the file's name must end in .gguf", str(path), f"name it {path.with_suffix('.gguf').name}")


def _config_of(folder: Path, model: nn.Module | None) -> ModelConfig:
    config = getattr(model, "config", None) if model is not None else None
    if not isinstance(config, ModelConfig):
        config = ModelConfig.from_dict(read_config(folder), where=str(folder / "config.json"))
    problems = list(misfits(config))
    if problems:
        raise UserError(
            "llama.cpp would not compute the same function as this model",
            where=str(folder),
            fix="use the model with mlx-suite or mlx-lm",
            details=problems,
        )
    return config


def _notes(config: ModelConfig, vocabulary: GGUFVocabulary, context: int, reason: str | None) -> Iterator[str]:
    if context < config.max_position_embeddings:
        yield (
            f"llama.cpp has no sliding window for this family: the file's context is {context:,} tokens, up to which "
            f"the two match, instead of {config.max_position_embeddings:,}"
        )
    if vocabulary.loses_first_space:
        yield (
            "the tokenizer adds a space before the first text only, which llama.cpp cannot do: the file is meant for "
            "conversations; begin a prompt without the chat template with a space"
        )
    if vocabulary.loses_nfc:
        yield (
            "the tokenizer normalizes text to Unicode's NFC, which llama.cpp does not: decomposed accents (e + U+0301) "
            "become other tokens there"
        )
    if reason is not None:
        yield f"the Modelfile has no TEMPLATE: {reason}"
