"""Correctness of models on this device: bf16 and 4-bit against fp32 on the CPU with the same weights.

Shapes: B rows, L positions, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import adapted_layers, add_adapters
from mlx_suite.modeling.head import head_of
from mlx_suite.training.cut_cross_entropy import head_loss
from mlx_suite.training.documents import document_caches

from .device_shapes import Config, in_fp32, on, random_model

LENGTH = 96
"""Positions of a text: four sliding windows."""
CHECKS = ("full text", "through the KV cache", "packed documents", "LoRA gradients")
LARGEST_KL = {"bf16": 5e-4, "4-bit": 5e-3}
"""Largest KL divergence from fp32, in nats per position. Ignoring a window, scale or cap exceeds it (see the tests).
The limit for 4-bit is higher because backends differ more in quantized products: the CPU sums in bf16."""
LEAST_COSINE = 0.98
"""Smallest cosine similarity of bf16 and fp32 gradients."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison with fp32 on the CPU."""

    family: str
    weights: str
    """`bf16` or `4-bit`."""
    what: str
    measure: str
    """`KL`, in nats per position, or `cosine`."""
    value: float
    limit: float
    passed: bool


def check_family(family: str, config: Config, bits: int | None) -> list[Check]:
    """Check logits of a full text, of a text fed in chunks and of packed documents; in bf16 also LoRA gradients."""
    tokens = np.random.default_rng(0).integers(0, config["vocab_size"], (2, LENGTH))
    device = mx.default_device()
    model = random_model(config, mx.bfloat16, bits)
    with on(mx.cpu):
        reference = in_fp32(model, config)
        expected = _log_probs(reference(mx.array(tokens)))
        alone = _log_probs(mx.concatenate([reference(mx.array(tokens[:1, cut])) for cut in _CUTS], axis=1))
    weights = "bf16" if bits is None else f"{bits}-bit"
    name: dict[str, Any] = {"family": family, "weights": weights}
    with on(device):
        checks = [
            _kl(name, CHECKS[0], expected, _log_probs(model(mx.array(tokens)))),
            _kl(name, CHECKS[1], expected, _log_probs(_through_cache(model, tokens))),
            _kl(name, CHECKS[2], alone, _log_probs(_packed(model, tokens))),
        ]
    if bits is None:
        checks.append(_gradients(name, config, tokens))
    return checks


_CUTS = (slice(0, 40), slice(40, LENGTH))
"""Spans of two documents that share a row."""


def _log_probs(logits: mx.array) -> np.ndarray:
    logits = logits.astype(mx.float32)
    values = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    return values.astype(np.float64)


def _kl(name: dict[str, Any], what: str, expected: np.ndarray, found: np.ndarray) -> Check:
    value = float((np.exp(expected) * (expected - found)).sum(-1).mean())
    limit = LARGEST_KL[name["weights"]]
    passed = bool(np.isfinite(found).all()) and value <= limit
    return Check(**name, what=what, measure="KL", value=value, limit=limit, passed=passed)


def _through_cache(model: nn.Module, tokens: np.ndarray) -> mx.array:
    """Feed two chunks whose lengths are not multiples of the window, then one token at a time."""
    caches = model.make_cache()
    logits, start = [], 0
    for end in (37, 80, *range(81, LENGTH + 1)):
        logits.append(model(mx.array(tokens[:, start:end]), cache=caches))
        mx.eval(logits[-1])
        start = end
    return mx.concatenate(logits, axis=1)


def _packed(model: nn.Module, tokens: np.ndarray) -> mx.array:
    document = np.zeros((1, LENGTH), np.uint16)
    for number, cut in enumerate(_CUTS):
        document[0, cut] = number + 1
    logits: mx.array = model(mx.array(tokens[:1]), cache=document_caches(mx.array(document), len(model.layers)))
    return logits


def _gradients(name: dict[str, Any], config: Config, tokens: np.ndarray) -> Check:
    """Compare LoRA gradients on the device in bf16 with fp32 on the CPU, by the smallest cosine of any layer."""
    device, single = mx.default_device(), config | {"num_hidden_layers": 1}
    model = random_model(single, mx.bfloat16)
    with on(mx.cpu):
        reference = in_fp32(model, single)
        expected = _adapter_gradients(reference, tokens)
    with on(device):
        found = _adapter_gradients(model, tokens)
    cosines = [
        float((expected[path] * found[path]).sum() / np.linalg.norm(expected[path]) / np.linalg.norm(found[path]))
        for path in expected
    ]
    value = min(cosines)
    return Check(
        **name, what=CHECKS[3], measure="cosine", value=value, limit=LEAST_COSINE, passed=value >= LEAST_COSINE
    )


def _adapter_gradients(model: nn.Module, tokens: np.ndarray) -> dict[str, np.ndarray]:
    add_adapters(model, AdapterConfig(rank=4, dropout=0.0))

    def loss(model: nn.Module) -> mx.array:
        head = head_of(model)
        assert head is not None, "our families have a known head"
        hidden = model.model(mx.array(tokens[:, :-1]), None)  # (B, L, d)
        targets = mx.array(tokens[:, 1:].reshape(-1))
        return head_loss(hidden.reshape(-1, hidden.shape[-1]), targets, mx.ones(targets.shape) / targets.size, head)

    _, gradient = nn.value_and_grad(model, loss)(model)
    mx.eval(gradient)
    layers = adapted_layers(model)
    # lora_b starts at zero, so the gradient of lora_a is still zero.
    return {path: np.array(_leaf(gradient, path).astype(mx.float32)) for path in layers}


def _leaf(gradient: Any, path: str) -> mx.array:
    for key in path.split("."):
        gradient = gradient[int(key)] if isinstance(gradient, list) else gradient[key]
    array: mx.array = gradient["lora_b"]
    return array
