"""How long a run takes: the operations of its steps, divided by what this machine multiplies in a second.

Letters: P positions of a batch, N matrix parameters, d hidden size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

from mlx_suite.finetune.estimate.memory import TrainShape, first_trained, matrix_shapes, trained_arrays
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.backend import import_mlx
from mlx_suite.runtime.benchmark import best_time, gemm_gflops

SHARE = 0.6
"""Of the speed of one large product that a whole step reaches: norms, softmax, activations and the optimizer take the
rest. Measured: 0.57 to 0.85 on a CPU of two cores."""
SPREAD = 1.7
"""How far off that may be, upwards and downwards."""
LONG_ENOUGH = 0.02
"""Seconds: below this, starting a product weighs more than the product."""


@dataclass(frozen=True, kw_only=True)
class Duration:
    """An estimate in seconds, and what it comes from."""

    step_flops: float
    """Floating-point operations of one optimizer step."""
    evaluation_flops: float
    """Of one pass over the validation examples."""
    speed: float
    """Operations a second of a large product, measured."""
    steps: int
    evaluations: int

    @property
    def step_seconds(self) -> float:
        return self.step_flops / (SHARE * self.speed)

    @property
    def seconds(self) -> float:
        """Of the whole run, without the answers at each evaluation."""
        return self.steps * self.step_seconds + self.evaluations * self.evaluation_flops / (SHARE * self.speed)

    @property
    def least(self) -> float:
        return self.seconds / SPREAD

    @property
    def most(self) -> float:
        return self.seconds * SPREAD


def step_flops(config: ModelConfig, shape: TrainShape) -> float:
    """Floating-point operations of one optimizer step, a multiplication and an addition counted as two.

    A product is done once forwards, once backwards for what it was given, and once for its weights where they learn.
    """
    first, layers = first_trained(config, shape), config.num_hidden_layers
    once = forward_flops(config, shape)
    blocks = once * (layers - first) / layers
    backward = 2 * blocks if shape.method == "full" else blocks
    again = blocks if shape.checkpointing else 0.0
    # Attention's two products have no weights, but two inputs each.
    attention = _attention_flops(config, shape) * (layers - first) / layers
    backward += attention if shape.method != "full" else 0.0
    adapters = 0.0
    if shape.method != "full":
        count = sum(rows * columns for rows, columns in trained_arrays(config, shape))
        adapters = (8.0 if shape.checkpointing else 6.0) * count * shape.positions
    head = 2.0 * shape.targets * config.vocab_size * config.hidden_size * (3 if shape.method == "full" else 2)
    return (once + backward + again + adapters + head) * shape.accumulate


def forward_flops(config: ModelConfig, shape: TrainShape) -> float:
    """Of the blocks, for one batch, forwards."""
    parameters = sum(rows * columns for rows, columns in matrix_shapes(config).values())
    matrices = 2.0 * parameters * config.num_hidden_layers * shape.positions
    return matrices + _attention_flops(config, shape)


def measured_speed(dtype: str, bits: int = 0, seconds: float = 0.2) -> float:
    """Operations a second of a large product on the default device.

    Args:
        dtype: MLX's name of the activations' type.
        bits: Of packed weights, which are multiplied at another speed; 0 for dense ones.
        seconds: To measure for.
    """
    return 1e9 * gemm_gflops(dtype, seconds) if not bits else _packed_speed(dtype, bits, seconds)


def _packed_speed(dtype: str, bits: int, seconds: float) -> float:
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
    """Scores and weighted values of all layers, forwards; what a mask hides is computed too."""
    width = config.num_attention_heads * config.head_dim
    return 4.0 * shape.row_length * width * shape.positions * config.num_hidden_layers
