"""What a run asks aside about each row: tags that the settings want, and a vector."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_suite.curation.tags.tagging import Tagger, make_tagger, questions_for
from mlx_suite.data.questions import TAGGED, Questions
from mlx_suite.data.steering import REST
from mlx_suite.engine.context import context_length
from mlx_suite.engine.scoring import room
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.modeling.head import head_function
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Tokenizer


def make_asides(
    model: Any, tokenizer: Tokenizer, template: ChatTemplate, settings: MagpieSettings, questions: Questions | None
) -> Tagger | None:
    """The questions of a run in the checkpoint's own tokens; None where nothing is asked.

    Raises UserError for questions that cannot be asked, and for settings that need what no question asks.
    """
    embed = settings.embeddings and head_function(model) is not None
    if settings.near_meaning and not embed:
        raise UserError(
            "near_meaning compares hidden states, and where this model keeps them is not known",
            where="the model's architecture",
            fix="leave --near-meaning out",
        )
    asked = questions or questions_for(
        Path(tokenizer.origin), None if settings.questions is None else Path(settings.questions)
    )
    if not settings.tags:
        asked = replace(asked, questions=())
    _check_quotas(settings, asked)
    if not (asked.questions or embed):
        return None
    tagger = make_tagger(tokenizer, template, asked, embed=embed)
    longest = max(map(room, (*tagger.instruction.queries, *tagger.answer.queries)))
    if longest > context_length(model) // 2:
        raise UserError(
            f"The longest question takes {longest} tokens, more than half of what the model can hold",
            where=f"a context of {context_length(model)} tokens",
            fix="give shorter ones with --questions, or leave tags and vectors out: --no-tags --no-embeddings",
        )
    return tagger


def _check_quotas(settings: MagpieSettings, questions: Questions) -> None:
    """Quotas must name labels of questions, or what the model can be steered to."""
    problems = []
    for shares in settings.shares:
        if shares.dimension not in TAGGED:
            continue
        labels = [question.labels for question in questions.questions if question.name == shares.dimension]
        if not labels:
            problems.append(f"{shares.dimension}: no question asks for it")
            continue
        unknown = [value for value in shares.parts if value != REST and value not in labels[0]]
        problems += [f"{shares.dimension}: no {value!r} among {', '.join(labels[0])}" for value in unknown]
    if problems:
        raise UserError(
            "A quota is of something that no tag can say",
            where="--quota",
            fix="use the labels of the questions as they are written",
            details=problems,
        )
