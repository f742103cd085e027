"""The model of a run: loaded, quantized, adapted, with the trained parameters unfrozen."""

from dataclasses import dataclass
from pathlib import Path

import mlx.nn as nn

from mlx_suite.adapters.attach import AdapterConfig
from mlx_suite.adapters.lora import add_adapters, unfreeze_all
from mlx_suite.adapters.token_rows import add_token_rows
from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.quantization import quantize_base
from mlx_suite.checkpoints.weights import evaluate, named_parameters, parameter_count
from mlx_suite.finetune.new_tokens import TemplateTokens
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.finetune.starting_point import StartingPoint, attach_adapter
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.documents import refuse_packing
from mlx_suite.training.neftune import add_noise
from mlx_suite.training.recompute import recompute


@dataclass(frozen=True, kw_only=True)
class TrainableModel:
    """A model ready for training."""

    model: nn.Module
    adapter: AdapterConfig | None
    """Settings of the adapter; None for full finetuning."""
    trained: int
    """Number of trained parameters."""
    total: int
    """Total number of parameters, counted before quantization."""
    base_digest: str
    """Digest of the base weights."""
    notes: tuple[str, ...]
    """Notes for the user: module names that matched nothing, layers left unquantized."""


def load_trainable(
    settings: FinetuneSettings,
    folder: Path,
    tokens: TemplateTokens | None = None,
    start: StartingPoint | None = None,
) -> TrainableModel:
    """Load the model in `folder`, add the adapters of the settings, and unfreeze the trained parameters.

    `tokens` are the template's; rows of those that the model does not know are trained as the settings say. The
    adapter of `start` is attached instead of a new one.

    Raises UserError if no layer matches the modules to adapt, the adapter to start from does not fit, or the model
    cannot train on packed rows.
    """
    # Lazy loading quantizes layer by layer: the unquantized model may not fit in memory.
    model = load_model(folder, lazy=settings.quantize_base > 0)
    if settings.batching == "pack":
        refuse_packing(model)
    notes: list[str] = []
    if settings.quantize_base:
        unquantized = quantize_base(model, bits=settings.quantize_base)
        evaluate(named_parameters(model).values())
        if unquantized:
            notes.append(f"not quantized, because no group size divides their columns: {', '.join(unquantized)}")
    digest = weights_digest(model)
    adapter = None
    if settings.method == "full":
        unfreeze_all(model)
    elif start is not None:
        adapter = attach_adapter(model, start, settings.dropout)
    else:
        adapter = AdapterConfig(
            method=settings.method,
            rank=settings.rank,
            alpha=settings.alpha,
            rslora=settings.rslora,
            dropout=settings.dropout,
            modules=settings.modules,
            layers=settings.layers,
        )
        report = add_adapters(model, adapter, seed=settings.seed)
        if not report.targets:
            layers = "" if settings.layers is None else f" --layers {','.join(map(str, settings.layers))}"
            raise UserError(
                "No layer of this model matches the modules and blocks to adapt",
                where=f"--modules {','.join(settings.modules)}" + layers,
                fix="choose from the layers listed by mlx-suite models info MODEL",
            )
        if report.unmatched:
            notes.append(f"matched nothing in this model: {', '.join(map(str, report.unmatched))}")
        if rows := tokens.trained_rows(settings) if tokens else ():
            add_token_rows(model, rows)
    notes += tokens.notes(settings) if tokens else []
    if settings.neftune:
        add_noise(model.model.embed_tokens, settings.neftune)
    if settings.recompute:
        recompute(model.layers)
    return TrainableModel(
        model=model,
        adapter=adapter,
        trained=parameter_count(model.trainable_parameters()),
        total=parameter_count(model.parameters()) + _hidden_by_quantization(model),
        base_digest=digest,
        notes=tuple(notes),
    )


def _hidden_by_quantization(model: nn.Module) -> int:
    """Number of parameters minus number of stored elements, over all quantized layers."""
    hidden = 0
    for module in model.modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            stored = (module[name] for name in ("weight", "scales", "biases") if module.get(name) is not None)
            hidden += module.weight.size * 32 // module.bits - sum(array.size for array in stored)
    return hidden
