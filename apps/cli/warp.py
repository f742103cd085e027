"""`mlx-suite warp`: finetune several policies, merge them, repeat."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress

from .finetune import COMMON, FLAGS, GROUPS, read_finetune_settings
from .flags import AsJson, Quiet, print_json
from .options import option, takes_settings
from .output import show

if TYPE_CHECKING:
    from mlx_suite.finetune.model import TrainableModel
    from mlx_suite.finetune.run import RunCallbacks, RunPlan
    from mlx_suite.training.checkpoint import State
    from mlx_suite.transfer.merge.warp_loop import WarpRound


@takes_settings(FinetuneSettings, GROUPS, FLAGS, COMMON)
def warp(
    typed: Mapping[str, Any],
    model: Annotated[str | None, option(FinetuneSettings, "model", argument="MODEL")] = None,
    data: Annotated[str | None, option(FinetuneSettings, "data", argument="DATA")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of the loop; resumed if it exists.")
    ] = None,
    iterations: Annotated[int, typer.Option(metavar="N", help="Rounds of finetuning and merging.")] = 2,
    policies: Annotated[int, typer.Option(metavar="N", help="Models finetuned in each round, seeds apart.")] = 2,
    eta: Annotated[
        float, typer.Option(metavar="X", help="Part of the way from a round's start to its merged policies.")
    ] = 0.3,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of finetuning settings; flags override it.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Improve a model in rounds: finetune several with different seeds, merge them, go a part of the way (WARP).

    Each round merges the policies by SLERP of their differences from the round's start (arXiv 2406.16768). The paper's
    policies are trained by reinforcement learning; these are finetuned on examples. DIR gets a folder for each round
    with the runs and the merged model. A stopped loop resumes with the same command.

    Example: `mlx-suite warp tiny-llama3 demo/ --out runs/warp --iterations 2 --steps 50`
    """
    from mlx_suite.runtime.device import device, set_limits
    from mlx_suite.transfer.merge.warp_loop import WarpSettings, run_warp

    named = {"model": model, "data": data}
    settings, _ = read_finetune_settings(config, dict(typed) | {k: v for k, v in named.items() if v is not None})
    if out is None:
        raise UserError("No output folder is given", where="--out", fix="for example, --out runs/warp")
    loop = WarpSettings(iterations=iterations, policies=policies, eta=eta)
    set_limits(device())
    bars: list[Progress] = []
    silent = quiet or as_json
    try:
        rounds = run_warp(settings, loop, out, begin=lambda number, policy: _progress(number, policy, bars, silent))
    finally:
        _close(bars)
    if rounds is None:
        typer.echo(f"Stopped. Finished runs are in {out}; the same command resumes from there.", err=True)
        raise typer.Exit(130)
    if as_json:
        print_json({"folder": str(out), "rounds": [asdict(each) | {"merged": str(each.merged)} for each in rounds]})
    else:
        show(_lines(rounds))


def _progress(number: int, policy: int, bars: list[Progress], silent: bool) -> "RunCallbacks":
    """Callbacks that show one line per run."""
    from mlx_suite.finetune.run import RunCallbacks

    if silent:
        return RunCallbacks()

    def begin(trainable: "TrainableModel", plan: "RunPlan", state: "State") -> None:
        _close(bars)
        bar = Progress(f"round {number}, policy {policy}", plan.settings.steps, unit="steps", done=state.step)
        bars.append(bar.__enter__())

    def step(done: int, loss: float, trained: int) -> None:
        bars[-1].update(done, loss=f"{loss:.3f}")

    return RunCallbacks(begin=begin, step=step)


def _close(bars: list[Progress]) -> None:
    while bars:
        bars.pop().__exit__(None, None, None)


def _lines(rounds: "list[WarpRound]") -> list[tuple[str, str]]:
    lines = []
    for number, each in enumerate(rounds, start=1):
        losses = ", ".join("–" if loss is None else f"{loss:.4f}" for loss in each.losses)
        before = "" if each.before is None else f", {each.before:.4f} before"
        lines.append((f"round {number}", f"validation losses {losses}{before}"))
    last = rounds[-1].merged
    return [*lines, ("model", str(last)), ("try it", f'mlx-suite generate {last} "…"')]
