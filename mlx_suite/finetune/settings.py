"""Finetuning settings: each field is a command-line flag and a YAML key, and its docstring is the flag's help."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlx_suite.engine.response_sampling import ResponseSampling
from mlx_suite.runtime.errors import invalid
from mlx_suite.runtime.settings_file import did_you_mean

# Repeated from the modules that implement them, so that --help does not import MLX; a test compares them.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "style": ("chat", "alpaca", "phi3", "plain"),
    "reasoning": ("keep", "drop"),
    "train_on": ("all", "assistant", "last"),
    "too_long": ("error", "drop", "truncate", "split"),
    "batching": ("pack", "bucket"),
    "method": ("lora", "dora", "full"),
    "optimizer": ("adamw", "adafactor", "lion", "muon"),
    "schedule": ("cosine", "linear", "constant", "wsd"),
}
LOGGERS = ("tensorboard", "wandb")
BLOCK_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """Model, data and hyperparameters of a finetuning run. Steps are optimizer steps."""

    model: str
    """Model to finetune: a name from `models list`, a folder, or OWNER/REPO[@REVISION] on the Hugging Face hub."""
    data: str
    """Training data: a file (JSONL, JSON, CSV, Parquet, text), a folder with train, valid and test files, a folder
    written by `magpie`, or a hub dataset, OWNER/REPO or OWNER/REPO:CONFIG."""
    out: str = ""
    """Run folder. Created if missing; a run already in it is resumed."""
    start_from: str = ""
    """Train a finished run, or an adapter, further: its folder. Method, rank, alpha, modules and trained rows come from
    it; the optimizer starts afresh."""

    format: str | None = None
    """Record format: messages, sharegpt, alpaca, completion or text. Default: detected for each file."""
    columns: tuple[str, ...] = ()
    """Columns under other names than a format's, NAME=COLUMN, such as instruction=Question. Repeatable."""
    skip_bad: bool = False
    """Skip invalid rows and list them in bad_rows.jsonl instead of refusing the data."""
    split: str = ""
    """Split of the dataset to train on, such as train_sft. Default: its only training split."""
    valid: str | None = None
    """Validation file. Default: the data folder's valid file, otherwise a random split of the training data."""
    valid_share: float = 0.05
    """Fraction of examples split off for validation, at most 2,000; duplicates stay on one side. 0 disables
    validation."""
    style: str = "chat"
    """Prompt style: chat (the model's chat template), alpaca or phi3 (after Raschka's book), plain (no template: the
    response follows the prompt directly)."""
    template_args: tuple[str, ...] = ()
    """Variables of the chat template, NAME=VALUE, such as enable_thinking=false (Qwen 3). Repeatable. They are the
    defaults of the saved template."""
    reasoning: str = "keep"
    """Reasoning before a response, in a field of its own or in <think> tags: keep (as the chat template writes it) or
    drop."""
    read_special_tokens: bool = False
    """Read names of special tokens in the texts as these tokens, for texts that already hold a chat template."""
    train_on: str = "assistant"
    """Tokens in the loss: assistant (every response and its stop token), last (the last response only), all (prompts
    too)."""

    max_length: int = 2048
    """Maximum length of an example in tokens."""
    too_long: str = "error"
    """What to do with a longer example: error (refuse the data), drop, truncate (keeps the stop token), or split (into
    several examples)."""
    batching: str = "pack"
    """pack puts several examples into one row, with attention masked between them; bucket pads examples of similar
    length."""
    row_length: int | None = None
    """Length of packed rows in tokens. Default: fits the longest example; short examples get rows of 256, 512, …
    tokens, more of them per batch."""
    batch: int = 4
    """Batch size in rows: packed rows, or examples with bucket."""
    accumulate: int = 1
    """Batches per optimizer step (gradient accumulation, weighted by tokens)."""

    method: str = "lora"
    """lora (arXiv 2106.09685) and dora (arXiv 2402.09353) train low-rank adapters; full trains all parameters."""
    rank: int = 16
    """Adapter rank."""
    alpha: float = 32.0
    """Adapter scale: the low-rank product is multiplied by alpha / rank."""
    rslora: bool = False
    """Scale by alpha / √rank instead: rank-stabilized LoRA (arXiv 2312.03732), for high ranks."""
    dropout: float = 0.0
    """Dropout probability on the adapter's inputs."""
    modules: tuple[str, ...] = BLOCK_MODULES
    """Modules to adapt, comma-separated: any of the seven linear layers of a block, embed_tokens, lm_head."""
    layers: tuple[int, ...] | None = None
    """Blocks to adapt, numbered from 0, comma-separated. Default: all."""
    train_new_tokens: bool | None = None
    """Also train the embedding rows of the chat template's tokens that the base model never saw. Default: if its stop
    token is one of them."""
    quantize_base: int = 0
    """Bits to quantize the frozen base model to, 4 or 8 (QLoRA, arXiv 2305.14314). 0 keeps its precision."""
    neftune: float = 0.0
    """NEFTune noise scale (arXiv 2310.05914); 5 is common. 0 disables it."""
    recompute: bool = False
    """Gradient checkpointing: about a third slower, far less memory."""

    epochs: float = 3.0
    """Passes over the training examples."""
    steps: int | None = None
    """Number of optimizer steps; overrides epochs."""
    optimizer: str = "adamw"
    """adamw, adafactor (less memory), lion (less memory; use about a third of the learning rate), or muon."""
    learning_rate: float | None = None
    """Peak learning rate. Default: 2e-4 for lora and dora, 2e-5 for full."""
    schedule: str = "cosine"
    """Learning-rate schedule: cosine, linear, constant, or wsd (constant, then linear over the last fifth)."""
    warmup: float = 0.03
    """Fraction of the steps spent on linear warm-up."""
    floor: float = 0.1
    """Final learning rate as a fraction of the peak."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip: float = 1.0
    """Maximum gradient norm. 0 disables clipping."""
    ema: float = 0.0
    """Also keep an exponential moving average of the trained weights, saved to ema/: after each step it moves by this
    fraction towards them. 0.01 is WARP's (arXiv 2406.16768). 0 keeps none."""
    anchor: float = 0.0
    """Weight of the KL divergence from the model with the average's weights (--ema), added to the loss at each trained
    token: a penalty that lets the model move slowly, as in WARP. 0 adds none."""
    seed: int = 0
    """Random seed for data order, adapter initialization, dropout and noise."""

    eval_every: int | None = None
    """Steps between evaluations. Default: a tenth of the run."""
    patience: int = 0
    """Early stopping: evaluations without a better validation loss before the run ends. 0 disables it."""
    save_every: int | None = None
    """Steps between checkpoints. Default: as eval_every, at most 200."""
    log_every: int = 10
    """Steps between log lines."""
    prompts: tuple[str, ...] = ()
    """Prompts to answer at each evaluation. Default: three validation examples."""
    sample_tokens: int = 96
    """Maximum tokens per sample response."""
    sampling: ResponseSampling = ResponseSampling()
    """Sampling of sample responses: any of temperature, top_p, min_p, top_k, repetition_penalty, presence_penalty,
    frequency_penalty, stop and logit_bias, as in generate. Default: greedy."""
    loggers: tuple[str, ...] = ()
    """Additional loggers, comma-separated: tensorboard, wandb. metrics.jsonl is always written."""

    @property
    def peak(self) -> float:
        """Peak learning rate: the given one or the method's default."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-5 if self.method == "full" else 2e-4


FREE = frozenset(
    "out eval_every patience save_every log_every prompts sample_tokens sampling loggers recompute skip_bad".split()
)
"""Settings that may change when a run resumes, because they do not affect the weights. With dropout, `recompute` must
not change either: a recomputed block draws its masks in another order."""

MOST_EPOCHS = 1_000_000
"""Maximum epochs; more is a typo, and would overflow MLX's step counter."""


