"""The plan of a run: every setting that was left open, decided by the rule of `size` and said where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlx_suite.pretrain.model import ModelSource
from mlx_suite.pretrain.settings import PretrainSettings
from mlx_suite.pretrain.size import LONGEST_ROW, TrainingRule, body_parameters, compute_optimal_tokens
from mlx_suite.runtime.device import Device, weights_dtype
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.loop import TrainSettings, with_intervals
from mlx_suite.training.step_memory import MemoryEstimate, TrainShape, estimate_memory, memory_limit

MOST_TOKENS_AT_ONCE = 8192
"""Tokens of a batch by default; larger batches of the rule are accumulated."""
CONTINUED = 0.1
"""Learning rate of a checkpoint by default, relative to that of a new model."""


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Settings without open values, and the origin of those that the rule decided."""

    settings: PretrainSettings
    """With length, batch, accumulate, learning rate, dtype and one budget."""
    origin: Mapping[str, str]
    """For each decided setting, what it follows from."""
    parameters: int
    """Outside embedding and head."""


def decide(settings: PretrainSettings, source: ModelSource, corpus_tokens: int, machine: Device) -> Decisions:
    """Decide what the settings leave open.

    Raises UserError if rows are longer than the model's context.
    """
    parameters = body_parameters(source.config)
    decided: dict[str, Any] = {}
    origin: dict[str, str] = {}

    def put(name: str, value: Any, why: str) -> None:
        if getattr(settings, name) is None:
            decided[name], origin[name] = value, why

    context = source.config.max_position_embeddings
    put("length", min(context, LONGEST_ROW), f"the model's context of {context:,}, at most {LONGEST_ROW:,}")
    length = settings.length or decided["length"]
    if length > context:
        raise UserError(
            f"Rows of {length:,} tokens are longer than the model's context of {context:,}",
            where="length",
            fix=f"set length to at most {context}, or max_position_embeddings in config to {length}",
        )
    budget = compute_optimal_tokens(parameters) if source.is_new else corpus_tokens
    if settings.tokens is None and settings.steps is None and settings.epochs is None:
        if source.is_new:
            put("tokens", budget, f"20 for each of {parameters:,} parameters outside the embedding")
        else:
            put("epochs", 1.0, "one for a checkpoint")
    rule = TrainingRule(parameters=parameters, tokens=_budget(settings, corpus_tokens, budget))
    why = f"for {rule.flops:.1e} FLOPs, arXiv 2401.02954"
    rate = rule.learning_rate if source.is_new else float(f"{CONTINUED * rule.learning_rate:.1e}")
    put("learning_rate", rate, why if source.is_new else f"a tenth of a new model's, {why}")
    rows = max(1, round(rule.batch_tokens / length))
    if settings.batch is None:
        at_once = max(1, MOST_TOKENS_AT_ONCE // length)
        batch = min(rows, at_once) if settings.accumulate is None else max(1, round(rows / settings.accumulate))
        put("batch", batch, why)
        put("accumulate", max(1, round(rows / batch)), why)
    else:
        put("accumulate", 1, "batch is given")
    put("dtype", weights_dtype(machine.kind, "bfloat16", False).dtype, f"the device, {machine.kind}")
    return Decisions(settings=replace(settings, **decided), origin=origin, parameters=parameters)


def plan_steps(settings: PretrainSettings, steps_per_epoch: int, epoch_tokens: int) -> TrainSettings:
    """Steps and intervals of a run with decided settings.

    Args:
        epoch_tokens: Tokens of an epoch, whose last step may be smaller than the others.
    """
    assert settings.batch and settings.length and settings.accumulate and settings.learning_rate
    if settings.steps is not None:
        steps = settings.steps
    elif settings.tokens is not None:
        epochs, rest = divmod(settings.tokens, epoch_tokens)
        last = round(rest / (settings.batch * settings.length * settings.accumulate))
        steps = max(1, epochs * steps_per_epoch + min(last, steps_per_epoch))
    else:
        assert settings.epochs is not None
        steps = max(1, round(settings.epochs * steps_per_epoch))
    plan = TrainSettings(
        steps=steps,
        accumulate=settings.accumulate,
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        warmup=round(settings.warmup * steps),
        floor=settings.floor,
        decay=settings.decay,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        seed=settings.seed,
    )
    return with_intervals(
        plan, eval_every=settings.eval_every, save_every=settings.save_every, log_every=settings.log_every
    )


def step_memory(settings: PretrainSettings, source: ModelSource, machine: Device, processes: int) -> MemoryEstimate:
    """Estimated peak memory of a step in each process."""
    assert settings.batch and settings.length and settings.accumulate
    shape = TrainShape(
        method="full",
        optimizer=settings.optimizer,
        rows=-(-settings.batch // processes),
        row_length=settings.length,
        packed=settings.isolate,
        checkpointing=settings.recompute,
        element_bytes=4 if settings.dtype == "float32" else 2,
        accumulate=settings.accumulate,
    )
    return estimate_memory(source.config, shape, memory_limit(machine))


def _budget(settings: PretrainSettings, corpus_tokens: int, usual: int) -> int:
    """Tokens of the run for the rule. Steps do not say how many until there is a batch, so the usual budget is used."""
    if settings.tokens is not None:
        return settings.tokens
    if settings.epochs is not None:
        return max(1, round(settings.epochs * corpus_tokens))
    return usual
