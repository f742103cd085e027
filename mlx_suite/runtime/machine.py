"""The report of `mlx-suite doctor` on this machine, as data."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from typing import Any

from .benchmark import Speed, measure_speed
from .blas import INSTALL, Blas
from .blas_choice import VARIABLE, BlasChoice, choose, measured_in_child
from .container import usable_cores
from .device import Device, device, set_limits
from .few_rows import TYPICAL, Forms, measured
from .footprint import bytes_read_per_token, cache_bytes, kv_bytes_per_token, weight_bytes
from .memory import available_memory, machine_memory
from .processor import processor_name

# Bits per loaded weight, by name of the precision. The CPU expands everything to float32.
_PRECISIONS = {"4-bit": 4.5, "bf16": 16.0}
_CPU_PRECISIONS = {"float32": 32.0}
_SLOW_GEMM = 20.0  # GFLOP/s: above the reference BLAS, below any optimised one on a single old core


def _llama(hidden: int, layers: int, heads: int, intermediate: int, context: int, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": hidden // heads,
        "intermediate_size": intermediate,
        "vocab_size": 128256,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
    }


def _gemma2(hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, intermediate: int) -> dict[str, Any]:
    return {
        "model_type": "gemma2",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": intermediate,
        "vocab_size": 256000,
        "sliding_window": 4096,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }


def _gemma3(hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, context: int) -> dict[str, Any]:
    own = {"model_type": "gemma3_text", "vocab_size": 262144, "sliding_window": 512 if hidden < 2560 else 1024}
    return _gemma2(hidden, layers, heads, kv_heads, 256, intermediate) | own | {"max_position_embeddings": context}


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int, tied: bool) -> dict[str, Any]:
    own = {"model_type": "qwen3", "vocab_size": 151936, "head_dim": 128}
    return _llama(hidden, layers, heads, intermediate, 40960, tied) | own


REFERENCE_MODELS: dict[str, dict[str, Any]] = {
    "Llama 3.2 1B": _llama(2048, 16, 32, 8192, 131072, tied=True),
    "Llama 3.2 3B": _llama(3072, 28, 24, 8192, 131072, tied=True),
    "Llama 3 8B": _llama(4096, 32, 32, 14336, 8192, tied=False),
    "Gemma 2 2B": _gemma2(2304, 26, 8, 4, 256, 9216),
    "Gemma 2 9B": _gemma2(3584, 42, 16, 8, 256, 14336),
    "Gemma 2 27B": _gemma2(4608, 46, 32, 16, 128, 36864),
    "Gemma 3 1B": _gemma3(1152, 26, 4, 1, 6912, 32768),
    "Gemma 3 4B": _gemma3(2560, 34, 8, 4, 10240, 131072),
    "Gemma 3 12B": _gemma3(3840, 48, 16, 8, 15360, 131072),
    "Qwen 3 0.6B": _qwen3(1024, 28, 16, 3072, tied=True),
    "Qwen 3 4B": _qwen3(2560, 36, 32, 9728, tied=True),
    "Qwen 3 8B": _qwen3(4096, 36, 32, 12288, tied=False),
}
"""Configurations of common models, with Hugging Face's keys: `doctor` says which fit before any download."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Memory that a model needs on this machine, and how fast it could decode."""

    model: str
    precision: str
    """Precision of the weights: "4-bit" (groups of 64), "bf16", or "float32" on the CPU."""
    weight_bytes: int
    fits: bool
    """Whether the weights and a KV cache of 1,024 tokens fit into the working set."""
    tokens: int
    """Tokens of KV cache that fit with the weights, at most the model's context; 0 if the model does not fit."""
    ceiling: float
    """Upper bound of tokens per second at batch size 1, from memory bandwidth."""


@dataclass(frozen=True, kw_only=True)
class MachineReport:
    """The machine, its speed, the models that fit, and advice."""

    machine: str
    processor: str
    cores: int
    """Cores this process may use, from its affinity and container quota."""
    system: str
    python: str
    mlx: str
    mlx_lm: str
    device: Device
    products: Forms
    """How products of few rows, those of a decode step, are computed with a large matrix."""
    blas_choice: BlasChoice | None
    """Which BLAS library is faster here; None unless several are installed and none is chosen by the user."""
    compiler: str | None
    """Path of g++, which `mx.compile` needs on a Linux CPU; None if missing."""
    memory_bytes: int
    available_bytes: int
    speed: Speed
    bundled_gemm: float | None
    """float32 GFLOP/s of MLX's bundled BLAS; None if no other BLAS was loaded."""
    fits: tuple[Fit, ...]
    advice: tuple[str, ...]

    @property
    def blas_speedup(self) -> float | None:
        """Speed of matrix products relative to the bundled BLAS; None if no other BLAS was loaded."""
        return self.speed.gemm_float32 / self.bundled_gemm if self.bundled_gemm else None

    def as_dict(self) -> dict[str, Any]:
        """The report in JSON types; sizes in bytes, speeds in GFLOP/s and GB/s."""
        plain = dataclasses.asdict(self)
        blas = self.device.blas
        if blas is not None:
            plain["device"]["blas"]["path"] = str(blas.path) if blas.path else None
        plain["blas_worth"] = self.blas_speedup
        plain["fits"] = list(plain["fits"])
        plain["advice"] = list(plain["advice"])
        return plain


