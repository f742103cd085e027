"""What a training step takes of the memory, counted from a model's dimensions. No weights are loaded.

A step has four moments at which memory can be at its highest: the loss, when logits lie beside all that the backward
pass needs; the first block of the backward pass, when its work lies beside the same; the end of the backward pass, when
all gradients are there; and the update, when the optimizer's old and new values are. The counts follow the blocks in
`modeling`; what the backward pass of one block takes for itself, and what the loss and an optimizer take while they
work, are measured (`tests/finetune/estimate/test_memory.py` measures again).

Letters: d hidden size, V vocabulary, L row length, H query heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlx_suite.modeling.config import GEMMA2_TYPES, ModelConfig
from mlx_suite.runtime.footprint import weight_bytes
from mlx_suite.training.cut_cross_entropy import LOGITS, MIN_ROWS, VOCAB_CHUNK

FLOAT32 = 4
GROUP = 64
"""Columns that share a scale and a bias in a quantized base."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")

# Measured. Arrays of the size of a chunk of logits that are there together.
_HEAD_COPIES = 3.4
# While an optimizer works, its new values lie beside the old ones for a moment: fp32 arrays of the trained parameters'
# size beyond parameters, moments and gradient, and of the size of the largest one.
_UPDATE_COPIES = {"adamw": (3.0, 0), "adafactor": (0.9, 3), "lion": (1.0, 3), "muon": (1.2, 3)}

OPTIMIZERS = tuple(_UPDATE_COPIES)


@dataclass(frozen=True, kw_only=True)
class TrainShape:
    """What a step trains, and on how much at a time."""

    method: str = "lora"
    """lora, dora or full."""
    rank: int = 16
    modules: tuple[str, ...] = ATTENTION + MLP
    """Which layers get small matrices; full trains everything."""
    layers: tuple[int, ...] | None = None
    """Numbers of the blocks that get them; None for all."""
    quantize_base: int = 0
    """Bits of the frozen weights, 4 or 8; 0 leaves them as they are."""
    optimizer: str = "adamw"
    """adamw, adafactor, lion or muon."""
    rows: int = 4
    """Rows that go through the model at a time."""
    row_length: int = 512
    """Positions of a row."""
    trained_share: float = 1.0
    """Share of the positions whose next token is trained."""
    checkpointing: bool = False
    """Whether blocks are computed a second time in the backward pass."""
    element_bytes: int = 2
    """Of a weight and an activation: 4 on the CPU, 2 on a GPU."""
    accumulate: int = 1
    """Batches that make a step."""

    def of(self, rows: int, row_length: int) -> "TrainShape":
        """The same for batches of another form."""
        return replace(self, rows=rows, row_length=row_length)

    @property
    def positions(self) -> int:
        return self.rows * self.row_length

    @property
    def targets(self) -> int:
        return round(self.positions * self.trained_share)


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes at the highest moment of a step, by what they hold; `total` is their sum."""

    weights: int
    """The model."""
    trained: int
    """The small matrices, and the fp32 originals of what a 16-bit model is given rounded."""
    gradients: int
    """Gradients, and during the update what the optimizer works with."""
    optimizer: int
    """Its moments."""
    activations: int
    """What the backward pass needs of the forward pass."""
    head: int
    """The chunk of logits in work, and the hidden states in front of it."""
    moment: str
    """When it is: "loss", "blocks", "gradients" or "update"."""
    parameters: int
    """How many are trained."""
    limit: int
    """Bytes that may be taken."""

    @property
    def total(self) -> int:
        return self.weights + self.trained + self.gradients + self.optimizer + self.activations + self.head

    @property
    def fits(self) -> bool:
        return self.total <= self.limit


def estimate_memory(config: ModelConfig, shape: TrainShape, limit: int) -> MemoryEstimate:
    """The peak of a step of `shape` on a model of `config`, at most a fifth off (tested on the CPU)."""
    trained = list(trained_arrays(config, shape))
    sizes = [rows * columns for rows, columns in trained]
    count = sum(sizes)
    gradient = FLOAT32 * count
    summed = gradient if shape.accumulate > 1 else 0
    # The head's gradient is made with the loss, before any block's, and copied when it is added to. What the lookup of
    # the embedding and the tied head give is added up at the very end.
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
    # Of what a 16-bit model learns an fp32 original is kept; small matrices are no part of its own weights.
    originals = gradient if shape.element_bytes < FLOAT32 else 0
    return MemoryEstimate(
        weights=model_bytes(config, shape),
        trained=originals + (shape.element_bytes * count if shape.method != "full" else 0),
        gradients=gradients,
        optimizer=moment_bytes(shape.optimizer, trained, ends=2 if shape.method == "full" else 0),
        activations=activations,
        head=head,
        moment=moment,
        parameters=count,
        limit=limit,
    )


def matrix_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(rows, columns) of each matrix of a block, that is (out, in)."""
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
    """(rows, columns) of every array that is trained; a vector has one column."""
    ends = {"embed_tokens": (config.vocab_size, config.hidden_size)}
    if not config.tie_word_embeddings:
        ends["lm_head"] = (config.vocab_size, config.hidden_size)
    matrices = matrix_shapes(config)
    if shape.method == "full":
        norms = 4 if config.model_type in GEMMA2_TYPES else 2
        yield from ends.values()
        yield (config.hidden_size, 1)
        for _ in range(config.num_hidden_layers):
            yield from matrices.values()
            yield from [(config.hidden_size, 1)] * norms
        return
    layers = range(config.num_hidden_layers) if shape.layers is None else shape.layers
    adapted = [ends[name] for name in shape.modules if name in ends]
    adapted += [matrices[name] for _ in layers for name in shape.modules if name in matrices]
    for rows, columns in adapted:
        yield (shape.rank, columns)
        yield (rows, shape.rank)
        if shape.method == "dora":
            yield (rows, 1)


