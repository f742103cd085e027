"""Peak memory of a training step, computed from the dimensions of the model. No weights are loaded.

Memory can peak at four moments of a step: at the loss, with logits and all activations; at the first block of the
backward pass, with its temporary arrays and all activations; at the end of the backward pass, with all gradients; and
at the update, with old and new optimizer values. The counts follow the blocks in `modeling`. The temporary arrays of
blocks, loss and optimizers were measured; `tests/training/test_step_memory.py` checks them.

Letters: d hidden size, V vocabulary, L row length, H query heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlx_suite.modeling.block_attention import BLOCK
from mlx_suite.modeling.config import GEMMA_TYPES, QK_NORM_TYPES, ModelConfig
from mlx_suite.runtime.device import Device
from mlx_suite.runtime.footprint import weight_bytes
from mlx_suite.runtime.memory import available_memory, human_bytes
from mlx_suite.training.chunked_head import LOGITS, MIN_ROWS, VOCAB_CHUNK

FLOAT32 = 4
GROUP = 64
"""Group size of a quantized base: number of columns that share a scale and a bias."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")

# Measured: number of arrays of the size of a logits chunk that exist at the same time.
_HEAD_COPIES = 3.4
# Measured: fp32 arrays of the size of a block's scores at the peak, without and with a soft-cap.
_BLOCK_COPIES = (5, 7)
# Measured: arrays of the size of gate at the peak, without and with recomputation, for SiLU and for Gemma's GELU.
_MLP_COPIES = ((7, 10), (12, 13.5))
# During the update, new and old values exist at the same time. Number of extra fp32 arrays of the size of all trained
# parameters, and of the size of the largest one.
_UPDATE_COPIES = {"adamw": (3.0, 0), "adafactor": (0.9, 3), "lion": (1.0, 3), "muon": (1.2, 3)}

OPTIMIZERS = tuple(_UPDATE_COPIES)

_MOMENTS = {
    "loss": "while the loss is computed",
    "blocks": "at the start of the backward pass",
    "gradients": "at the end of the backward pass",
    "update": "during the optimizer update",
}

INFEASIBLE = 1.5
"""A run is refused if its estimate exceeds the memory by this factor; estimates are off by up to a fifth."""


@dataclass(frozen=True, kw_only=True)
class TrainShape:
    """Trained parameters of a step, and the shape of its batches."""

    method: str = "lora"
    """lora, dora or full."""
    rank: int = 16
    modules: tuple[str, ...] = ATTENTION + MLP
    """Modules that get adapters; full trains everything."""
    layers: tuple[int, ...] | None = None
    """Blocks that get adapters; None for all."""
    quantize_base: int = 0
    """Bits of the quantized base weights, 4 or 8; 0 without quantization."""
    optimizer: str = "adamw"
    """adamw, adafactor, lion or muon."""
    averaged: bool = False
    """Whether a moving average of the trained parameters is kept, in fp32."""
    anchored: bool = False
    """Whether the model with averaged parameters scores every batch: its logits of a chunk exist beside the model's."""
    rows: int = 4
    """Rows per batch."""
    row_length: int = 512
    """Positions per row."""
    packed: bool = True
    """Whether rows may hold several documents."""
    trained_share: float = 1.0
    """Fraction of positions whose next token is trained."""
    checkpointing: bool = False
    """Gradient checkpointing: blocks are recomputed in the backward pass."""
    element_bytes: int = 2
    """Bytes per weight and activation: 4 on the CPU, 2 on a GPU."""
    accumulate: int = 1
    """Batches per step."""
    token_rows: int = 0
    """Rows of the embedding, and of an untied head, that are trained beside the adapters."""
    teacher_bytes: int = 0
    """Bytes of the weights of a teacher, whose logits of a chunk exist beside the student's; 0 without one."""

    def of(self, rows: int, row_length: int) -> "TrainShape":
        """This shape with batches of another size."""
        return replace(self, rows=rows, row_length=row_length)

    @property
    def positions(self) -> int:
        return self.rows * self.row_length

    @property
    def targets(self) -> int:
        return round(self.positions * self.trained_share)


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes at the peak of a step, by purpose; `total` is the sum."""

    weights: int
    """Model weights."""
    trained: int
    """Adapters, fp32 master copies of trained 16-bit parameters, and their moving average."""
    gradients: int
    """Gradients, and during the update the temporary arrays of the optimizer."""
    optimizer: int
    """Optimizer moments."""
    activations: int
    """Activations kept for the backward pass."""
    head: int
    """Logits of one chunk, and the hidden states before the head."""
    moment: str
    """Moment of the peak: "loss", "blocks", "gradients" or "update"."""
    parameters: int
    """Number of trained parameters."""
    limit: int
    """Memory limit in bytes."""
    teacher: int = 0
    """Weights of a teacher."""

    @property
    def total(self) -> int:
        parts = self.weights + self.trained + self.gradients + self.optimizer + self.activations + self.head
        return parts + self.teacher

    @property
    def fits(self) -> bool:
        return self.total <= self.limit

    @property
    def verdict(self) -> str:
        """Peak memory and whether it fits, in one line."""
        peak = f"about {human_bytes(self.total)} {_MOMENTS[self.moment]}"
        if self.fits:
            return f"{peak}; fits into the {human_bytes(self.limit)} available"
        excess = human_bytes(self.total - self.limit)
        return f"{peak}; does not fit into the {human_bytes(self.limit)} available, {excess} too much"


def memory_limit(machine: Device) -> int:
    """Bytes available to a run: the device's working set, and outside CUDA at most the memory free now."""
    if machine.kind == "cuda":
        return machine.working_set_bytes
    return min(machine.working_set_bytes, available_memory())


