"""One finetuning run in one folder.

config.yaml         every setting and where it was set
metrics.jsonl       training and validation log             loss.png    the same as a plot
samples.jsonl, .md  responses to fixed prompts, written at each evaluation
checkpoint/         state to resume from
best/, last/        the adapter, or the full model with method full
ema/                the same with the average of the weights over the run, if the settings ask for one
bad_rows.jsonl      rows skipped by skip_bad
started_from.json   the run or adapter that this one trains further
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.trained_run import NAMES as RESULTS
from mlx_suite.data.batch.batches import Batches
from mlx_suite.data.dataset import write_report
from mlx_suite.data.encode.styles import Writer
from mlx_suite.evaluate.samples import truncate_samples
from mlx_suite.finetune.callbacks import AVERAGE, EvaluationOutputs
from mlx_suite.finetune.model import TrainableModel, load_trainable
from mlx_suite.finetune.prepare import PreparedRun, make_batches
from mlx_suite.finetune.settings import FREE, FinetuneSettings
from mlx_suite.finetune.starting_point import RECORD, check_folder, record_text
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.runtime.settings_file import NAME, settings_text
from mlx_suite.training.checkpoint import State, read_state, refuse_other_run
from mlx_suite.training.loggers import check_loggers, open_logger
from mlx_suite.training.loop import (
    LOG,
    Before,
    Callbacks,
    TrainingResult,
    TrainSettings,
    read_log,
    steps_per_epoch,
    train,
    with_intervals,
)
from mlx_suite.training.plot import plot_losses
from mlx_suite.training.process_group import ProcessGroup
from mlx_suite.training.train_step import BatchLoss

REPEAT = "mlx-suite finetune --config config.yaml --out FOLDER"
"""The command that repeats a run, in the first line of config.yaml."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Training settings of a run, and its epochs in steps."""

    settings: TrainSettings
    per_epoch: int
    """Optimizer steps per epoch."""

    @property
    def epochs(self) -> float:
        return self.settings.steps / self.per_epoch


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Result of a run."""

    result: TrainingResult
    plan: RunPlan
    folder: Path
    valid_before: float | None
    """Mean validation loss before the first step, in nats per token."""
    plotted: bool
    """Whether loss.png was written."""
    notes: tuple[str, ...] = ()
    """Notes of the trained model: see `TrainableModel.notes`."""

    @property
    def state(self) -> State:
        return self.result.state


@dataclass(frozen=True, kw_only=True)
class RunCallbacks:
    """Functions called during a run, in rank 0 only."""

    begin: Callable[[TrainableModel, RunPlan, State], None] = lambda trainable, plan, state: None
    """Called before the first step with the loaded model, the plan, and the state to resume from."""
    step: Callable[[int, float, int], None] = lambda step, loss, trained: None
    """Called after each step with its number, loss and number of trained tokens."""
    line: Callable[[Mapping[str, Any]], None] = lambda line: None
    """Called with each line of metrics.jsonl."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a run learns from, and what it minimizes."""

    batches: Batches
    valid: Batches | None
    loss: BatchLoss | None = None
    """None for the cross-entropy of the data."""
    before: Before = lambda step, rows: None
    """Called before each step, as in `training.loop.train`."""
    notes: tuple[str, ...] = ()
    """Notes for the user, beside those of the model."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further facts that determine the weights, by setting; they replace the values of settings of these names."""


Change = Callable[[TrainableModel, Writer, Learning], Learning]
"""Changes what a run learns, once its model is loaded; the writer encodes prompts in the style of the examples."""


def plan_run(settings: FinetuneSettings, per_epoch: int) -> RunPlan:
    """Determine the number of steps and the intervals of evaluations, checkpoints and log lines."""
    steps = settings.steps or max(1, round(settings.epochs * per_epoch))
    plan = TrainSettings(
        steps=steps,
        accumulate=settings.accumulate,
        optimizer=settings.optimizer,
        learning_rate=settings.peak,
        schedule=settings.schedule,
        warmup=round(settings.warmup * steps),
        floor=settings.floor,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        seed=settings.seed,
        patience=settings.patience,
        average=settings.ema,
        anchor=settings.anchor,
    )
    return RunPlan(
        per_epoch=per_epoch,
        settings=with_intervals(
            plan, eval_every=settings.eval_every, save_every=settings.save_every, log_every=settings.log_every
        ),
    )


