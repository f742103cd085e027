"""Pretraining settings: each field is a key of the YAML file, and its docstring is the reference of the key."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.runtime.errors import invalid
from mlx_suite.runtime.settings_file import did_you_mean

# Repeated from the modules that implement them, so that --help does not import MLX; a test compares them.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("adamw", "muon", "adafactor", "lion"),
    "schedule": ("wsd", "cosine", "linear", "constant"),
    "dtype": ("float32", "bfloat16"),
}
LOGGERS = ("tensorboard", "wandb")
BUDGETS = ("tokens", "steps", "epochs")
"""Settings that say how long to train; at most one is given."""
SOURCES = ("size", "config", "checkpoint")
"""Settings that say which model to train; exactly one is given."""
VALID = "valid"
"""Name of the part that `valid` names."""
MOST_EPOCHS = 1_000_000
LARGEST_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class CorpusPart:
    """One source of text."""

    path: str
    """A file (text, Markdown, JSONL, JSON, CSV, Parquet, compressed or not), a folder, or a hub dataset."""
    weight: float | None = None
    """Share of the trained tokens, relative to the other parts. Default: the part's number of tokens."""
    name: str = ""
    """Name in the log. Default: the last part of the path."""
    field: str = "text"
    """Field of a record that holds the text."""
    separator: str | None = None
    r"""What stands between the documents of a text file, such as <|endoftext|> or "\n\n" for blank lines. Default: a
    text file is one document."""

    @property
    def title(self) -> str:
        """The name, or the path's last part without its suffixes."""
        return self.name or Path(self.path).expanduser().absolute().name.split(".")[0] or "corpus"


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Text of the kind that a checkpoint was trained on, mixed in so that it is not forgotten."""

    path: str
    """As in `data`."""
    share: float = 0.1
    """Fraction of the trained tokens, above 0 and below 1."""
    name: str = "replay"
    """Name in the log."""
    field: str = "text"
    """As in `data`."""
    separator: str | None = None
    """As in `data`."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSource:
    """Where the tokenizer comes from: a checkpoint, or training on the corpus."""

    checkpoint: str = ""
    """A model name, a folder, or OWNER/REPO on the hub, whose tokenizer is used."""
    train: int = 0
    """Number of ids of a byte-level BPE tokenizer to train on the corpus."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Model, corpus and hyperparameters of a pretraining run. Steps are optimizer steps."""

    size: int | None = None
    """New Llama model from one dial: its number of blocks. The width is 64 times that, and heads, batch, learning rate
    and token budget follow; --sizes lists them."""
    config: Mapping[str, Any] | str | None = None
    """New model of a given shape: the keys of a config.json (Llama, Mistral, Gemma 2 or 3, Qwen 3), or the path of one.
    The vocabulary size may be left out."""
    checkpoint: str | None = None
    """Model to train further (continual pretraining): a name from `models list`, a folder, or OWNER/REPO[@REVISION]."""
    tokenizer: TokenizerSource | None = None
    """Tokenizer: a model name or folder, or {train: N} to train a BPE of N ids on the corpus. Default: the
    checkpoint's."""

    data: tuple[CorpusPart, ...]
    """Text to train on: a path, or a list of {path, weight, name, field, separator}."""
    replay: Replay | None = None
    """Text mixed in against forgetting, {path, share}: for continual pretraining."""
    valid: CorpusPart | None = None
    """Held-out text for evaluation. Default: the last documents of every part of `data`."""
    valid_share: float = 0.05
    """Fraction of the tokens of every part held out for evaluation if `valid` is not given, at most 100,000 tokens
    each. 0 disables evaluation."""
    out: str = ""
    """Run folder. Created if missing; a run already in it is resumed."""

    tokens: int | None = None
    """Token budget. Default: 20 tokens per parameter outside the embedding for a new model (arXiv 2203.15556), one
    epoch for a checkpoint."""
    steps: int | None = None
    """Number of optimizer steps, instead of tokens."""
    epochs: float | None = None
    """Passes over the corpus, instead of tokens."""
    length: int | None = None
    """Length of a row in tokens: documents are concatenated and split into rows. Default: by size, at most the
    model's context."""
    batch: int | None = None
    """Batch size in rows, over all processes. Default: by size."""
    accumulate: int | None = None
    """Batches per optimizer step (gradient accumulation, weighted by tokens). Default: by size."""
    isolate: bool = False
    """Keep attention within each document of a row. Default: a document sees those before it in the row."""

    optimizer: str = "adamw"
    """adamw, muon (orthogonalized updates of the matrices in the blocks, AdamW for the rest), adafactor or lion."""
    learning_rate: float | None = None
    """Peak learning rate. Default: by size; a tenth of it for a checkpoint."""
    schedule: str = "wsd"
    """Learning-rate schedule: wsd (constant, then a linear decay), cosine, linear or constant."""
    warmup: float = 0.02
    """Fraction of the steps spent on linear warm-up."""
    decay: float = 0.3
    """Fraction of the steps that wsd spends on its decay."""
    floor: float = 0.0
    """Final learning rate as a fraction of the peak."""
    weight_decay: float = 0.1
    """Decoupled weight decay."""
    clip: float = 1.0
    """Maximum gradient norm. 0 disables clipping."""
    seed: int = 0
    """Random seed for the initial weights and the order of the rows."""
    dtype: str | None = None
    """Dtype of weights and activations, float32 or bfloat16; updates are in float32. Default: float32 on a CPU,
    bfloat16 on a GPU."""
    recompute: bool = False
    """Gradient checkpointing: about a third slower, far less memory."""

    eval_every: int | None = None
    """Steps between evaluations. Default: a tenth of the run."""
    save_every: int | None = None
    """Steps between checkpoints. Default: as eval_every, at most 200."""
    log_every: int = 10
    """Steps between log lines."""
    prompts: tuple[str, ...] = ()
    """Texts to continue at each evaluation. Default: the first words of three held-out documents."""
    sample_tokens: int = 64
    """Maximum tokens per continuation."""
    loggers: tuple[str, ...] = ()
    """Additional loggers: tensorboard, wandb. metrics.jsonl is always written."""