def estimate_memory(config: ModelConfig, shape: TrainShape, limit: int) -> MemoryEstimate:
    """Peak memory of a step of `shape` on a model of `config`, accurate to a fifth (tested on the CPU)."""
    trained = list(trained_arrays(config, shape))
    sizes = [rows * columns for rows, columns in trained]
    count = sum(sizes)
    gradient = FLOAT32 * count
    summed = gradient if shape.accumulate > 1 else 0
    # The gradient of the head is computed with the loss, before any block, and copied when it is accumulated. The
    # gradients of the embedding lookup and the tied head are added at the very end.
    embedding = FLOAT32 * config.vocab_size * config.hidden_size if shape.method == "full" else 0
    kept, inside = activation_bytes(config, shape)
    block = max(kept_bytes(config, shape, layer) for layer in range(config.num_hidden_layers))
    rounded = shape.element_bytes * count if shape.method == "full" and shape.element_bytes < FLOAT32 else 0
    copies, of_largest = _UPDATE_COPIES[shape.optimizer]
    working = round(gradient * copies + FLOAT32 * max(sizes, default=0) * of_largest) + rounded
    # (gradients, activations, head)
    moments = {
        "loss": (summed + 2 * embedding, kept, head_bytes(config, shape)),
        "blocks": (summed + 2 * embedding, kept + inside, 0),
        "gradients": (summed + gradient + embedding, inside + (0 if shape.checkpointing else block), 0),
        "update": (summed + gradient + working, 0, 0),
    }
    moment = max(moments, key=lambda name: sum(moments[name]))
    gradients, activations, head = moments[moment]
    # Trained 16-bit parameters have fp32 master copies; adapters are not part of the model weights.
    masters = gradient if shape.element_bytes < FLOAT32 else 0
    averages = FLOAT32 * count if shape.averaged else 0
    return MemoryEstimate(
        weights=model_bytes(config, shape),
        trained=masters + averages + (shape.element_bytes * count if shape.method != "full" else 0),
        gradients=gradients,
        optimizer=moment_bytes(shape.optimizer, trained, ends=2 if shape.method == "full" else 0),
        activations=activations,
        head=head,
        moment=moment,
        parameters=count,
        limit=limit,
        teacher=shape.teacher_bytes,
    )


