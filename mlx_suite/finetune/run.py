"""One finetuning run in one folder.

config.yaml         every setting and where it came from
metrics.jsonl       lines of training and validation        loss.png    the same as a picture
samples.jsonl, .md  fixed prompts answered at each evaluation
checkpoint/         what a stopped run goes on from
best/, last/        the adapter, or the whole model with method full
bad_rows.jsonl      rows left out by skip_bad
"""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.trained_run import NAMES as RESULTS
from mlx_suite.data.dataset import write_report
from mlx_suite.data.encode.styles import Writer
from mlx_suite.finetune.config_file import NAME, write_config
from mlx_suite.finetune.keeper import Keeper
from mlx_suite.finetune.loggers import check_loggers, open_logger
from mlx_suite.finetune.model import Trainee, make_trainee
from mlx_suite.finetune.plot import plot_losses
from mlx_suite.finetune.prepare import Prepared, make_batches
from mlx_suite.finetune.samples import cut_samples
from mlx_suite.finetune.settings import FREE, FinetuneSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.training.checkpoint import State, read_state, refuse_other_run
from mlx_suite.training.loop import LOG, Callbacks, TrainingResult, TrainSettings, steps_per_epoch, train
from mlx_suite.training.process_group import ProcessGroup

EVALUATIONS = 10
"""Of a run, where their distance is not given."""
LONGEST_UNSAVED = 200
"""Steps between two checkpoints at most, where their distance is not given."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run counted out."""

    settings: TrainSettings
    per_epoch: int
    """Steps of one pass over the examples."""

    @property
    def epochs(self) -> float:
        return self.settings.steps / self.per_epoch


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run has come to."""

    result: TrainingResult
    plan: Plan
    folder: Path
    valid_before: float | None
    """Mean validation loss before the first step, nats per token."""
    plotted: bool

    @property
    def state(self) -> State:
        return self.result.state


@dataclass(frozen=True, kw_only=True)
class Tell:
    """What a caller hears while it runs."""

    begin: Callable[[Trainee, Plan, State], None] = lambda trainee, plan, state: None
    """The model is ready; the state is where an earlier start has come to."""
    step: Callable[[int, float, int], None] = lambda step, loss, trained: None
    line: Callable[[Mapping[str, Any]], None] = lambda line: None


def plan_run(settings: FinetuneSettings, per_epoch: int) -> Plan:
    """How many steps, and how often the run is looked at and saved."""
    steps = settings.steps or max(1, round(settings.epochs * per_epoch))
    eval_every = settings.eval_every or max(1, -(-steps // EVALUATIONS))
    return Plan(
        per_epoch=per_epoch,
        settings=TrainSettings(
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
            save_every=settings.save_every or min(eval_every, LONGEST_UNSAVED),
            log_every=min(settings.log_every, max(1, steps // 5)),
            eval_every=eval_every,
            patience=settings.patience,
        ),
    )


def finetune(
    settings: FinetuneSettings,
    prepared: Prepared,
    *,
    origin: Mapping[str, str] | None = None,
    tell: Tell | None = None,
    group: ProcessGroup | None = None,
) -> Finished:
    """Train, from where the folder `settings.out` stands; it is whole at any moment.

    Raises UserError for a folder that was begun with other data, another model or other settings, for a full disk, a
    loss that is no number, and a lost process.
    """
    assert settings.out, "a run has a folder"
    run, group, tell = Path(settings.out), group or ProcessGroup(), tell or Tell()
    check_loggers(settings.loggers)
    if run.resolve() == Path(settings.data).resolve():
        raise UserError("A run cannot be written among its own data", where=settings.out, fix="name another folder")
    with ExitStack() as open_things:
        if group.is_rank_zero:
            open_things.enter_context(folder_lock(run))
        batches, valid = make_batches(prepared, settings)
        if settings.patience and valid is None:
            raise UserError(
                "Nothing is set aside for validation, so there is no loss that could stop getting better",
                where=f"--patience {settings.patience}",
                fix="give --valid or a larger --valid-share, or leave --patience out",
            )
        plan = plan_run(settings, steps_per_epoch(batches, settings.accumulate))
        trainee = make_trainee(settings, prepared.folder)
        identity = _identity(settings, prepared, trainee, group)
        begun = read_state(run) if group.is_rank_zero else None
        if begun is not None:
            refuse_other_run(run, begun, identity)
        state = begun or State()
        keeper = Keeper(
            run=run,
            settings=settings,
            prepared=prepared,
            trainee=trainee,
            writer=Writer(style=settings.style, tokenizer=prepared.tokenizer, template=prepared.template),
        )
        callbacks = Callbacks(step=tell.step)
        if group.is_rank_zero:
            if state.step == 0:
                _write_beginning(run, settings, prepared, origin or {})
            cut_samples(run / "samples.jsonl", state.step)
            tell.begin(trainee, plan, state)
            logger = open_things.enter_context(closing(open_logger(settings.loggers, run, asdict(settings))))

            def line(entry: Mapping[str, Any]) -> None:
                tell.line(entry)
                logger.log(entry)

            callbacks = replace(callbacks, line=line, evaluated=keeper.evaluated)
        result = train(
            trainee.model, batches, plan.settings, run, valid=valid, identity=identity, callbacks=callbacks, group=group
        )
        plotted = False
        if group.is_rank_zero:
            if not result.stopped:
                keeper.save("last")
            plotted = plot_losses(_log(run), run / "loss.png")
    return Finished(
        result=result,
        plan=plan,
        folder=run,
        valid_before=_before(run) if group.is_rank_zero else None,
        plotted=plotted,
    )


def _write_beginning(run: Path, settings: FinetuneSettings, prepared: Prepared, origin: Mapping[str, str]) -> None:
    """Settings and bad rows; what a run has left here that was begun before, and has no checkpoint now, is cleared."""
    if (run / LOG).exists():
        for name in RESULTS:
            shutil.rmtree(run / name, ignore_errors=True)
    write_atomically(run / NAME, write_config(settings, origin))
    if prepared.problems:
        write_report(prepared.problems, run / "bad_rows.jsonl")


def _identity(settings: FinetuneSettings, prepared: Prepared, trainee: Trainee, group: ProcessGroup) -> dict[str, Any]:
    """What decides the weights of a run: a folder is continued by the same only."""
    decides = {name: value for name, value in asdict(settings).items() if name not in FREE}
    if settings.dropout:
        decides["recompute"] = settings.recompute  # it draws other values to drop
    # Names and places may change: what they stand for is told by its contents.
    contents = {"model": trainee.base_digest, "data": prepared.fingerprint, "valid": None}
    return decides | contents | {"processes": group.size}


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / LOG).read_text().splitlines()]


def _before(run: Path) -> float | None:
    for line in _log(run):
        if line["kind"] == "valid":
            return float(line["loss"]) if line["step"] == 0 else None
    return None
