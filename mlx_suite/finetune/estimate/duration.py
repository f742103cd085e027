"""Duration of a run: FLOPs of its steps divided by the measured matmul speed of this machine.

Letters: P positions of a batch, N matrix parameters, d hidden size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

from mlx_suite.modeling.block_attention import BLOCK
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.backend import import_mlx
from mlx_suite.runtime.benchmark import best_time, gemm_gflops
from mlx_suite.training.step_memory import TrainShape, attends_in_blocks, first_trained, matrix_shapes, trained_arrays

EFFICIENCY = 0.6
"""Speed of a training step as a fraction of that of one large matmul; norms, softmax, activations and the optimizer
account for the rest. Measured: 0.57 to 0.85 on a 2-core CPU."""
SPREAD = 1.7
"""Factor by which the estimate may be off, in both directions."""
LONG_ENOUGH = 0.02
"""Minimum duration of a measured matmul in seconds, so that launch overhead does not matter."""


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Estimated duration of a run, and the figures it is computed from."""

    step_flops: float
    """FLOPs of one optimizer step."""
    evaluation_flops: float
    """FLOPs of one pass over the validation examples."""
    speed: float
    """Measured speed of a large matmul, in FLOP/s."""
    steps: int
    evaluations: int

    @property
    def step_seconds(self) -> float:
        return self.step_flops / (EFFICIENCY * self.speed)

    @property
    def seconds(self) -> float:
        """Estimated seconds of the entire run, without the sample responses."""
        return self.steps * self.step_seconds + self.evaluations * self.evaluation_flops / (EFFICIENCY * self.speed)

    @property
    def least(self) -> float:
        return self.seconds / SPREAD

    @property
    def most(self) -> float:
        return self.seconds * SPREAD


def step_flops(config: ModelConfig, shape: TrainShape) -> float:
    """FLOPs of one optimizer step; a multiply-add counts as two.

    Each matmul runs once forward, once backward for its input, and once for its weight if that is trained.
    """
    first, layers = first_trained(config, shape), config.num_hidden_layers
    once = forward_flops(config, shape)
    blocks = once * (layers - first) / layers
    backward = 2 * blocks if shape.method == "full" else blocks
    again = blocks if shape.checkpointing else 0.0
    # The two matmuls of attention have no weights, but two inputs each.
    attention = _attention_flops(config, shape) * (layers - first) / layers
    backward += attention if shape.method != "full" else 0.0
    if attends_in_blocks(config, shape):  # the scores are computed again
        backward += attention / 2
    adapters = 0.0
    if shape.method != "full":
        count = sum(rows * columns for rows, columns in trained_arrays(config, shape))
        adapters = (8.0 if shape.checkpointing else 6.0) * count * shape.positions
    head = 2.0 * shape.targets * config.vocab_size * config.hidden_size * (3 if shape.method == "full" else 2)
    return (once + backward + again + adapters + head) * shape.accumulate


def forward_flops(config: ModelConfig, shape: TrainShape) -> float:
    """FLOPs of the forward pass through all blocks, for one batch."""
    parameters = sum(rows * columns for rows, columns in matrix_shapes(config).values())
    matrices = 2.0 * parameters * config.num_hidden_layers * shape.positions
    return matrices + _attention_flops(config, shape)


def measured_speed(dtype: str, bits: int = 0, seconds: float = 0.2) -> float:
    """Measure the FLOP/s of a large matmul on the default device.

    Args:
        dtype: MLX name of the activations' dtype.
        bits: Bits of quantized weights, whose matmuls have a different speed; 0 for dense weights.
        seconds: Time to measure for.
    """
    return 1e9 * gemm_gflops(dtype, seconds) if not bits else _quantized_speed(dtype, bits, seconds)


def _quantized_speed(dtype: str, bits: int, seconds: float) -> float:
    mx: Any = import_mlx()
    rows, operations, best = 128, 0.0, 1.0
    for size in (256, 512, 1024, 2048, 4096):
        x = mx.random.normal((rows, size)).astype(getattr(mx, dtype))
        packed = mx.quantize(mx.random.normal((size, size)).astype(x.dtype), group_size=64, bits=bits)
        mx.eval(x, packed)

        def product(x: Any = x, packed: Any = packed) -> Any:
            return mx.quantized_matmul(x, *packed, transpose=True, group_size=64, bits=bits)

        operations, best = 2.0 * rows * size**2, best_time(product, 0.0)
        if best >= LONG_ENOUGH:
            break
    return operations / min(best, best_time(product, seconds if best < seconds else 0.0))


def _attention_flops(config: ModelConfig, shape: TrainShape) -> float:
    """FLOPs of attention scores and weighted values in all layers, forward."""
    L, width = shape.row_length, config.num_attention_heads * config.head_dim
    keys: float = L * config.num_hidden_layers  # computed for a query in all layers; masked ones too
    if attends_in_blocks(config, shape):
        keys = sum(min((L + BLOCK) / 2, L if window is None else window + BLOCK) for window in config.windows)
    return 4.0 * keys * width * shape.positions
