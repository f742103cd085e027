"""Which tensor of a GGUF file becomes which weight of a checkpoint, and what changes on the way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlx_suite.checkpoints.weight_writer import PlannedTensor
from mlx_suite.gguf.file import GgufFile, GgufTensor
from mlx_suite.gguf.model_config import GEMMA_TYPES
from mlx_suite.gguf.repack import BITS, GROUP
from mlx_suite.gguf.tensor_names import ROPE_FACTORS, gguf_name, weight_shapes
from mlx_suite.gguf.tensors import can_expand
from mlx_suite.runtime.errors import UserError, shortened


@dataclass(frozen=True, slots=True)
class GgufWeight:
    """A weight on its way from the GGUF file to the checkpoint."""

    name: str
    """Hugging Face's."""
    tensor: GgufTensor
    heads: int
    """Heads whose rows llama.cpp stores in adjacent pairs; 0 if the order is the same."""
    shift: float
    """Added to every value."""
    bits: int
    """Bits of its codes if it is repacked, else 0."""

    @property
    def path(self) -> str:
        return self.name.removesuffix(".weight")

    def planned(self, dtype: str) -> list[PlannedTensor]:
        """Tensors of the checkpoint that hold it."""
        shape = self.tensor.shape
        if not self.bits:
            return [PlannedTensor(self.name, dtype, shape)]
        rows, columns = shape
        return [
            PlannedTensor(self.name, "U32", (rows, columns * self.bits // 32)),
            PlannedTensor(f"{self.path}.scales", dtype, (rows, columns // GROUP)),
            PlannedTensor(f"{self.path}.biases", dtype, (rows, columns // GROUP)),
        ]

    @property
    def row_order(self) -> np.ndarray | None:
        """Rows of a query or key projection (H·D, …) from llama.cpp's adjacent pairs to Hugging Face's halves.

        RoPE rotates row i of a head with row i + D / 2 in Hugging Face's order, and row 2i with 2i + 1 in llama.cpp's.
        """
        if not self.heads:
            return None
        numbers = np.arange(self.tensor.shape[0]).reshape(self.heads, -1, 2)  # (H, D / 2, 2)
        return numbers.swapaxes(1, 2).reshape(-1)


def weights_of(gguf: GgufFile, config: Mapping[str, Any], packed: bool) -> list[GgufWeight]:
    """Every weight of the model. Raises UserError that lists missing, unknown and misshapen tensors and types."""
    architecture = gguf.architecture
    expected = dict(weight_shapes(config, architecture))
    names = {gguf_name(name, architecture): name for name in expected}
    problems = [f"{name} is missing" for name in names if name not in gguf.tensors]
    unknown = gguf.tensors.keys() - names.keys() - {ROPE_FACTORS}
    problems += [f"{name} is not part of a {architecture} model" for name in sorted(unknown)]
    found = {names[name]: tensor for name, tensor in gguf.tensors.items() if name in names}
    problems += [
        f"{tensor.name} is {tensor.shape}, not {expected[name]}"
        for name, tensor in found.items()
        if tensor.shape != expected[name]
    ]
    if problems:
        raise UserError(
            "the tensors of the GGUF file do not fit its metadata",
            details=shortened(problems),
            where=str(gguf.path),
            fix="use another file of the same model, or the model in Hugging Face's format",
        )
    types = sorted({tensor.type for tensor in found.values() if not can_expand(tensor.type)})
    if types:
        raise UserError(
            f"the weights are of type {', '.join(types)}, which cannot be read",
            where=str(gguf.path),
            fix="use a file of the model in another type, such as Q8_0 or Q4_K_M",
        )
    return [_weight(name, found[name], architecture, config, packed) for name in expected]


def _weight(name: str, tensor: GgufTensor, architecture: str, config: Mapping[str, Any], packed: bool) -> GgufWeight:
    path = name.rpartition(".")[0]
    heads = 0
    if architecture == "llama" and path.endswith(("q_proj", "k_proj")):
        heads = config["num_attention_heads" if path.endswith("q_proj") else "num_key_value_heads"]
    is_norm = path.endswith("norm")
    shift = -1.0 if is_norm and architecture in GEMMA_TYPES else 0.0  # Gemma multiplies by weight + 1
    bits = BITS.get(tensor.type, 0) if packed and len(tensor.shape) == 2 else 0
    return GgufWeight(name, tensor, heads, shift, bits)
