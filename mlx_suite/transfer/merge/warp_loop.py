"""WARP as a loop (arXiv 2406.16768, algorithm 1): finetune several policies, merge them, go a part of the way, repeat.

    for each iteration
        finetune M policies from the same initialization, with different seeds
        δ ← SLERP of their differences from the initialization
        initialization ← initialization + η · δ

In the paper, a policy is trained by reinforcement learning with a KL penalty towards the moving average of its own
weights (the anchor). Here it is finetuned on examples; the settings `ema` and `anchor` of finetuning add the penalty.
The average of each policy is in `ema/` of its run; it is not merged, as in the paper.

    out/iteration-1/policy-1/   a finetuning run        out/iteration-1/merged/   a model with a card
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import FinishedRun, RunCallbacks, finetune
from mlx_suite.finetune.settings import FREE, FinetuneSettings
from mlx_suite.runtime.errors import invalid
from mlx_suite.runtime.stage import open_stage
from mlx_suite.transfer.merge.merging import merge_models
from mlx_suite.transfer.merge.recipe import Recipe, whole_models
from mlx_suite.transfer.merge.schedule import constant

KIND = "mlx-suite warp"
COMMAND = "mlx-suite warp"

BeginRun = Callable[[int, int], RunCallbacks]
"""Called before each policy with the iteration and the policy, from 1; returns the callbacks of its run."""


@dataclass(frozen=True, kw_only=True)
class WarpSettings:
    """Iterations of WARP."""

    iterations: int = 2
    """Rounds of finetuning and merging. The paper has 5."""
    policies: int = 2
    """Models finetuned in each round, with different seeds. The paper has 2."""
    eta: float = 0.3
    """Part of the way from a round's initialization to the merged policies. The paper has 0.3; 1 goes all the way."""


@dataclass(frozen=True, kw_only=True)
class WarpRound:
    """One iteration."""

    merged: Path
    """The model that the next iteration begins with."""
    losses: tuple[float | None, ...]
    """Best validation loss of each policy, in nats per token."""
    before: float | None
    """Validation loss of the initialization."""


def run_warp(
    settings: FinetuneSettings,
    warp: WarpSettings,
    out: Path | str,
    *,
    begin: BeginRun = lambda number, policy: RunCallbacks(),
) -> list[WarpRound] | None:
    """Run all iterations in folder `out`, or those that are not finished. None if it was stopped; it resumes.

    Args:
        settings: Settings of each policy; `out` is ignored, and `seed` is that of the first.

    Raises UserError for invalid settings, for a folder that was begun with others, and as finetuning and merging do.
    """
    out = Path(out)
    check_warp(warp, settings)
    facts = {name: value for name, value in asdict(settings).items() if name not in FREE} | asdict(warp)
    with open_stage(out, KIND, facts):
        rounds = []
        start = settings.model
        for number in range(1, warp.iterations + 1):
            found = _round(replace(settings, model=start), warp, out / f"iteration-{number}", number, begin)
            if found is None:
                return None
            rounds.append(found)
            start = str(found.merged)
        return rounds


def check_warp(warp: WarpSettings, settings: FinetuneSettings) -> None:
    """Validate settings. Raises UserError listing every problem."""
    problems = list(_problems(warp))
    if settings.start_from:
        problems.append("from is set: a round starts from the model that the last one merged; fuse the adapter first")
    if problems:
        raise invalid("setting", problems, f"{COMMAND} --help")


def _problems(warp: WarpSettings) -> Iterator[str]:
    if warp.iterations < 1:
        yield f"iterations is {warp.iterations}: expected at least 1"
    if warp.policies < 2:
        yield f"policies is {warp.policies}: expected at least 2"
    if not 0 < warp.eta <= 1:
        yield f"eta is {warp.eta:g}: expected above 0 and at most 1"


def _round(
    settings: FinetuneSettings, warp: WarpSettings, folder: Path, number: int, begin: BeginRun
) -> WarpRound | None:
    runs: list[FinishedRun] = []
    for policy in range(1, warp.policies + 1):
        own = replace(
            settings,
            out=str(folder / f"policy-{policy}"),
            seed=settings.seed + (number - 1) * warp.policies + policy - 1,
        )
        finished = finetune(own, prepare(own), callbacks=begin(number, policy))
        if finished.result.stopped:
            return None
        runs.append(finished)
    merged = folder / "merged"
    if not merged.exists():
        policies = [str(run.folder / "last") for run in runs]
        recipe = Recipe(
            method="warp",
            slices=whole_models(policies),
            base=settings.model,
            parameters={"eta": constant(warp.eta)},
            tokenizer=policies[0],
        )
        merge_models(recipe, merged, command=COMMAND)
    return WarpRound(
        merged=merged,
        losses=tuple(run.state.best_loss for run in runs),
        before=runs[0].valid_before,
    )