def matrix_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Shape (out, in) of each matrix of a block."""
    d, ff = config.hidden_size, config.intermediate_size
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    return {
        "q_proj": (q, d),
        "k_proj": (kv, d),
        "v_proj": (kv, d),
        "o_proj": (d, q),
        "gate_proj": (ff, d),
        "up_proj": (ff, d),
        "down_proj": (d, ff),
    }


def trained_arrays(config: ModelConfig, shape: TrainShape) -> Iterator[tuple[int, int]]:
    """Shapes (rows, columns) of all trained arrays; a vector has one column."""
    ends = {"embed_tokens": (config.vocab_size, config.hidden_size)}
    if not config.tie_word_embeddings:
        ends["lm_head"] = (config.vocab_size, config.hidden_size)
    matrices = matrix_shapes(config)
    if shape.method == "full":
        norms = 4 if config.model_type in GEMMA_TYPES else 2
        head_norms = 2 if config.model_type in QK_NORM_TYPES else 0
        yield from ends.values()
        yield (config.hidden_size, 1)
        for _ in range(config.num_hidden_layers):
            yield from matrices.values()
            yield from [(config.hidden_size, 1)] * norms + [(config.head_dim, 1)] * head_norms
        return
    layers = range(config.num_hidden_layers) if shape.layers is None else shape.layers
    adapted = [ends[name] for name in shape.modules if name in ends]
    adapted += [matrices[name] for _ in layers for name in shape.modules if name in matrices]
    for rows, columns in adapted:
        yield (shape.rank, columns)
        yield (rows, shape.rank)
        if shape.method == "dora":
            yield (rows, 1)
    if shape.token_rows:
        yield from [(shape.token_rows, config.hidden_size)] * len(ends)


def model_bytes(config: ModelConfig, shape: TrainShape) -> int:
    """Bytes of the model's weights, with a scale and a bias per group if quantized."""
    bits: float = 8 * shape.element_bytes
    if shape.quantize_base:
        bits = shape.quantize_base + 2 * bits / GROUP
    return weight_bytes(vars(config), bits)


def moment_bytes(optimizer: str, trained: list[tuple[int, int]], ends: int = 0) -> int:
    """Bytes of the optimizer's fp32 moments; the first `ends` arrays are the embedding and the head."""
    sizes = [rows * columns for rows, columns in trained]
    if optimizer == "adafactor":  # row and column statistics instead of full moments
        return FLOAT32 * sum(rows + columns if columns > 1 else rows for rows, columns in trained)
    moments = FLOAT32 * sum(sizes) * {"adamw": 2, "lion": 1, "muon": 1}[optimizer]
    # Muon uses AdamW, with its second moment, for embedding and head.
    return moments + (FLOAT32 * sum(sizes[:ends]) if optimizer == "muon" else 0)


def activation_bytes(config: ModelConfig, shape: TrainShape) -> tuple[int, int]:
    """Bytes saved by all blocks for the backward pass, and bytes of temporaries in the block being processed."""
    d, width = config.hidden_size, shape.positions * shape.element_bytes
    layers = range(first_trained(config, shape), config.num_hidden_layers)
    inside = round(width * _inside(config, shape))
    blocks = [kept_bytes(config, shape, layer) for layer in layers]
    if not shape.checkpointing:
        return sum(blocks), inside
    # With recomputation each block saves only its input; its activations exist for one block at a time.
    return width * d * len(layers), inside + max(blocks, default=0)