def examine() -> MachineReport:
    """Examine and measure the machine, in about four seconds, or ten where two BLAS libraries are installed.

    The faster library is remembered for the commands that follow.

    Raises UserError if MLX is missing or has no backend for this machine.
    """
    here = device()
    set_limits(here)
    speed = measure_speed(here.kind, here.memory_bytes)
    compiler = shutil.which("g++")
    choice = choose() if here.kind == "cpu" and here.blas and here.blas.path and VARIABLE not in os.environ else None
    return MachineReport(
        machine=platform.machine(),
        processor=processor_name(),
        cores=usable_cores(),
        system=_system(),
        python=platform.python_version(),
        mlx=importlib.metadata.version("mlx"),
        mlx_lm=_version("mlx-lm"),
        device=here,
        products=measured(*TYPICAL),
        blas_choice=choice,
        compiler=compiler,
        memory_bytes=machine_memory(),
        available_bytes=available_memory(),
        speed=speed,
        bundled_gemm=_bundled_gemm() if here.blas and here.blas.path else None,
        fits=what_fits(here, speed.gemv_bandwidth),
        advice=tuple(advise(here, speed, compiler, choice)),
    )


def what_fits(device: Device, bandwidth: float) -> tuple[Fit, ...]:
    """Which of `REFERENCE_MODELS` fit on `device`, in each precision that its kind uses.

    Args:
        bandwidth: Bandwidth of a matrix-vector product, in GB/s.
    """
    results = []
    for model, config in REFERENCE_MODELS.items():
        for precision, bits in (_CPU_PRECISIONS if device.kind == "cpu" else _PRECISIONS).items():
            weights = weight_bytes(config, bits)
            left = device.working_set_bytes - weights
            element = 4 if bits == 32 else 2
            tokens = int(config["max_position_embeddings"])
            if cache_bytes(config, tokens, element) > left:
                tokens = min(tokens, left // kv_bytes_per_token(config, element))
            fits = tokens >= 1024
            results.append(
                Fit(
                    model=model,
                    precision=precision,
                    weight_bytes=weights,
                    fits=fits,
                    tokens=tokens if fits else 0,
                    ceiling=bandwidth * 1e9 / bytes_read_per_token(config, bits),
                )
            )
    return tuple(results)


def advise(device: Device, speed: Speed, compiler: str | None, choice: BlasChoice | None = None) -> list[str]:
    """Suggestions for more speed, one line each, the largest gain first."""
    lines = []
    blas = device.blas or Blas(name="none")
    if blas.advice:
        lines.append(blas.advice)
    elif device.kind == "cpu" and speed.gemm_float32 < _SLOW_GEMM and os.environ.get(VARIABLE, "").lower() != "none":
        lines.append(
            f"{speed.gemm_float32:.0f} GFLOP/s is slow for {blas.name}: are the cores busy? If not, {INSTALL}."
        )
    if choice is not None and choice.name != blas.name:
        lines.append(f"{choice.name} is faster here ({choice}): the next command loads it instead of {blas.name}.")
    if device.kind == "cpu" and sys.platform.startswith("linux") and compiler is None:
        lines.append("g++ is missing, so mx.compile does nothing here: install it (Debian: apt install g++).")
    if device.kind == "cpu" and sys.platform.startswith("linux") and shutil.which("nvidia-smi"):
        lines.append('There is an NVIDIA GPU that MLX does not use: pip install "mlx-suite[cuda]".')
    return lines


def _bundled_gemm() -> float | None:
    """float32 GFLOP/s of the bundled BLAS; None if it cannot be measured."""
    program = "import mlx_suite.runtime.benchmark as b; import json; print(json.dumps(b.gemm_gflops('float32', 0.2)))"
    found = measured_in_child("none", program)
    return float(found) if isinstance(found, int | float) else None


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return str(platform.freedesktop_os_release()["PRETTY_NAME"])
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
