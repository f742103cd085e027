"""A model made ready for a run: loaded, packed, adapted, and told what to learn."""

from dataclasses import dataclass
from pathlib import Path

import mlx.nn as nn

from mlx_suite.adapters.attach import AdapterConfig
from mlx_suite.adapters.lora import add_adapters, unfreeze_all
from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.quantization import quantize_base
from mlx_suite.checkpoints.weights import evaluate, named_parameters, parameter_count
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.documents import refuse_packing
from mlx_suite.training.neftune import add_noise
from mlx_suite.training.recompute import recompute


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A model made ready: what is trained in it, and what was left alone."""

    model: nn.Module
    adapter: AdapterConfig | None
    """None for full finetuning."""
    trained: int
    """Parameters that are learned."""
    total: int
    base_digest: str
    notes: tuple[str, ...]
    """What a user should know: names that matched nothing, layers that could not be packed."""


def make_trainee(settings: FinetuneSettings, folder: Path) -> Trainee:
    """Load the model and make the parameters trainable that the method trains."""
    # A model that is to be packed is read layer by layer: it may be too large to be held whole.
    model = load_model(folder, lazy=settings.quantize_base > 0)
    if settings.batching == "pack":
        refuse_packing(model)
    notes: list[str] = []
    if settings.quantize_base:
        left = quantize_base(model, bits=settings.quantize_base)
        evaluate(named_parameters(model).values())
        if left:
            notes.append(f"left as they are, no group size divides their columns: {', '.join(left)}")
    digest = weights_digest(model)
    adapter = None
    if settings.method == "full":
        unfreeze_all(model)
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
                "No layer of this model has one of the names and numbers that are to be trained",
                where=f"--modules {','.join(settings.modules)}" + layers,
                fix="mlx-suite models info MODEL names the layers",
            )
        if report.unmatched:
            notes.append(f"matched nothing in this model: {', '.join(map(str, report.unmatched))}")
    if settings.neftune:
        add_noise(model.model.embed_tokens, settings.neftune)
    if settings.recompute:
        recompute(model.layers)
    return Trainee(
        model=model,
        adapter=adapter,
        trained=parameter_count(model.trainable_parameters()),
        total=parameter_count(model.parameters()) + _hidden_by_packing(model),
        base_digest=digest,
        notes=tuple(notes),
    )


def _hidden_by_packing(model: nn.Module) -> int:
    """Parameters that packed layers stand for beyond the numbers they hold: words of 32 bits, scales and biases."""
    hidden = 0
    for module in model.modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            held = (module[name] for name in ("weight", "scales", "biases") if module.get(name) is not None)
            hidden += module.weight.size * 32 // module.bits - sum(array.size for array in held)
    return hidden
