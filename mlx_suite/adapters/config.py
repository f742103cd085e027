"""A low-rank adapter, independent of any model: its settings and arrays (arXiv 2106.09685).

An adapted layer computes W·x + scale · B·A·x. Arrays have mlx-lm's names and shapes: for a linear layer
`lora_a` (inputs, rank) and `lora_b` (rank, outputs), for an embedding `lora_a` (vocabulary, rank) and `lora_b`
(rank, dimensions); DoRA adds a magnitude `m` (outputs,). For E experts they are (E, rank, inputs) and
(E, outputs, rank).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import sqrt

import mlx.core as mx

from mlx_suite.runtime.errors import UserError

METHODS = ("lora", "dora")

LEAVES = ("lora_a", "lora_b", "m")
"""The arrays of one adapted layer."""

DEFAULT_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a block."""

_BLOCK = re.compile(r"((?:.*\.)?layers)\.(\d+)\.(.+)")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Settings of an adapter on a frozen model."""

    method: str = "lora"
    """lora, or dora (arXiv 2402.09353), which learns the magnitude of each output separately from its direction."""
    rank: int = 16
    """Rank of the matrices. 16 is enough to learn most styles and formats."""
    alpha: float = 32.0
    """The product is scaled by alpha / rank; alpha is usually twice the rank."""
    rslora: bool = False
    """Scale by alpha / √rank instead, so that high ranks do not learn too slowly (arXiv 2312.03732)."""
    dropout: float = 0.0
    """Dropout on the adapter's input during training."""
    modules: tuple[str, ...] = DEFAULT_MODULES
    """Layers to adapt: the last component of a path (`q_proj`), a longer suffix (`self_attn.q_proj`), or `all-linear`
    for every linear layer of the blocks. `embed_tokens` and `lm_head` are outside the blocks."""
    layers: tuple[int, ...] | None = None
    """Block numbers, from 0. None: all blocks."""

    @property
    def scale(self) -> float:
        """Factor of the product of the two matrices."""
        return self.alpha / (sqrt(self.rank) if self.rslora else self.rank)


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Trained rows of one layer, an embedding or a head."""

    ids: tuple[int, ...]
    values: mx.array
    """(n, d) rows that replace the layer's."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Content of an adapter folder."""

    config: AdapterConfig
    arrays: Mapping[str, mx.array]
    """Arrays by path and leaf: `model.layers.0.self_attn.q_proj.lora_a`."""
    base: str = ""
    """The base model, as named by the user."""
    tied: bool | None = None
    """Whether an adapted embedding is tied to the head; None if the files do not say."""
    copies: Mapping[str, mx.array] = field(default_factory=dict)
    """Base weights stored in the same file; they must equal the model's."""
    rows: Mapping[str, TokenRows] = field(default_factory=dict)
    """Trained rows of embedding and head, by path."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Paths of the adapted layers."""
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.arrays))

    def on(self, tied: bool | None) -> "Adapter":
        """This adapter with `tied` filled in from the model if the files did not say."""
        return replace(self, tied=tied) if self.tied is None else self

    @property
    def parameters(self) -> int:
        return sum(array.size for array in self.arrays.values()) + sum(each.values.size for each in self.rows.values())


@dataclass(frozen=True, kw_only=True)
class Places:
    """Adapted layers, split into those inside the blocks and those outside."""

    blocks: tuple[int, ...]
    inside: tuple[str, ...]
    """Paths relative to a block, such as `self_attn.q_proj`."""
    outside: tuple[str, ...]
    regular: bool
    """Whether the same layers are adapted in each of these blocks."""


def places(targets: Iterable[str]) -> Places:
    """Sort the paths of adapted layers into blocks."""
    blocks, inside, outside, prefixes, found = set(), [], [], set(), 0
    for path in targets:
        match = _BLOCK.fullmatch(path)
        if match is None:
            outside.append(path)
            continue
        found += 1
        prefixes.add(match[1])
        blocks.add(int(match[2]))
        if match[3] not in inside:
            inside.append(match[3])
    regular = len(prefixes) <= 1 and found == len(blocks) * len(inside)
    return Places(blocks=tuple(sorted(blocks)), inside=tuple(inside), outside=tuple(outside), regular=regular)


def ranks(arrays: Mapping[str, mx.array]) -> dict[str, int]:
    """The rank of each adapted layer, by path."""
    found = {}
    for name, array in arrays.items():
        path, _, leaf = name.rpartition(".")
        if leaf == "lora_a":
            found[path] = array.shape[-1] if array.ndim == 2 else array.shape[-2]
    return found


def last_part(path: str) -> str:
    """`q_proj` of `model.layers.0.self_attn.q_proj`."""
    return path.rpartition(".")[2]


def check_config(config: AdapterConfig) -> None:
    """Raise UserError that lists every invalid setting."""
    rules = [
        (config.method in METHODS, f"method is {config.method!r}: expected one of {', '.join(METHODS)}"),
        (config.rank >= 1, f"rank is {config.rank}: expected a whole number of at least 1"),
        (config.alpha > 0, f"alpha is {config.alpha}: expected a number above 0"),
        (0 <= config.dropout < 1, f"dropout is {config.dropout}: expected at least 0 and below 1"),
    ]
    problems = [problem for good, problem in rules if not good]
    if problems:
        raise UserError("The adapter's settings are invalid", details=problems, fix="correct these settings")
