"""Sampling of the next token of every row in one vectorised call, each row with its own settings and seed.

Shapes: S rows, V vocabulary.
"""

import mlx.core as mx

from mlx_suite.modeling.fast_math import logsumexp, softmax

_MASK64 = (1 << 64) - 1


def uniform(seed: int, index: int) -> float:
    """The `index`-th random number of a row, in [0, 1): SplitMix64 of seed and index.

    A row's numbers depend only on its seed, so its text does not depend on its slot, on other rows or on scheduling.
    24 bits: the resolution of fp32 below 1.
    """
    z = _mix(_mix(seed & _MASK64) + index)
    return (z >> 40) / (1 << 24)


def _mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def penalised(logits: mx.array, seen: mx.array, counts: mx.array, penalties: mx.array) -> mx.array:
    """Logits (S, V) after penalties (3, S): repetition for tokens `seen` (S, V), presence and frequency by `counts`."""
    repetition, presence, frequency = (each[:, None] for each in penalties)
    logits = mx.where(seen, mx.where(logits > 0.0, logits / repetition, logits * repetition), logits)
    return logits - presence * (counts > 0) - frequency * counts


def scored(logits: mx.array, tokens: mx.array, alternatives: int) -> list[mx.array]:
    """Log-probabilities (S,) of tokens (S,), and ids and log-probabilities (S, K) of the most probable tokens."""
    log_probs = logits - logsumexp(logits)[:, None]
    chosen = mx.take_along_axis(log_probs, tokens[:, None].astype(mx.int32), axis=-1)[:, 0]
    if alternatives == 0:
        return [chosen]
    ranked = mx.argsort(-log_probs, axis=-1)[:, :alternatives]
    return [chosen, ranked, mx.take_along_axis(log_probs, ranked, axis=-1)]


def keep_probable(probs: mx.array, top_p: mx.array, min_p: mx.array, top_k: mx.array) -> mx.array:
    """Set probs (S, V) to zero for tokens excluded by top-p, min-p or top-k, (S,) each. Ties at the limit are kept."""
    ranked = mx.sort(probs, axis=-1)[:, ::-1]
    before = mx.cumsum(ranked, axis=-1) - ranked
    # A rounded sum can reach 1 early: a row without top-p must not lose its tail because another row uses top-p.
    share = mx.where(top_p < 1.0, top_p, float("inf"))[:, None]
    kept = (before < share).sum(axis=-1, keepdims=True)  # at least 1: nothing comes before the first
    kept = mx.minimum(kept, mx.where(top_k > 0, top_k, probs.shape[-1]).astype(kept.dtype)[:, None])
    threshold = mx.take_along_axis(ranked, mx.maximum(kept - 1, 0), axis=-1)
    threshold = mx.maximum(threshold, min_p[:, None] * ranked[:, :1])
    return mx.where(probs >= threshold, probs, 0.0)


def draw(
    logits: mx.array,
    uniforms: mx.array,
    temperature: mx.array,
    limits: tuple[mx.array, mx.array, mx.array] | None = None,
) -> mx.array:
    """One token per row, (S,) uint32, from logits (S, V).

    Rows with temperature 0 are greedy; the others invert the cumulative distribution at `uniforms` (S,). `limits` are
    (top_p, min_p, top_k); None if no row uses them, which saves the sort.
    """
    logits = logits.astype(mx.float32)
    best = mx.argmax(logits, axis=-1)
    probs = softmax(logits / mx.maximum(temperature, 1e-4)[:, None])
    if limits is not None:
        probs = keep_probable(probs, *limits)
    # A GPU sums in parallel, and rounding can raise the sum at a token of probability 0, which must not be drawn.
    reached = mx.where(probs > 0.0, mx.cumsum(probs, axis=-1), 0.0)
    target = mx.minimum(uniforms, 1.0 - 2**-22)[:, None] * reached.max(axis=-1, keepdims=True)
    drawn = mx.argmax(reached > target, axis=-1)
    return mx.where(temperature == 0.0, best, drawn).astype(mx.uint32)
