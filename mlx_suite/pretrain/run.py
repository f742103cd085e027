"""One pretraining run in one folder.

config.yaml         every setting and where it was set or what it follows from
tokenizer/          of a new model                          tokens/     the corpus, tokenized
metrics.jsonl       training and validation log             loss.png    the same as a plot
samples.jsonl, .md  continuations of fixed texts, written at each evaluation
checkpoint/         state to resume from
best/, last/        complete checkpoints with tokenizer
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.config_file import SHARED_KEYS
from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.checkpoints.trained_run import NAMES as RESULTS
from mlx_suite.data.corpus.batches import CorpusBatches
from mlx_suite.data.corpus.mixture import LedgerEntry, MixturePart
from mlx_suite.evaluate.samples import truncate_samples
from mlx_suite.pretrain.bits_per_byte import target_bytes
from mlx_suite.pretrain.corpus import PreparedCorpus, prepare_corpus
from mlx_suite.pretrain.evaluation import EvaluationOutputs
from mlx_suite.pretrain.model import ModelSource, base_folder, make_model, model_source
from mlx_suite.pretrain.plan import decide, plan_steps, step_memory
from mlx_suite.pretrain.settings import FREE, PretrainSettings, check_settings
from mlx_suite.pretrain.tokenizer import tokenizer_folder
from mlx_suite.runtime.device import device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.runtime.settings_file import NAME, settings_text
from mlx_suite.text import Tokenizer, load_tokenizer
from mlx_suite.training.checkpoint import State, read_state, refuse_other_run
from mlx_suite.training.loggers import check_loggers, open_logger
from mlx_suite.training.loop import LOG, Callbacks, TrainingResult, TrainSettings, read_log, steps_per_epoch, train
from mlx_suite.training.plot import plot_losses
from mlx_suite.training.process_group import ProcessGroup, lost_process
from mlx_suite.training.step_memory import INFEASIBLE, MemoryEstimate

REPEAT = "mlx-suite pretrain config.yaml --out FOLDER"
"""The command in the first line of config.yaml."""


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run before its first step: tokens on disk, everything decided, no weights in memory."""

    settings: PretrainSettings
    """Without open values."""
    origin: Mapping[str, str]
    """Where each setting was set, or what it follows from."""
    source: ModelSource
    parameters: int
    """Parameters outside embedding and head."""
    tokenizer: Tokenizer
    tokenizer_folder: Path
    corpus: PreparedCorpus
    batches: CorpusBatches
    valid: CorpusBatches | None
    plan: TrainSettings
    memory: MemoryEstimate

    @property
    def step_tokens(self) -> int:
        """Tokens of an optimizer step."""
        return self.batches.size * self.batches.length * self.plan.accumulate

    @property
    def epochs(self) -> float:
        """Passes over the corpus."""
        return self.plan.steps / steps_per_epoch(self.batches, self.plan.accumulate)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Result of a run."""

    result: TrainingResult
    prepared: PreparedRun
    folder: Path
    evaluations: tuple[Mapping[str, Any], ...]
    """Lines of the log with the losses and bits per byte of all evaluations."""
    ledger: tuple[LedgerEntry, ...]
    """What was read of each part."""
    plotted: bool
    """Whether loss.png was written."""

    @property
    def state(self) -> State:
        return self.result.state


@dataclass(frozen=True, kw_only=True)
class RunCallbacks:
    """Functions called during a run, in rank 0 only."""

    tokenizing: Callable[[str, int, int], None] = lambda part, documents, text_bytes: None
    """Called with the name of a part and the documents and bytes tokenized so far."""
    begin: Callable[[PreparedRun, State], None] = lambda prepared, state: None
    """Called before the first step with the state to resume from."""
    step: Callable[[int, float, int], None] = lambda step, loss, trained: None
    """Called after each step with its number, loss and number of trained tokens."""
    line: Callable[[Mapping[str, Any]], None] = lambda line: None
    """Called with each line of metrics.jsonl."""


def pretrain(
    settings: PretrainSettings,
    *,
    origin: Mapping[str, str] | None = None,
    callbacks: RunCallbacks | None = None,
    group: ProcessGroup | None = None,
) -> FinishedRun:
    """Start or resume the run in folder `settings.out`. A kill at any moment leaves the folder usable.

    Raises UserError for invalid settings, a corpus or model that cannot be read, a run that needs far more memory than
    there is, a folder with a run of other settings, a full disk, a loss of NaN or inf, or a lost process.
    """
    assert settings.out, "a run has a folder"
    check_settings(settings, origin)
    check_loggers(settings.loggers)
    run, group, callbacks = Path(settings.out), group or ProcessGroup(), callbacks or RunCallbacks()
    with ExitStack() as stack:
        if group.is_rank_zero:
            stack.enter_context(folder_lock(run))
        prepared = prepare_run(settings, origin=origin, tokenizing=callbacks.tokenizing, group=group)
        refuse_infeasible(prepared.memory)
        assert prepared.settings.dtype is not None
        model = make_model(settings, prepared.source, prepared.settings.dtype)
        identity = _identity(prepared, model, group)
        saved = read_state(run) if group.is_rank_zero else None
        if saved is not None:
            refuse_other_run(run, saved, identity)
        state = saved or State()
        loop_callbacks = Callbacks(step=callbacks.step)
        if group.is_rank_zero:
            if state.step == 0:
                _write_start(run, prepared)
            truncate_samples(run / "samples.jsonl", state.step)
            callbacks.begin(prepared, state)
            logger = stack.enter_context(closing(open_logger(settings.loggers, run, asdict(prepared.settings))))

            def line(entry: Mapping[str, Any]) -> None:
                callbacks.line(entry)
                logger.log(entry)

            outputs = EvaluationOutputs(
                run=run,
                model=model,
                source=prepared.source,
                settings=prepared.settings,
                tokenizer=prepared.tokenizer,
                tokenizer_folder=prepared.tokenizer_folder,
                held_out=prepared.corpus.valid,
            )
            loop_callbacks = replace(loop_callbacks, line=line, evaluated=outputs.write, measured=_measure(prepared))
        result = train(
            model,
            prepared.batches,
            prepared.plan,
            run,
            valid=prepared.valid,
            identity=identity,
            callbacks=loop_callbacks,
            group=group,
        )
        plotted = False
        if group.is_rank_zero:
            if not result.stopped:
                outputs.save("last")
            plotted = plot_losses(read_log(run), run / "loss.png")
        return FinishedRun(
            result=result,
            prepared=prepared,
            folder=run,
            evaluations=tuple(line for line in read_log(run) if line["kind"] == "valid") if group.is_rank_zero else (),
            ledger=_ledger(prepared, result.state.step),
            plotted=plotted,
        )


def prepare_run(
    settings: PretrainSettings,
    *,
    origin: Mapping[str, str] | None = None,
    tokenizing: Callable[[str, int, int], None] = lambda part, documents, text_bytes: None,
    group: ProcessGroup | None = None,
) -> PreparedRun:
    """Make the tokenizer, tokenize the corpus into the run folder and decide everything that the settings leave open.

    Ranks take turns, so that those with one file system tokenize once.
    """
    run, group = Path(settings.out), group or ProcessGroup()
    base = base_folder(settings)
    with lost_process(run, lambda: None):
        for rank in range(group.size):
            if rank == group.rank:
                folder = base or _new_tokenizer(settings, run)
                tokenizer = load_tokenizer(folder)
                corpus = prepare_corpus(settings, tokenizer, run, tokenizing if group.is_rank_zero else _silent)
            group.all_sum([mx.zeros(1)])
    source = model_source(settings, base, tokenizer)
    machine = device()
    decisions = decide(settings, source, corpus.tokens, machine)
    decided = decisions.settings
    batches = _batches(corpus.train, decided)
    return PreparedRun(
        settings=decided,
        origin=dict(origin or {}) | dict(decisions.origin),
        source=source,
        parameters=decisions.parameters,
        tokenizer=tokenizer,
        tokenizer_folder=folder,
        corpus=corpus,
        batches=batches,
        valid=_whole(corpus.valid, decided) if corpus.valid else None,
        plan=plan_steps(
            decided,
            steps_per_epoch=steps_per_epoch(batches, decided.accumulate or 1),
            epoch_tokens=sum(batches.quotas) * batches.length,
        ),
        memory=step_memory(decided, source, machine, group.size),
    )


def refuse_infeasible(memory: MemoryEstimate) -> None:
    """Raise UserError if a step would be killed for its memory use or swap endlessly."""
    if memory.total > INFEASIBLE * memory.limit:
        raise UserError(
            f"This run needs far more memory than is available: {memory.verdict}",
            fix="set a smaller batch with a larger accumulate, recompute: true, or a smaller model",
        )


def _new_tokenizer(settings: PretrainSettings, run: Path) -> Path:
    assert settings.tokenizer is not None, "checked: only a checkpoint has its own"
    return tokenizer_folder(settings.tokenizer, settings.data, run)


def _silent(part: str, documents: int, text_bytes: int) -> None:
    return None


def _batches(parts: tuple[MixturePart, ...], settings: PretrainSettings) -> CorpusBatches:
    assert settings.length and settings.batch
    return CorpusBatches(parts, length=settings.length, size=settings.batch, isolate=settings.isolate)


def _whole(parts: tuple[MixturePart, ...], settings: PretrainSettings) -> CorpusBatches:
    """Batches whose epoch reads every row of every part once."""
    rows = _batches(parts, settings).rows
    weighted = tuple(replace(part, weight=float(count)) for part, count in zip(parts, rows, strict=True))
    return _batches(weighted, settings)


def _measure(prepared: PreparedRun) -> Callable[[int, float], Mapping[str, Any]]:
    """A function of step and loss that returns bits per byte and the tokens read of each part."""
    counts = target_bytes(prepared.valid, prepared.tokenizer) if prepared.valid else None

    def measured(step: int, loss: float) -> Mapping[str, Any]:
        assert counts is not None
        read = {entry.name: entry.tokens for entry in _ledger(prepared, step)}
        return {"bits_per_byte": round(counts.bits_per_byte(loss), 5), "read": read}

    return measured


def _ledger(prepared: PreparedRun, step: int) -> tuple[LedgerEntry, ...]:
    plan = prepared.plan
    return prepared.batches.ledger(seed=plan.seed, steps=step, accumulate=plan.accumulate)


def _write_start(run: Path, prepared: PreparedRun) -> None:
    """Write the settings; delete results of an earlier run in this folder that has no checkpoint."""
    if (run / LOG).exists():
        for name in RESULTS:
            shutil.rmtree(run / name, ignore_errors=True)
    write_atomically(run / NAME, settings_text(prepared.settings, prepared.origin, REPEAT))


def _identity(prepared: PreparedRun, model: nn.Module, group: ProcessGroup) -> dict[str, Any]:
    """Everything that determines the weights. Resuming with a different value is refused."""
    fixed = {name: value for name, value in asdict(prepared.settings).items() if name not in FREE}
    # Names and paths may change: the contents are compared instead.
    config, source = prepared.source.config, prepared.source
    contents = {
        "size": None,
        "config": {name: getattr(config, name) for name in SHARED_KEYS} | {"windows": config.windows},
        "checkpoint": None if source.is_new else weights_digest(model),
        "tokenizer": prepared.tokenizer.digest,
        "corpus": prepared.batches.identity,
        "steps": prepared.plan.steps,
    }
    return fixed | contents | {"processes": group.size}
