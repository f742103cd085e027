"""Memory and time of merging, a block of rows at a time, beside a merge that holds whole models.

The models have random weights, written a block at a time too. Each side runs in its own process. The plain side reads
all models, adds them up in fp32 and saves the average, as a short script would.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.weight_writer import PlannedTensor, weight_writer
from mlx_suite.checkpoints.weights import load_file, parameter_shapes
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.transfer.merge.merging import merge_models
from mlx_suite.transfer.merge.recipe import METHODS, Recipe, whole_models
from mlx_suite.transfer.merge.schedule import constant

from .turns import TurnOrder, Work, resident_peak, take_turns

PLAIN = "whole models"
"""Name of the plain side."""
MERGED = tuple(name for name in METHODS if name != "passthrough")
WRITTEN = 1 << 22
"""Random elements written at a time."""
ONE_BILLION: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "dtype": "bfloat16",
}
"""The shape of Llama 3.2 1B."""


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """A merge of one side."""

    method: str
    base: str
    models: tuple[str, ...]
    out: str


@dataclass(frozen=True, kw_only=True)
class MergeCost:
    """Memory and time of one side."""

    name: str
    models: int
    seconds: float
    cpu_seconds: float
    """Seconds of all cores together, which other programs on the machine hardly change."""
    mlx_bytes: int
    """Peak of MLX's memory."""
    resident_bytes: int
    """Rise of the process's peak resident memory during the merge."""
    largest_bytes: int
    """Size of the largest tensor in fp32."""
    model_bytes: int
    """Size of one model on disk."""


def measure_merges(
    config: dict[str, Any], folder: Path, methods: Sequence[str], *, models: int = 2, plain: bool = True
) -> list[MergeCost]:
    """Write a base and `models` models of this shape into `folder`, and merge them by each method.

    Raises UserError with the end of the traceback if a side fails.
    """
    folders = [folder / name for name in ("base", *(f"model-{number}" for number in range(1, models + 1)))]
    for seed, each in enumerate(folders):
        write_random(each, config, seed)
    costs: list[MergeCost] = []
    for name in (*methods, *([PLAIN] if plain else [])):
        method = METHODS.get(name)
        count = min(models, (method.most if method else None) or models)
        job = MergeJob(
            method=name,
            base=str(folders[0]),
            models=tuple(map(str, folders[1 : count + 1])),
            out=str(folder / "out"),
        )
        work: Work = _plain if name == PLAIN else _merge
        costs += take_turns({name: (work, job)}, turns=1)[name]
    return costs


def write_random(folder: Path, config: dict[str, Any], seed: int) -> None:
    """Write a checkpoint with random weights in bfloat16, without ever holding a whole tensor."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    shapes = parameter_shapes(build_model(ModelConfig.from_dict(config)))
    plan = [PlannedTensor(name, "BF16", shape) for name, shape in shapes.items()]
    random = np.random.default_rng(seed)
    with weight_writer(folder, plan) as writer:
        for tensor in plan:
            for size in _pieces(prod(tensor.shape)):
                values = mx.array(0.02 * random.standard_normal(size, np.float32)).astype(mx.bfloat16)
                writer.write(tensor.name, np.array(values.view(mx.uint16)))


def _pieces(size: int) -> Iterator[int]:
    for start in range(0, size, WRITTEN):
        yield min(WRITTEN, size - start)


def _merge(job: MergeJob, turns: TurnOrder) -> None:
    _prepare()
    turns.wait()
    before = resident_peak()
    start, cpu = time.perf_counter(), time.process_time()
    parameters = {"mu": constant(0.5)} if job.method == "ema" else {}
    recipe = Recipe(
        method=job.method,
        slices=whole_models(job.models),
        base=job.base if METHODS[job.method].base else None,
        parameters=parameters,
    )
    merged = merge_models(recipe, job.out)
    turns.report(
        MergeCost(
            name=job.method,
            models=len(job.models),
            seconds=time.perf_counter() - start,
            cpu_seconds=time.process_time() - cpu,
            mlx_bytes=merged.peak_bytes,
            resident_bytes=resident_peak() - before,
            largest_bytes=merged.largest_bytes,
            model_bytes=_size(Path(job.base)),
        )
    )


def _plain(job: MergeJob, turns: TurnOrder) -> None:
    _prepare()
    turns.wait()
    before = resident_peak()
    start, cpu = time.perf_counter(), time.process_time()
    mx.reset_peak_memory()
    models = [load_file(Path(folder) / "model.safetensors") for folder in job.models]
    mx.eval(models)
    average = {name: sum(model[name].astype(mx.float32) for model in models) / len(models) for name in models[0]}
    mx.eval(average)
    result = {name: array.astype(mx.bfloat16) for name, array in average.items()}  # type: ignore[union-attr]
    Path(job.out).mkdir(exist_ok=True)
    mx.save_safetensors(str(Path(job.out) / "plain.safetensors"), result)
    turns.report(
        MergeCost(
            name=PLAIN,
            models=len(job.models),
            seconds=time.perf_counter() - start,
            cpu_seconds=time.process_time() - cpu,
            mlx_bytes=mx.get_peak_memory(),
            resident_bytes=resident_peak() - before,
            largest_bytes=4 * max(array.size for array in models[0].values()),
            model_bytes=_size(Path(job.base)),
        )
    )


def _prepare() -> None:
    from mlx_suite.runtime.device import device, set_limits

    set_limits(device())


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