def kept_bytes(config: ModelConfig, shape: TrainShape, layer: int) -> int:
    """Bytes that one block saves: the operands needed for gradients of matmuls, norms and activation functions."""
    if layer < first_trained(config, shape):
        return 0
    d, ff = config.hidden_size, config.intermediate_size
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    gemma = config.model_type in GEMMA_TYPES
    full = shape.method == "full"
    adapted = shape.layers is None or layer in shape.layers
    learns = {name for name in ATTENTION + MLP if full or (adapted and name in shape.modules)}
    elements = _kept_scores(config, shape) + q + 2 * kv
    if config.model_type in QK_NORM_TYPES:
        elements += q + kv  # inputs of the norms
    # Inputs of trained matrices; matrices after the same norm share one.
    elements += d * bool(learns & {"q_proj", "k_proj", "v_proj"}) + q * ("o_proj" in learns)
    elements += d * bool(learns & {"gate_proj", "up_proj"}) + ff * ("down_proj" in learns)
    elements += ff * 2  # gate and up; the activation is recomputed
    norms = 4 if gemma else 2
    # Gemma's norms compute in fp32; on the CPU norms with trained weights also save their normalised input.
    in_fp32 = FLOAT32 // shape.element_bytes if gemma else 1
    elements += d * norms * (in_fp32 + (full and shape.element_bytes == FLOAT32))
    if not full:
        elements += shape.rank * len(learns)
    if shape.method == "dora":  # the output before DoRA scales it
        shapes = matrix_shapes(config)
        elements += sum(shapes[name][0] for name in learns)
    return shape.positions * shape.element_bytes * elements


def first_trained(config: ModelConfig, shape: TrainShape) -> int:
    """Index of the lowest block that gradients reach."""
    if shape.method == "full" or "embed_tokens" in shape.modules or shape.token_rows:
        return 0
    if not set(shape.modules) & set(ATTENTION + MLP):
        return config.num_hidden_layers
    return 0 if shape.layers is None else min(shape.layers, default=config.num_hidden_layers)


def head_bytes(config: ModelConfig, shape: TrainShape) -> int:
    """Bytes of the chunked loss: logits of one chunk, weights in fp32, trained hidden states and their gradient."""
    d = config.hidden_size
    models = 2 if shape.teacher_bytes or shape.anchored else 1
    rows = min(shape.targets, max(MIN_ROWS, LOGITS // (models * config.vocab_size)))
    logits = models * rows * config.vocab_size
    expanded = min(config.vocab_size, VOCAB_CHUNK) * d if shape.quantize_base or shape.element_bytes < FLOAT32 else 0
    hidden = shape.targets * d * (shape.element_bytes + FLOAT32)
    return round(FLOAT32 * (_HEAD_COPIES * logits + expanded)) + hidden


def _inside(config: ModelConfig, shape: TrainShape) -> float:
    """Temporary elements per position in the backward pass of one block: of its attention or its MLP."""
    d, ff = config.hidden_size, config.intermediate_size
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    attention = _temporary_scores(config, shape) + 8 * q + 6 * kv + 4 * d
    mlp = _MLP_COPIES[config.model_type in GEMMA_TYPES][shape.checkpointing] * ff + 13 * d + 9 * q
    return max(attention, mlp)


def attends_in_blocks(config: ModelConfig, shape: TrainShape) -> bool:
    """Whether attention runs in blocks, as `attend` chooses; otherwise it holds the scores of all pairs."""
    built_in = config.attn_logit_softcapping is None and shape.element_bytes < FLOAT32
    return shape.row_length > BLOCK and not (built_in and not shape.packed)


def _kept_scores(config: ModelConfig, shape: TrainShape) -> int:
    """Elements per position that attention keeps: softmax, and tanh of the soft-cap; in blocks, outputs and lse."""
    heads = config.num_attention_heads
    if attends_in_blocks(config, shape):
        return heads * (config.head_dim + 1)
    return heads * shape.row_length * (1 if config.attn_logit_softcapping is None else 2)


def _temporary_scores(config: ModelConfig, shape: TrainShape) -> int:
    """Elements per position of scores, and of arrays of their shape, in the backward pass of one block."""
    if not attends_in_blocks(config, shape):
        return config.num_attention_heads * shape.row_length * (7 if shape.checkpointing else 3)
    keys = max(min(shape.row_length, (window or shape.row_length) + BLOCK) for window in config.windows)
    copies = _BLOCK_COPIES[config.attn_logit_softcapping is not None] * FLOAT32 // shape.element_bytes
    return copies * config.num_attention_heads * BLOCK * keys // shape.row_length
