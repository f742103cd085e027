"""RoPE scaling of a GGUF file, in the terms of `config.json`.

llama.cpp keeps Llama 3.1's scaling as its result, one divisor per rotated pair (`rope_freqs.weight`). Its settings are
recovered: with f the frequency of a pair in radians per token, F the factor and L the original context, the divisor is
1 for f·L/2π > high, F for f·L/2π < low, and between them 1/divisor is linear in f.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlx_suite.gguf.file import GgufFile
from mlx_suite.gguf.tensor_names import ROPE_FACTORS
from mlx_suite.gguf.tensors import read_vector
from mlx_suite.modeling.rope import inverse_frequencies
from mlx_suite.modeling.rope_settings import RopeSettings

CLOSE = 1e-4
"""Largest relative difference between the file's divisors and those of the recovered settings."""


def rope_scaling_of(gguf: GgufFile, theta: float, head_dim: int) -> tuple[dict[str, Any] | None, str | None]:
    """`rope_scaling` of config.json, None for plain RoPE; and what is wrong, if anything is."""
    prefix = f"{gguf.architecture}.rope.scaling"
    kind = gguf.metadata.get(f"{prefix}.type", "none")
    factor = gguf.metadata.get(f"{prefix}.factor") or gguf.metadata.get(f"{gguf.architecture}.rope.scale_linear")
    if ROPE_FACTORS in gguf.tensors:
        divisors = read_vector(gguf.tensors[ROPE_FACTORS])
        original = gguf.metadata.get(f"{prefix}.original_context_length")
        settings = llama3_scaling(divisors, theta, head_dim, original)
        if settings is None:
            return None, f"{ROPE_FACTORS} scales RoPE in a way that is neither linear nor Llama 3.1's"
        return (settings if len(settings) > 1 else None), None
    if kind == "linear" or (kind == "none" and factor):
        if not factor or factor == 1.0:
            return None, None
        return {"rope_type": "linear", "factor": float(factor)}, None
    if kind != "none":
        return None, f"RoPE is scaled by {kind}, which is not supported"
    return None, None


def llama3_scaling(
    divisors: np.ndarray, theta: float, head_dim: int, original: int | None = None
) -> dict[str, Any] | None:
    """The `rope_scaling` that gives these divisors (D / 2,); None if no setting of the llama3 rule does.

    low, high and L enter by two ratios only, so low is set to 1 unless L is known: any such choice gives the same
    frequencies.
    """
    if divisors.shape != (head_dim // 2,) or not np.isfinite(divisors).all() or divisors.min() < 1 - CLOSE:
        return None
    if np.abs(divisors - 1).max() < CLOSE:
        return {"rope_type": "default"}
    if np.ptp(divisors) < CLOSE:
        return {"rope_type": "linear", "factor": _rounded(float(divisors.mean()))}
    for settings in _candidates(divisors.astype(np.float64), theta, head_dim, original):
        rope = RopeSettings(theta=theta, kind="llama3", **settings)
        plain = inverse_frequencies(RopeSettings(theta=theta), head_dim)
        found = np.array(plain) / np.array(inverse_frequencies(rope, head_dim))
        if np.abs(found / divisors - 1).max() < CLOSE:
            return {"rope_type": "llama3", **settings}
    return None


def _candidates(divisors: np.ndarray, theta: float, head_dim: int, original: int | None) -> Iterator[dict[str, Any]]:
    """Settings worth trying: the published ones, then those of the line through the divisors of the band."""
    factor = _rounded(float(divisors.max()))
    lengths = [original] if original else []
    for length in [*lengths, 8192, 4096, 16384, 32768, 2048]:
        yield _settings(factor, 1.0, 4.0, length)
    plain = np.array(inverse_frequencies(RopeSettings(theta=theta), head_dim))
    band = (divisors > 1 + CLOSE) & (divisors < divisors.max() * (1 - CLOSE))
    if band.sum() < 2:
        for exponent in range(5, 21):
            yield _settings(factor, 1.0, 4.0, 2**exponent)
        return
    kept = (1 / divisors[band] - 1 / factor) / (1 - 1 / factor)  # (f·L/2π − low) / (high − low)
    slope, shift = np.polyfit(plain[band], kept, 1)
    low = original * -shift / (2 * np.pi * slope) if original else 1.0
    width = low / -shift if shift < 0 else 3.0
    yield _settings(factor, _rounded(low), _rounded(low + width), round(2 * np.pi * slope * width))


def _settings(factor: float, low: float, high: float, original: int) -> dict[str, Any]:
    return {
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _rounded(value: float) -> float:
    """The nearest quarter, if the value is that but for rounding."""
    nearest = round(value * 4) / 4
    return nearest if abs(nearest - value) < CLOSE * max(value, 1.0) * 10 else value
