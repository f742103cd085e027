"""One distillation in one folder: a finetuning run whose loss is the distance from a teacher.

Data, masks, packing, adapters, checkpoints, logs and samples are those of `finetune.run`; a killed run resumes
bit-exactly.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.data.encode.styles import Writer
from mlx_suite.finetune.model import TrainableModel
from mlx_suite.finetune.prepare import PreparedRun, prepare
from mlx_suite.finetune.run import Change, FinishedRun, Learning, RunCallbacks, finetune
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.head import vocabulary_size
from mlx_suite.training.process_group import ProcessGroup
from mlx_suite.transfer.distill.aligned import AlignedLoss, aligned_batches
from mlx_suite.transfer.distill.cache import open_cache
from mlx_suite.transfer.distill.cached_batches import CachedBatches
from mlx_suite.transfer.distill.loss import CachedLoss, OnlineLoss
from mlx_suite.transfer.distill.on_policy import Rollouts, on_policy_batches
from mlx_suite.transfer.distill.settings import FREE_OF_CONTENT, DistillSettings
from mlx_suite.transfer.distill.spans import shared_vocabulary
from mlx_suite.transfer.distill.teacher import (
    LoadedTeacher,
    load_teacher,
    refuse_other_vocabulary,
    refuse_unreadable,
    shared_tokens,
    template_note,
)

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
    if settings.align and not shared_tokens(prepared.tokenizer, teacher.tokenizer).equal:
        change = _aligned(settings, prepared, teacher)
    else:
        refuse_other_vocabulary(teacher, prepared.tokenizer)
        refuse_unreadable(teacher, (*prepared.train, *prepared.valid), packed=settings.batching == "pack")
        change = _cached(settings, prepared, teacher) if settings.cache else _online(settings, prepared, teacher)
        change = _with_template_note(change, settings, prepared)
    del teacher  # a cached run does without
    mx.clear_cache()
    return finetune(settings, prepared, origin=origin, callbacks=callbacks, group=group, repeat=REPEAT, change=change)


def _online(settings: DistillSettings, prepared: PreparedRun, teacher: LoadedTeacher) -> Change:
    """The teacher scores every batch."""

    def change(trainable: TrainableModel, writer: Writer, learning: Learning) -> Learning:
        learning = replace(learning, loss=OnlineLoss(teacher, settings.loss), facts=_contents(teacher=teacher.digest))
        if not settings.on_policy:
            return learning
        batches = on_policy_batches(prepared.train, settings)
        rollouts = Rollouts(model=trainable.model, batches=batches, settings=settings, stop=writer.stops)
        return replace(learning, batches=batches, before=rollouts.sample)

    return change


def _with_template_note(change: Change, settings: DistillSettings, prepared: PreparedRun) -> Change:
    """The same change, and a note where the teacher's own template would write the rows otherwise."""

    def noted(trainable: TrainableModel, writer: Writer, learning: Learning) -> Learning:
        note = template_note(writer, settings, prepared.dataset.train)
        return replace(change(trainable, writer, learning), notes=(note,) if note else ())

    return noted


def _cached(settings: DistillSettings, prepared: PreparedRun, teacher: LoadedTeacher) -> Change:
    """The teacher's distributions are read from disk; its weights were needed only to see that they are its own."""
    cache = open_cache(Path(settings.cache), settings, prepared, teacher)
    facts = _contents(teacher=teacher.digest, cache=cache.digest)

    def change(trainable: TrainableModel, writer: Writer, learning: Learning) -> Learning:
        return replace(
            learning,
            batches=CachedBatches(learning.batches, cache),
            valid=None if learning.valid is None else CachedBatches(learning.valid, cache),
            loss=CachedLoss(cache, settings.loss),
            facts=facts,
        )

    return change


def _aligned(settings: DistillSettings, prepared: PreparedRun, teacher: LoadedTeacher) -> Change:
    """The teacher scores the same conversations in its own tokens and template."""
    theirs = prepare(settings, folder=resolve(settings.teacher))
    refuse_unreadable(teacher, (*theirs.train, *theirs.valid), packed=False)
    tokenizers = prepared.tokenizer, theirs.tokenizer
    train, valid = (
        aligned_batches(ours, others, tokenizers, settings.batch)
        for ours, others in ((prepared.train, theirs.train), (prepared.valid, theirs.valid))
    )
    assert train is not None, "a run has training rows"
    facts = _contents(teacher=teacher.digest) | {"teacher_data": theirs.fingerprint}

    def change(trainable: TrainableModel, writer: Writer, learning: Learning) -> Learning:
        end = replace(writer, tokenizer=theirs.tokenizer, template=theirs.template).stop_id
        rows = vocabulary_size(trainable.model), teacher.vocabulary
        shared = shared_vocabulary(*tokenizers, rows, (writer.stop_id, end))
        loss = AlignedLoss(teacher, shared, settings.loss)
        return replace(learning, batches=train, valid=valid, loss=loss, facts=facts)

    return change


def _contents(**known: str) -> dict[str, Any]:
    """What the settings that name contents stand for, in a run's identity."""
    return dict.fromkeys(FREE_OF_CONTENT) | known
