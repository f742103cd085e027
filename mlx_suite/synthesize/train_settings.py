"""Settings of a synthesizer's training: each field is a command-line flag, and its docstring is the flag's help."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from mlx_suite.finetune.settings import FinetuneSettings, check_settings
from mlx_suite.runtime.errors import invalid

LONGEST = 2048
"""Default length of a chain, if the model's context allows it."""


@dataclass(frozen=True, kw_only=True)
class SynthesizerSettings:
    """Model, data and hyperparameters. Steps are optimizer steps."""

    model: str
    """Base model to train: a name from `models list`, a folder, or OWNER/REPO[@REVISION] on the Hugging Face hub."""
    data: tuple[str, ...]
    """Questions about texts: files, folders or hub datasets in the shape of SQuAD, HotpotQA or AQuA, or of rows
    {"text": …, "pairs": […]}; microworld[:COUNT] and microworld-rewrites[:COUNT] need no file."""
    out: str = ""
    """Run folder. Created if missing; a run already in it is resumed."""

    shots: int | None = None
    """Maximum examples per chain. Default: as many as fit into max-length."""
    most_examples: int = 10_000
    """Maximum examples per dataset; those with most pairs are preferred."""
    max_length: int | None = None
    """Maximum length of a chain in tokens; an example that is longer by itself is dropped and counted. Default: 2048,
    or the model's context if that is shorter."""
    context_weight: float = 0.0
    """Loss weight of the tokens before the pairs: texts and tags. 0 trains the pairs only, as the paper does; 0.1 to
    0.2 helps a small model that cannot read yet."""
    valid_share: float = 0.05
    """Fraction of the chains split off for validation, at most 2,000. 0 disables validation."""
    skip_bad: bool = False
    """Skip invalid rows and list them in bad_rows.jsonl instead of refusing the data."""
    batch: int = 4
    """Batch size in packed rows of max-length tokens or less."""
    accumulate: int = 1
    """Batches per optimizer step (gradient accumulation, weighted by tokens)."""

    method: str = "full"
    """full trains all parameters; lora (arXiv 2106.09685) and dora (arXiv 2402.09353) train low-rank adapters."""
    rank: int = 16
    """Adapter rank."""
    alpha: float = 32.0
    """Adapter scale: the low-rank product is multiplied by alpha / rank."""
    quantize_base: int = 0
    """Bits to quantize the frozen base model to, 4 or 8 (QLoRA, arXiv 2305.14314). 0 keeps its precision."""
    recompute: bool = False
    """Gradient checkpointing: about a third slower, far less memory."""

    epochs: float = 5.0
    """Passes over the chains."""
    steps: int | None = None
    """Number of optimizer steps; overrides epochs."""
    optimizer: str = "adamw"
    """adamw, adafactor (less memory), lion (less memory; use about a third of the learning rate), or muon."""
    learning_rate: float | None = None
    """Peak learning rate. Default: 2e-4 for lora and dora, 2e-5 for full; a random small model needs about 1e-3."""
    schedule: str = "cosine"
    """Learning-rate schedule: cosine, linear, constant, or wsd (constant, then linear over the last fifth)."""
    warmup: float = 0.03
    """Fraction of the steps spent on linear warm-up."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip: float = 1.0
    """Maximum gradient norm. 0 disables clipping."""
    seed: int = 0
    """Random seed for microworld passages, chains, data order and adapter initialization."""

    eval_every: int | None = None
    """Steps between evaluations. Default: a tenth of the run."""
    patience: int = 0
    """Early stopping: evaluations without a better validation loss before the run ends. 0 disables it."""
    save_every: int | None = None
    """Steps between checkpoints. Default: as eval-every, at most 200."""
    log_every: int = 10
    """Steps between log lines."""
    sample_tokens: int = 96
    """Maximum tokens of a sample written at each evaluation."""

    @property
    def finetune(self) -> FinetuneSettings:
        """The same as settings of a finetuning run. Style `chat`: a synthesizer's chat template is its own format."""
        own = {"data", "shots", "most_examples", "context_weight"}
        shared = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in own}
        shared |= {"max_length": self.max_length or LONGEST, "data": ", ".join(self.data)}
        return FinetuneSettings(**shared, style="chat", too_long="drop")


def check_synthesizer_settings(settings: SynthesizerSettings) -> None:
    """Validate all settings. Raises UserError listing every invalid one."""
    problems = list(_problems(settings))
    if problems:
        raise invalid("setting", problems, "mlx-suite synthesize train --help", "command line")
    check_settings(settings.finetune)


def _problems(s: SynthesizerSettings) -> Iterator[str]:
    if not s.data:
        yield "data is missing: expected a file or microworld"
    for name in ("shots", "most_examples"):
        value = getattr(s, name)
        if value is not None and value < 1:
            yield f"{name} is {value}: expected a whole number of at least 1"
    if not 0 <= s.context_weight <= 1:
        yield f"context_weight is {s.context_weight}: expected 0 to 1"