FREE = frozenset(
    "out data replay valid eval_every save_every log_every prompts sample_tokens loggers recompute".split()
)
"""Settings that may change when a run resumes: they do not affect the weights, or their contents are compared
instead."""


def check_settings(settings: PretrainSettings, origin: Mapping[str, str] | None = None) -> None:
    """Validate all settings. Raises UserError listing every invalid one; `origin` maps a name to where it was set."""
    found = list(_problems(settings))
    if found:
        where = ", ".join(sorted({(origin or {}).get(name, "") for name, _ in found} - {"", "default"}))
        problems = [f"{name} {problem}".rstrip() for name, problem in found]
        raise invalid("setting", problems, "mlx-suite pretrain --keys", where)


def _problems(s: PretrainSettings) -> Iterator[tuple[str, str]]:
    yield from _source_problems(s)
    yield from _data_problems(s)
    for name, allowed in CHOICES.items():
        value = getattr(s, name)
        if value is not None and value not in allowed:
            yield name, f"is {value!r}: {did_you_mean(value, allowed)}"
    for logger in s.loggers:
        if logger not in LOGGERS:
            yield "loggers", f"is {logger!r}: {did_you_mean(logger, LOGGERS)}"
    for name in ("batch", "accumulate", "tokens", "steps", "eval_every", "save_every", "log_every", "sample_tokens"):
        value = getattr(s, name)
        if value is not None and value < 1:
            yield name, f"is {value}: expected a whole number of at least 1"
    if s.length is not None and s.length < 8:
        yield "length", f"is {s.length}: expected at least 8 tokens"
    if s.epochs is not None and not 0 < s.epochs <= MOST_EPOCHS:
        yield "epochs", f"is {s.epochs}: expected a number above 0, at most {MOST_EPOCHS:,}"
    if s.learning_rate is not None and not 0 < s.learning_rate < math.inf:
        yield "learning_rate", f"is {s.learning_rate}: expected a number above 0"
    for name in ("clip", "weight_decay", "seed"):
        if not 0 <= getattr(s, name) < math.inf:
            yield name, f"is {getattr(s, name)}: expected a number of at least 0"
    for name in ("warmup", "floor"):
        if not 0 <= getattr(s, name) <= 1:
            yield name, f"is {getattr(s, name)}: expected 0 to 1"
    if not 0 < s.decay <= 1:
        yield "decay", f"is {s.decay}: expected a number above 0, at most 1"
    if not 0 <= s.valid_share < 1:
        yield "valid_share", f"is {s.valid_share}: expected at least 0 and below 1"
    budgets = [name for name in BUDGETS if getattr(s, name) is not None]
    if len(budgets) > 1:
        yield budgets[1], f"contradicts {budgets[0]}: give one of {', '.join(BUDGETS)}"


def _source_problems(s: PretrainSettings) -> Iterator[tuple[str, str]]:
    given = [name for name in SOURCES if getattr(s, name) is not None]
    if not given:
        yield "size", "is missing: give size, config or checkpoint"
    elif len(given) > 1:
        yield given[1], f"contradicts {given[0]}: give one of {', '.join(SOURCES)}"
    if s.size is not None and not 1 <= s.size <= LARGEST_SIZE:
        yield "size", f"is {s.size}: expected a number of blocks from 1 to {LARGEST_SIZE}"
    chosen = s.tokenizer
    if chosen is None:
        if given and s.checkpoint is None:
            yield "tokenizer", "is missing: name a model, or {train: 4096} to train one on the corpus"
        return
    if bool(chosen.checkpoint) == bool(chosen.train):
        yield "tokenizer", "is invalid: give either checkpoint or train"
    if chosen.train and chosen.train < SMALLEST_VOCABULARY:
        yield "tokenizer", f"train is {chosen.train}: expected at least {SMALLEST_VOCABULARY} ids, the bytes and marks"
    if chosen.train and s.checkpoint is not None:
        yield "tokenizer", "train contradicts checkpoint: a checkpoint keeps its own tokenizer"


SMALLEST_VOCABULARY = 256 + 16
"""Ids of a byte-level tokenizer without merges: the bytes and Llama 3.1's special tokens."""


def _data_problems(s: PretrainSettings) -> Iterator[tuple[str, str]]:
    if not s.data:
        yield "data", "is empty: name a file, a folder or a dataset"
    weights = [part.weight for part in s.data]
    if any(weight is not None and not 0 < weight < math.inf for weight in weights):
        yield "data", "has a weight that is not a number above 0"
    if None in weights and any(weight is not None for weight in weights):
        yield "data", "has a weight for some parts only: give one to all or none"
    names = Counter([part.title for part in s.data])
    names.update([s.replay.name] if s.replay else [])
    names.update([VALID] if s.valid else [])
    for name, count in names.items():
        if count > 1:
            yield "data", f"has {count} parts called {name}: give them names"
        if "/" in name or name.startswith("."):
            yield "data", f"has a part called {name!r}: a name may not begin with a dot or contain a slash"
    if s.replay and not 0 < s.replay.share < 1:
        yield "replay", f"share is {s.replay.share}: expected a number above 0 and below 1"