def model_bytes(config: ModelConfig, shape: TrainShape) -> int:
    """Memory of the model's own weights; quantized ones carry a scale and a bias for each group."""
    bits: float = 8 * shape.element_bytes
    if shape.quantize_base:
        bits = shape.quantize_base + 2 * bits / GROUP
    return weight_bytes(vars(config), bits)


def moment_bytes(optimizer: str, trained: list[tuple[int, int]], ends: int = 0) -> int:
    """What the optimizer remembers of each trained array, in fp32; the first `ends` are embeddings and heads."""
    sizes = [rows * columns for rows, columns in trained]
    if optimizer == "adafactor":  # sums of rows and columns in place of a matrix
        return FLOAT32 * sum(rows + columns if columns > 1 else rows for rows, columns in trained)
    moments = FLOAT32 * sum(sizes) * {"adamw": 2, "lion": 1, "muon": 1}[optimizer]
    # Muon leaves embeddings and heads to AdamW.
    return moments + (FLOAT32 * sum(sizes[:ends]) if optimizer == "muon" else 0)


def activation_bytes(config: ModelConfig, shape: TrainShape) -> tuple[int, int]:
    """What all blocks keep for the backward pass, and what the one at work takes besides."""
    d, width = config.hidden_size, shape.positions * shape.element_bytes
    layers = range(first_trained(config, shape), config.num_hidden_layers)
    inside = width * _inside(config, shape)
    blocks = [kept_bytes(config, shape, layer) for layer in layers]
    if not shape.checkpointing:
        return sum(blocks), inside
    # A block that is computed again keeps what it keeps otherwise, but one at a time.
    return width * d * len(layers), inside + max(blocks, default=0)


def kept_bytes(config: ModelConfig, shape: TrainShape, layer: int) -> int:
    """What one block keeps: every operand that a product, a norm or an activation needs to find its gradient."""
    if layer < first_trained(config, shape):
        return 0
    d, ff = config.hidden_size, config.intermediate_size
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    gemma = config.model_type in GEMMA2_TYPES
    full = shape.method == "full"
    adapted = shape.layers is None or layer in shape.layers
    learns = {name for name in ATTENTION + MLP if full or (adapted and name in shape.modules)}
    # Softmax, and tanh of the soft-cap: (H, L) of each position.
    scores = config.num_attention_heads * shape.row_length * (1 if config.attn_logit_softcapping is None else 2)
    elements = scores + q + 2 * kv
    # Inputs of matrices that learn; those of one norm share theirs.
    elements += d * bool(learns & {"q_proj", "k_proj", "v_proj"}) + q * ("o_proj" in learns)
    elements += d * bool(learns & {"gate_proj", "up_proj"}) + ff * ("down_proj" in learns)
    # gate, its sigmoid, their product, up; GELU's polynomial and tanh leave four more.
    elements += ff * (8 if gemma else 4)
    norms = 4 if gemma else 2
    # Gemma's norms work in fp32; with trained weights the CPU's keep what they multiply.
    in_fp32 = FLOAT32 // shape.element_bytes if gemma else 1
    elements += d * norms * (in_fp32 + (full and shape.element_bytes == FLOAT32))
    if not full:
        elements += shape.rank * len(learns)
    if shape.method == "dora":  # the output before it is scaled
        shapes = matrix_shapes(config)
        elements += sum(shapes[name][0] for name in learns)
    return shape.positions * shape.element_bytes * elements


def first_trained(config: ModelConfig, shape: TrainShape) -> int:
    """The lowest block that a gradient has to reach."""
    if shape.method == "full" or "embed_tokens" in shape.modules:
        return 0
    if not set(shape.modules) & set(ATTENTION + MLP):
        return config.num_hidden_layers
    return 0 if shape.layers is None else min(shape.layers, default=config.num_hidden_layers)


def head_bytes(config: ModelConfig, shape: TrainShape) -> int:
    """The loss in chunks: logits of one, weights made fp32, the hidden states that are trained and their gradient."""
    d = config.hidden_size
    rows = min(shape.targets, max(MIN_ROWS, LOGITS // config.vocab_size))
    logits = rows * config.vocab_size
    expanded = min(config.vocab_size, VOCAB_CHUNK) * d if shape.quantize_base or shape.element_bytes < FLOAT32 else 0
    hidden = shape.targets * d * (shape.element_bytes + FLOAT32)
    return round(FLOAT32 * (_HEAD_COPIES * logits + expanded)) + hidden


def _inside(config: ModelConfig, shape: TrainShape) -> int:
    """Elements for each position that the backward pass of one block, and the ends of the model, take for themselves.

    More of them are there at a time where the block is computed again just before.
    """
    d, ff = config.hidden_size, config.intermediate_size
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    scores = config.num_attention_heads * shape.row_length
    if shape.checkpointing:
        return 7 * scores + 3 * ff + 8 * q + 6 * kv + 10 * d
    return 3 * scores + 3 * ff + 8 * q + 6 * kv + 12 * d
