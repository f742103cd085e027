"""DoRA (arXiv 2402.09353): LoRA learns the direction of each row of a weight, and a vector the magnitudes.

    W' = m · (W + scale · BA) / ‖W + scale · BA‖        norms over each row

Names, shapes and results are those of mlx-lm (`mlx_lm.tuner.dora`), so adapters are interchangeable. It costs less: the
norm comes from rank-sized products instead of a second dense matrix, and a quantized weight stays packed (mlx-lm's
layer dequantizes it in every step and does not support 3, 5 or 6 bits). It is in modeling because `head.py` needs it.

Shapes: N inputs, O outputs, r rank.
"""

import mlx.core as mx
import mlx.nn as nn

SMALLEST = 1e-30
"""Lower bound of a squared norm: a zero row gives 0, not 0 / 0."""


class DoRALinear(nn.Module):
    """A frozen linear layer with `lora_a` (N, r), `lora_b` (r, O) and the magnitudes `m` (O,)."""

    def __init__(self, linear: nn.Module, rank: int, dropout: float, scale: float) -> None:
        super().__init__()
        weight = dense_weight(linear)  # (O, N)
        outputs, inputs = weight.shape
        self.linear = linear
        self.dropout = nn.Dropout(p=dropout)
        self.scale = scale
        self.lora_a = mx.zeros((inputs, rank))
        self.lora_b = mx.zeros((rank, outputs))
        self._squares = weight.square().sum(axis=1)  # (O,)
        self.m = mx.sqrt(self._squares)
        mx.eval(self._squares, self.m)  # now, so that the dense weight is freed

    def __call__(self, x: mx.array) -> mx.array:
        update = (self.dropout(x) @ self.lora_a) @ self.lora_b
        y = multiply(self.linear, x) + (self.scale * update).astype(x.dtype)
        y = y * (self.m * mx.rsqrt(mx.maximum(self.squared_norms(), SMALLEST))).astype(x.dtype)
        return y + self.linear.bias if "bias" in self.linear else y

    def squared_norms(self) -> mx.array:
        """‖W + scale · BA‖² of each row (O,), treated as a constant by the gradient (section 4.3).

        Computed as ‖W‖² + 2 · scale · ⟨W, BA⟩ + scale² · ‖BA‖², with rank-sized products.
        """
        a, b = (mx.stop_gradient(each).astype(mx.float32) for each in (self.lora_a, self.lora_b))
        projected = multiply(self.linear, a.T.astype(dtype_of(self.linear))).astype(mx.float32)  # (r, O), (W A)ᵀ
        cross = (b * mx.stop_gradient(projected)).sum(axis=0)
        square = (b * ((a.T @ a) @ b)).sum(axis=0)
        return self._squares + 2 * self.scale * cross + self.scale**2 * square

    def fused(self) -> mx.array:
        """W' (O, N) in fp32."""
        weight = dense_weight(self.linear) + self.scale * (self.lora_b.T @ self.lora_a.T)
        norms = mx.sqrt(mx.maximum(weight.square().sum(axis=1, keepdims=True), SMALLEST))
        return self.m[:, None] / norms * weight


def dense_weight(layer: nn.Module) -> mx.array:
    """The weight of a linear layer or embedding in fp32, dequantized if packed."""
    if not isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding):
        weight: mx.array = layer.weight
        return weight.astype(mx.float32)
    scales, biases = layer.scales, layer.get("biases")
    if layer.mode == "affine":
        assert biases is not None
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    return mx.dequantize(
        layer.weight,
        scales,
        biases,
        group_size=layer.group_size,
        bits=layer.bits,
        mode=layer.mode,
        dtype=mx.float32,
    )


def multiply(linear: nn.Module, x: mx.array) -> mx.array:
    """x (…, N) times the layer's weight, without its bias: (…, O)."""
    if not isinstance(linear, nn.QuantizedLinear):
        return x @ linear.weight.T
    return mx.quantized_matmul(
        x,
        linear.weight,
        scales=linear.scales,
        biases=linear.get("biases"),
        transpose=True,
        group_size=linear.group_size,
        bits=linear.bits,
        mode=linear.mode,
    )


def dtype_of(layer: nn.Module) -> mx.Dtype:
    """The dtype of the layer's weight, or of its scales if packed; float32 if neither is a float."""
    packed = isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding)
    weight = layer.scales if packed else layer.weight
    return weight.dtype if mx.issubdtype(weight.dtype, mx.floating) else mx.float32
