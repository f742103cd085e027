"""One distillation in one folder: a finetuning run whose loss is the distance from a teacher.

Data, masks, packing, adapters, checkpoints, logs and samples are those of `finetune.run`; a killed run resumes
bit-exactly.
"""

from collections.abc import Mapping
from typing import Any

from mlx_suite.data.encode.styles import Writer
from mlx_suite.finetune.model import TrainableModel
from mlx_suite.finetune.prepare import PreparedRun
from mlx_suite.finetune.run import FinishedRun, Learning, RunCallbacks, finetune
from mlx_suite.training.process_group import ProcessGroup
from mlx_suite.transfer.distill.loss import OnlineLoss
from mlx_suite.transfer.distill.on_policy import Rollouts, on_policy_batches
from mlx_suite.transfer.distill.settings import FREE_OF_CONTENT, DistillSettings
from mlx_suite.transfer.distill.teacher import LoadedTeacher, load_teacher, refuse_other_vocabulary, refuse_unreadable

REPEAT = "mlx-suite distill --config config.yaml --out FOLDER"
"""The command that repeats a run, in the first line of config.yaml."""


def distill(
    settings: DistillSettings,
    prepared: PreparedRun,
    *,
    teacher: LoadedTeacher | None = None,
    origin: Mapping[str, str] | None = None,
    callbacks: RunCallbacks | None = None,
    group: ProcessGroup | None = None,
) -> FinishedRun:
    """Start or resume the distillation in folder `settings.out`. A kill at any moment leaves the folder usable.

    `teacher` is that of the settings, if it is loaded already. Raises UserError as `finetune` does, and if the teacher
    cannot score the student's rows.
    """
    teacher = teacher or load_teacher(settings.teacher, settings.teacher_adapter)
    refuse_other_vocabulary(teacher, prepared.tokenizer)
    refuse_unreadable(teacher, (*prepared.train, *prepared.valid), packed=settings.batching == "pack")

    def change(trainable: TrainableModel, writer: Writer, learning: Learning) -> Learning:
        loss = OnlineLoss(teacher, settings.loss)
        facts = contents(teacher=teacher.digest)
        if not settings.on_policy:
            return Learning(batches=learning.batches, valid=learning.valid, loss=loss, facts=facts)
        batches = on_policy_batches(prepared.train, settings)
        rollouts = Rollouts(model=trainable.model, batches=batches, settings=settings, stop=writer.stops)
        return Learning(batches=batches, valid=learning.valid, loss=loss, before=rollouts.sample, facts=facts)

    return finetune(settings, prepared, origin=origin, callbacks=callbacks, group=group, repeat=REPEAT, change=change)


def contents(**known: str) -> dict[str, Any]:
    """What the settings that name contents stand for, in a run's identity."""
    return dict.fromkeys(FREE_OF_CONTENT) | known