def check_settings(
    settings: FinetuneSettings,
    origin: Mapping[str, str] | None = None,
    *,
    further: Iterable[tuple[str, str]] = (),
    command: str = "mlx-suite finetune",
) -> None:
    """Validate all settings. Raises UserError listing every invalid one; `origin` maps a name to where it was set.

    `further` are the names and problems of settings that a job of `command` adds.
    """
    problems = [f"{name} {problem}" for name, problem in (*_problems(settings), *further)]
    if problems:
        where = ", ".join(
            sorted({(origin or {}).get(problem.split()[0], "") for problem in problems} - {"", "default"})
        )
        raise invalid("setting", problems, f"{command} --help", where)


def _problems(s: FinetuneSettings) -> Iterator[tuple[str, str]]:
    for column in s.columns:
        if not all(column.partition("=")):
            yield "columns", f"is {column!r}: expected NAME=COLUMN, such as instruction=Question"
    for name, allowed in CHOICES.items():
        value = getattr(s, name)
        if value not in allowed:
            yield name, f"is {value!r}: {did_you_mean(value, allowed)}"
    for logger in s.loggers:
        if logger not in LOGGERS:
            yield "loggers", f"is {logger!r}: {did_you_mean(logger, LOGGERS)}"
    for name in ("batch", "accumulate", "rank", "log_every", "sample_tokens"):
        if getattr(s, name) < 1:
            yield name, f"is {getattr(s, name)}: expected a whole number of at least 1"
    for name, problem in s.sampling.problems():
        yield "sampling", f"{name} {problem}"
    for name in ("steps", "eval_every", "save_every"):
        value = getattr(s, name)
        if value is not None and value < 1:
            yield name, f"is {value}: expected a whole number of at least 1"
    if MOST_EPOCHS < s.epochs < math.inf:
        yield "epochs", f"is {s.epochs}: expected at most {MOST_EPOCHS:,}"
    for name in ("max_length", "row_length"):
        value = getattr(s, name)
        if value is not None and value < 8:
            yield name, f"is {value}: expected at least 8 tokens"
    for name in ("clip", "weight_decay", "neftune", "patience", "anchor"):
        if not 0 <= getattr(s, name) < math.inf:
            yield name, f"is {getattr(s, name)}: expected a number of at least 0"
    for name in ("epochs", "alpha", "peak"):
        if not 0 < getattr(s, name) < math.inf:
            yield name.replace("peak", "learning_rate"), f"is {getattr(s, name)}: expected a number above 0"
    if s.anchor and s.ema in (0, 1):
        yield "anchor", f"is {s.anchor:g} with ema {s.ema:g}: expected an ema above 0 and below 1, such as 0.01"
    if s.seed < 0:
        yield "seed", f"is {s.seed}: expected a whole number of at least 0"
    for name in ("dropout", "valid_share"):
        if not 0 <= getattr(s, name) < 1:
            yield name, f"is {getattr(s, name)}: expected at least 0 and below 1"
    for name in ("warmup", "floor", "ema"):
        if not 0 <= getattr(s, name) <= 1:
            yield name, f"is {getattr(s, name)}: expected 0 to 1"
    if s.quantize_base not in (0, 4, 8):
        yield "quantize_base", f"is {s.quantize_base}: expected 0, 4 or 8"
    elif s.quantize_base and s.method == "full":
        yield "quantize_base", f"is {s.quantize_base} with method full: quantized weights cannot be trained; use lora"
    if s.train_new_tokens and s.method == "full":
        yield "train_new_tokens", "applies to lora and dora: full trains all rows"
    elif s.train_new_tokens and {"embed_tokens", "lm_head"} & set(s.modules):
        yield (
            "train_new_tokens",
            "cannot be combined with an adapter of embed_tokens or lm_head",
        )
    if s.row_length is not None and s.batching == "bucket":
        yield "row_length", "applies to batching pack only"
