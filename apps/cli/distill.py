"""`mlx-suite distill`: train a student on the distributions of a teacher."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.transfer.distill.settings import DistillSettings, check_distill_settings

from .finetune import FLAGS as FINETUNE_FLAGS
from .finetune import GROUPS as FINETUNE_GROUPS
from .finetune import inspect, origin_named, require_out, settings_of, train
from .flags import AsJson, ConfigFile, Estimate, Preview, Quiet, resumable
from .options import Flag, option, takes_settings
from .output import show

if TYPE_CHECKING:
    from mlx_suite.finetune.estimate.estimate import TeacherShape
    from mlx_suite.finetune.run import FinishedRun

GROUPS = {
    "Teacher": ("teacher_adapter", "objective", "beta", "temperature", "data_share", "align"),
    "On-policy": ("on_policy", "max_new_tokens", "rollout_temperature"),
    "Cached": ("cache", "draws", "draw_temperature", "top_k"),
    **FINETUNE_GROUPS,
}
"""Flags of the settings, by panel of the help."""
FLAGS = FINETUNE_FLAGS | {
    "teacher_adapter": Flag(metavar="DIR"),
    "objective": Flag(metavar="forward|reverse|jsd"),
    "cache": Flag(metavar="DIR"),
}
COMMON = ("objective", "on_policy", "cache")


@takes_settings(DistillSettings, GROUPS, FLAGS, COMMON)
def distill(
    typed: Mapping[str, Any],
    model: Annotated[str | None, option(DistillSettings, "model", argument="STUDENT")] = None,
    teacher: Annotated[str | None, option(DistillSettings, "teacher", argument="TEACHER")] = None,
    data: Annotated[str | None, option(DistillSettings, "data", argument="DATA")] = None,
    out: Annotated[str | None, option(DistillSettings, "out", "--out", "-o", metavar="DIR")] = None,
    config: ConfigFile = None,
    prompt: Annotated[list[str] | None, option(DistillSettings, "prompts", "--prompt", metavar="TEXT")] = None,
    make_cache: Annotated[
        bool,
        typer.Option(
            "--make-cache",
            help="Write a --cache to DIR; train nothing.",
        ),
    ] = False,
    preview: Preview = False,
    estimate: Estimate = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a student to give the probabilities that a teacher gives.

    Everything of `finetune` applies. At each trained token the loss compares the two distributions.

    Example: `mlx-suite distill small/ tiny-llama3 demo/ --on-policy 0.5 --out runs/d`

    Example: `mlx-suite distill small/ tiny-llama3 demo/ --make-cache --out cache/`
    """
    named = {"model": model, "teacher": teacher, "data": data, "out": out, "prompts": prompt or None}
    typed = dict(typed) | {name: value for name, value in named.items() if value is not None}
    usage = "mlx-suite distill STUDENT TEACHER DATA --out DIR"
    settings, origin = settings_of(DistillSettings, config, typed, usage=usage)
    check_distill_settings(settings, origin_named(origin))

    def shape() -> "TeacherShape":
        from mlx_suite.finetune.estimate.estimate import teacher_shape
        from mlx_suite.hub.resolve import resolve_texts

        return teacher_shape(resolve_texts(settings.teacher))

    in_memory = None if settings.cache else shape
    if preview or estimate:
        inspect(settings, preview, estimate, as_json, in_memory)
        return
    require_out(settings)
    if make_cache:
        _make_cache(settings, as_json, quiet)
        return

    def run(**how: Any) -> "FinishedRun":
        from mlx_suite.transfer.distill.run import distill

        return distill(settings, **how)

    train(settings, origin, as_json, quiet, run, teacher=in_memory, name="distill")


def _make_cache(settings: DistillSettings, as_json: bool, quiet: bool) -> None:
    from mlx_suite.finetune.prepare import prepare
    from mlx_suite.runtime.device import device, set_limits
    from mlx_suite.runtime.progress import Progress
    from mlx_suite.transfer.distill.cache import make_cache

    set_limits(device())
    prepared = prepare(settings)
    with resumable(f"Finished parts are in {settings.out}"), ExitStack() as stack:
        tell: Callable[[int], None] = _silent
        if not (quiet or as_json):
            total = len(prepared.train) + len(prepared.valid)
            tell = stack.enter_context(Progress("cache", total, unit="rows")).update
        made = make_cache(settings, prepared, Path(settings.out), tell=tell)
    if as_json:
        print(json.dumps({"folder": settings.out, "tokens": made.tokens, "bytes": made.size}))
        return
    show(
        [
            ("cache", f"{settings.out}: {made.tokens:,} trained tokens, {made.size / 1e6:.1f} MB"),
            ("use it", f"mlx-suite distill {settings.model} {settings.teacher} {settings.data} --cache {settings.out}"),
        ]
    )


def _silent(rows: int) -> None:
    return None
