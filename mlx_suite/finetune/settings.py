"""Everything that decides a finetuning run, with units and defaults: the flags and the YAML keys are these fields."""

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from mlx_suite.runtime.errors import UserError

# Names that others implement stand here again, so that the flags can be shown without loading MLX; a test holds them
# to what there is.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "style": ("chat", "alpaca", "phi3", "plain"),
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
    """What to train, on what, and how. Steps are optimizer steps."""

    model: str
    """A name from `models list`, a folder, or OWNER/REPO[@REVISION]."""
    data: str
    """A file (JSONL, JSON, CSV, Parquet, text), a folder with train, valid and test files, a folder that `magpie` has
    filled, or a dataset of the hub, OWNER/REPO."""
    out: str = ""
    """The folder of the run; made if missing, continued if begun."""

    format: str | None = None
    """Of the records: messages, sharegpt, alpaca, completion or text. Told from each file where it is not given."""
    skip_bad: bool = False
    """Leave rows with defects out, and list them in bad_rows.jsonl, instead of refusing the data."""
    valid: str | None = None
    """A file of validation examples. Without one, and without a valid file in the folder, a share is set aside."""
    valid_share: float = 0.05
    """Of the examples that is set aside for validation, at most 2,000; duplicates stay on one side. 0 for none."""
    style: str = "chat"
    """How examples are written: chat is the model's own template, alpaca and phi3 are the styles of Raschka's book,
    plain puts the answer right behind the prompt."""
    train_on: str = "assistant"
    """Which tokens are learned: assistant, every answer and the token that ends it (the book's instruction masking);
    last, the last answer only; all, prompts too (without the masking)."""

    max_length: int = 2048
    """Tokens an example may have."""
    too_long: str = "error"
    """What becomes of a longer one: error names it; drop leaves it out; truncate cuts it and keeps the token that
    ends the answer; split makes several of it."""
    batching: str = "pack"
    """pack puts several examples into a row, each blind to the others; bucket pads examples of about one length."""
    row_length: int | None = None
    """Tokens of every packed row. Where it is not given, rows have room for the longest example, and short examples
    get rows of 256, 512, … of their own, as many more to a batch."""
    batch: int = 4
    """Rows that go through the model at a time: packed rows, or examples with bucket."""
    accumulate: int = 1
    """Batches that make one step. Tokens are weighed, not batches: the same rows one by one make the step that they
    make together, in a fraction of the memory."""

    method: str = "lora"
    """lora (arXiv 2106.09685) or dora (2402.09353) train small matrices beside the model's; full trains everything,
    embeddings, norms and head too."""
    rank: int = 16
    """Of the small matrices."""
    alpha: float = 32.0
    """Their product counts alpha / rank."""
    rslora: bool = False
    """Count it alpha / √rank instead, which keeps high ranks from learning too slowly (arXiv 2312.03732)."""
    dropout: float = 0.0
    """Share of a small matrix's inputs that is dropped while training."""
    modules: tuple[str, ...] = BLOCK_MODULES
    """Names of the layers that get small matrices, comma-separated: the seven of a block, or embed_tokens, lm_head."""
    layers: tuple[int, ...] | None = None
    """Numbers of the blocks that get them, from 0, comma-separated. All where it is not given."""
    quantize_base: int = 0
    """Bits of the frozen model's weights, 4 or 8 (QLoRA, arXiv 2305.14314). 0 leaves them as they are."""
    neftune: float = 0.0
    """Noise on the embeddings while training, 5 is usual (NEFTune, arXiv 2310.05914). 0 for none."""
    recompute: bool = False
    """Compute each block a second time in the backward pass (gradient checkpointing): about a third more time, far
    less memory."""

    epochs: float = 3.0
    """Passes over the examples."""
    steps: int | None = None
    """Steps in place of epochs."""
    optimizer: str = "adamw"
    """adamw, adafactor (less memory), lion (less memory; a third of the rate), or muon."""
    learning_rate: float | None = None
    """Peak. 2e-4 for lora and dora, 2e-5 for full where it is not given."""
    schedule: str = "cosine"
    """cosine, linear, constant, or wsd, which falls over the last fifth only."""
    warmup: float = 0.03
    """Share of the steps in which the rate rises."""
    floor: float = 0.1
    """Where the rate ends, behind the last step, as a share of the peak."""
    weight_decay: float = 0.0
    """Decoupled, at the rate of the step."""
    clip: float = 1.0
    """Largest norm of the gradient. 0 for any."""
    seed: int = 0
    """Of the order of the data, the small matrices' first values, dropout and noise."""

    eval_every: int | None = None
    """Steps between evaluations. Ten times a run where it is not given."""
    patience: int = 0
    """Evaluations without a better validation loss after which the run ends early. 0 for never."""
    save_every: int | None = None
    """Steps between checkpoints. As often as evaluations, at most 200, where it is not given."""
    log_every: int = 10
    """Steps between lines of the log."""
    prompts: tuple[str, ...] = ()
    """Questions answered at each evaluation. Three of the validation examples where none is given."""
    sample_tokens: int = 96
    """Tokens such an answer may have."""
    loggers: tuple[str, ...] = ()
    """tensorboard, wandb or both, comma-separated, beside the run's own metrics.jsonl."""

    @property
    def peak(self) -> float:
        """The learning rate, given or usual for the method."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-5 if self.method == "full" else 2e-4


FREE = frozenset(
    "out eval_every patience save_every log_every prompts sample_tokens loggers recompute skip_bad".split()
)
"""Settings that may differ when a run is taken up again: they do not decide what is learned. One does where values are
dropped: a block that is computed again draws them in another order, so `recompute` is then kept."""


MOST_EPOCHS = 1_000_000
"""More is a slip of the pen, and steps beyond what MLX counts."""


def check_settings(settings: FinetuneSettings, origin: Mapping[str, str] | None = None) -> None:
    """Raises UserError that lists every setting that is wrong; `origin` tells where each came from."""
    problems = [f"{name} {problem}" for name, problem in _problems(settings)]
    if problems:
        where = ", ".join(
            sorted({(origin or {}).get(problem.split()[0], "") for problem in problems} - {"", "default"})
        )
        raise UserError(
            "A setting is invalid" if len(problems) == 1 else f"{len(problems)} settings are invalid",
            where=where,
            fix="mlx-suite finetune --help says what each one means",
            details=problems,
        )


def _problems(s: FinetuneSettings) -> Iterator[tuple[str, str]]:
    for name, allowed in CHOICES.items():
        value = getattr(s, name)
        if value not in allowed:
            yield name, f"is {value!r}: {did_you_mean(value, allowed)}"
    for logger in s.loggers:
        if logger not in LOGGERS:
            yield "loggers", f"is {logger!r}: {did_you_mean(logger, LOGGERS)}"
    for name in ("batch", "accumulate", "rank", "log_every", "sample_tokens"):
        if getattr(s, name) < 1:
            yield name, f"is {getattr(s, name)}: a whole number from 1 up"
    for name in ("steps", "eval_every", "save_every"):
        value = getattr(s, name)
        if value is not None and value < 1:
            yield name, f"is {value}: a whole number from 1 up"
    if MOST_EPOCHS < s.epochs < math.inf:
        yield "epochs", f"is {s.epochs}: at most {MOST_EPOCHS:,}"
    for name in ("max_length", "row_length"):
        value = getattr(s, name)
        if value is not None and value < 8:
            yield name, f"is {value}: at least 8 tokens"
    for name in ("clip", "weight_decay", "neftune", "patience"):
        if not 0 <= getattr(s, name) < math.inf:
            yield name, f"is {getattr(s, name)}: from 0 up"
    for name in ("epochs", "alpha", "peak"):
        if not 0 < getattr(s, name) < math.inf:
            yield name.replace("peak", "learning_rate"), f"is {getattr(s, name)}: above 0"
    if s.seed < 0:
        yield "seed", f"is {s.seed}: a whole number from 0 up"
    for name in ("dropout", "valid_share"):
        if not 0 <= getattr(s, name) < 1:
            yield name, f"is {getattr(s, name)}: from 0 to below 1"
    for name in ("warmup", "floor"):
        if not 0 <= getattr(s, name) <= 1:
            yield name, f"is {getattr(s, name)}: from 0 to 1"
    if s.quantize_base not in (0, 4, 8):
        yield "quantize_base", f"is {s.quantize_base}: 0, 4 or 8"
    elif s.quantize_base and s.method == "full":
        yield "quantize_base", f"is {s.quantize_base} with method full: packed weights cannot be trained; use lora"
    if s.row_length is not None and s.batching == "bucket":
        yield "row_length", "belongs to batching pack; bucket has no rows of one length"


def settings_from(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a configuration file, checked for name and type, as fields of the settings.

    Raises UserError that lists every unknown key, with the nearest known one, and every value of a wrong type.
    """
    known = {field.name: hint for field, hint in zip(fields(FinetuneSettings), _hints(), strict=True)}
    problems, found = [], {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            problems.append(f"{key}: {did_you_mean(name, tuple(known))}")
            continue
        try:
            found[name] = _converted(value, known[name])
        except (TypeError, ValueError, OverflowError):
            problems.append(f"{key} is {value!r}: {_expected(known[name])} is wanted")
    if problems:
        raise UserError("The configuration cannot be used", where=where, details=problems, fix="mend these lines")
    return found


def required() -> tuple[str, ...]:
    """The fields without a default."""
    return tuple(field.name for field in fields(FinetuneSettings) if field.default is MISSING)


def did_you_mean(value: object, allowed: tuple[str, ...]) -> str:
    """What is allowed, the nearest first."""
    near = difflib.get_close_matches(str(value), allowed, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"one of {', '.join(allowed)}" if len(allowed) <= 8 else "there is no such setting"


def _hints() -> list[Any]:
    hints = get_type_hints(FinetuneSettings)
    return [hints[field.name] for field in fields(FinetuneSettings)]


def _converted(value: Any, hint: Any) -> Any:
    """`value` as YAML has read it, as the type of a field."""
    if hint in (tuple[str, ...], tuple[int, ...], tuple[int, ...] | None):
        if value is None and hint == tuple[int, ...] | None:
            return None
        items = value if isinstance(value, list) else [part.strip() for part in str(value).split(",") if part.strip()]
        return tuple(str(item) if hint == tuple[str, ...] else int(item) for item in items)
    if value is None:
        if type(None) not in getattr(hint, "__args__", ()):
            raise TypeError
        return None
    if hint is bool:
        if not isinstance(value, bool):
            raise TypeError
        return value
    if isinstance(value, bool | list | dict):
        raise TypeError
    if hint in (int, int | None):
        if float(value) != int(float(value)):
            raise ValueError
        return int(float(value))
    if hint in (float, float | None):
        return float(value)  # YAML reads 2e-4 as text
    return str(value)


def _expected(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        tuple[str, ...]: "a list",
        tuple[int, ...]: "a list of whole numbers",
    }
    return next(text for kind, text in names.items() if hint in (kind, kind | None))
