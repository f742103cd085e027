"""Instruction finetuning of a trained arm, scored along the way: the curve of Figure 4 (arXiv 2406.14491)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_suite.data.batch.batches import BucketedBatches
from mlx_suite.data.batch.rows import Document
from mlx_suite.text import Tokenizer
from mlx_suite.training.loop import TrainSettings, train

from .people import LabQuestion
from .recipe import LabTuning
from .scores import Score, prompt_of, score


def tune_and_score(
    model: Any,
    tokenizer: Tokenizer,
    lessons: Sequence[LabQuestion],
    questions: Sequence[LabQuestion],
    tuning: LabTuning,
    folder: Path,
    seed: int,
) -> list[tuple[int, dict[str, Score]]]:
    """Finetune `model` on the lessons; returns (step, scores) at each of `tuning.steps`.

    The loss is on the answers. The learning rate is constant, so that every point of the curve is a run of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batches = BucketedBatches([_lesson(tokenizer, each) for each in lessons], tuning.batch)
    curve = []
    for step in tuning.steps:
        if step:
            settings = TrainSettings(
                steps=step,
                learning_rate=tuning.learning_rate,
                schedule="constant",
                warmup=5,
                weight_decay=0.0,
                seed=seed,
                save_every=step,
                log_every=max(1, step // 4),
            )
            if train(model, batches, settings, folder).stopped:
                raise KeyboardInterrupt
        curve.append((step, score(model, tokenizer, questions)))
    return curve


def _lesson(tokenizer: Tokenizer, lesson: LabQuestion) -> Document:
    prompt, answer = tokenizer.encode_prompt(prompt_of(lesson)), tokenizer.encode(f" {lesson.answer}")
    end = min(tokenizer.stop_ids)
    return Document([*prompt, *answer, end], [0.0] * len(prompt) + [1.0] * (len(answer) + 1))