def finetune(
    settings: FinetuneSettings,
    prepared: PreparedRun,
    *,
    origin: Mapping[str, str] | None = None,
    callbacks: RunCallbacks | None = None,
    group: ProcessGroup | None = None,
    repeat: str = REPEAT,
    change: Change = lambda trainable, writer, learning: learning,
) -> FinishedRun:
    """Start or resume the run in folder `settings.out`. A kill at any moment leaves the folder usable.

    `repeat` is the command in the first line of config.yaml. Other jobs `change` what is learned: `transfer.distill`.

    Raises UserError if the run in the folder has other data, another model or other settings, the disk is full, the
    loss becomes NaN or inf, or another process is lost.
    """
    assert settings.out, "a run has a folder"
    run, group, callbacks = Path(settings.out), group or ProcessGroup(), callbacks or RunCallbacks()
    check_loggers(settings.loggers)
    if run.resolve() == Path(settings.data).resolve():
        raise UserError("The run folder is the data folder", where=settings.out, fix="choose another folder")
    if prepared.start is not None:
        check_folder(run, prepared.start)
    with ExitStack() as stack:
        if group.is_rank_zero:
            stack.enter_context(folder_lock(run))
        batches, valid = make_batches(prepared, settings)
        if settings.patience and valid is None:
            raise UserError(
                "Early stopping needs validation examples, and there are none",
                where=f"--patience {settings.patience}",
                fix="give --valid or a larger --valid-share, or omit --patience",
            )
        trainable = load_trainable(settings, prepared.folder, prepared.template_tokens, prepared.start)
        writer = Writer(
            style=settings.style,
            tokenizer=prepared.tokenizer,
            template=prepared.template,
            reasoning=settings.reasoning == "keep",
        )
        learning = change(trainable, writer, Learning(batches=batches, valid=valid))
        trainable = replace(trainable, notes=(*trainable.notes, *learning.notes))
        plan = plan_run(settings, steps_per_epoch(learning.batches, settings.accumulate))
        identity = _identity(settings, prepared, trainable, group) | dict(learning.facts)
        saved = read_state(run) if group.is_rank_zero else None
        if saved is not None:
            refuse_other_run(run, saved, identity)
        state = saved or State()
        outputs = EvaluationOutputs(
            run=run,
            settings=settings,
            prepared=prepared,
            trainable=trainable,
            writer=writer,
        )
        loop_callbacks = Callbacks(step=callbacks.step)
        if group.is_rank_zero:
            if state.step == 0:
                _write_start(run, settings, prepared, origin or {}, repeat)
            truncate_samples(run / "samples.jsonl", state.step)
            callbacks.begin(trainable, plan, state)
            logger = stack.enter_context(closing(open_logger(settings.loggers, run, asdict(settings))))

            def line(entry: Mapping[str, Any]) -> None:
                callbacks.line(entry)
                logger.log(entry)

            loop_callbacks = replace(loop_callbacks, line=line, evaluated=outputs.write)
        result = train(
            trainable.model,
            learning.batches,
            plan.settings,
            run,
            valid=learning.valid,
            identity=identity,
            callbacks=loop_callbacks,
            group=group,
            loss=learning.loss,
            before=learning.before,
        )
        plotted = False
        if group.is_rank_zero:
            if not result.stopped:
                outputs.save("last")
            if result.average is not None:
                outputs.save_average(result.average)
            plotted = plot_losses(read_log(run), run / "loss.png")
    before = _loss_before(run) if group.is_rank_zero else None
    return FinishedRun(
        result=result, plan=plan, folder=run, valid_before=before, plotted=plotted, notes=trainable.notes
    )


def _write_start(
    run: Path, settings: FinetuneSettings, prepared: PreparedRun, origin: Mapping[str, str], repeat: str
) -> None:
    """Write settings and bad rows; delete results of an earlier run in this folder that has no checkpoint."""
    if (run / LOG).exists():
        for name in (*RESULTS, AVERAGE):
            shutil.rmtree(run / name, ignore_errors=True)
    write_atomically(run / NAME, settings_text(settings, origin, repeat))
    if prepared.start is not None:
        write_atomically(run / RECORD, record_text(prepared.start))
    if prepared.problems:
        write_report(prepared.problems, run / "bad_rows.jsonl")


def _identity(
    settings: FinetuneSettings, prepared: PreparedRun, trainable: TrainableModel, group: ProcessGroup
) -> dict[str, Any]:
    """Everything that determines the weights. Resuming with a different value is refused."""
    fixed = {
        name: value for name, value in asdict(settings).items() if name not in FREE | {"train_new_tokens", "start_from"}
    }
    if prepared.start is not None:
        fixed["start_from"] = prepared.start.digest
    if rows := prepared.template_tokens.trained_rows(settings):
        fixed["token_rows"] = list(rows)
    for name in ("ema", "anchor"):
        if not fixed[name]:
            del fixed[name]  # unknown to runs that are older than the setting
    if settings.dropout:
        fixed["recompute"] = settings.recompute  # it changes the dropout masks
    # Names and paths may change: the contents are compared instead.
    contents = {"model": trainable.base_digest, "data": prepared.fingerprint, "valid": None}
    return fixed | contents | {"processes": group.size}


def _loss_before(run: Path) -> float | None:
    """Validation loss at step 0, if it was measured."""
    for line in read_log(run):
        if line["kind"] == "valid":
            return float(line["loss"]) if line["step"] == 0 else None
    return None
