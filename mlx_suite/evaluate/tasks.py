"""Run tasks of the lm-evaluation-harness and collect their results."""

import difflib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_suite.runtime.errors import UserError

if TYPE_CHECKING:
    from mlx_suite.evaluate.harness import HarnessModel

EXTRA = "pip install 'mlx-suite[harness]'"


@dataclass(frozen=True, kw_only=True)
class TaskFigure:
    """One metric of one task."""

    task: str
    metric: str
    filter: str
    """Filter applied to responses before comparison; `none` for most tasks."""
    value: float
    error: float | None
    """Standard error; None if the harness reports none."""
    shots: int | None
    """Few-shot examples per question."""
    samples: int | None
    """Number of questions."""
    version: str
    """Task version; results of different versions are not comparable."""

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def require_harness() -> None:
    """Raise UserError if the harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("The lm-evaluation-harness is not installed", where="lm_eval", fix=EXTRA)


def run_tasks(
    model: "HarnessModel",
    names: Sequence[str],
    *,
    limit: int | None = None,
    shots: int | None = None,
    chat: bool = False,
    include: Path | None = None,
    seed: int = 0,
) -> tuple[TaskFigure, ...]:
    """Run tasks by name and return every metric.

    Args:
        limit: Maximum questions per task; None for all. Partial results are for a quick look only.
        shots: Few-shot examples per question; None for the task's default.
        chat: Apply the model's chat template.
        include: Folder of custom tasks in YAML.
        seed: Seed of few-shot selection and of sampled responses.

    Raises UserError for an unknown task or one whose data cannot be loaded.
    """
    require_harness()
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=None if include is None else str(include))
    _check_names(names, manager.all_tasks)
    try:
        found = simple_evaluate(
            model,
            tasks=list(names),
            num_fewshot=shots,
            limit=limit,
            apply_chat_template=chat,
            task_manager=manager,
            log_samples=False,
            bootstrap_iters=1000,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    except (FileNotFoundError, ConnectionError) as error:
        raise UserError(
            f"A task's data cannot be loaded: {str(error).splitlines()[0]}",
            where=", ".join(names),
            fix="check the connection to the hub, or give local tasks with --include",
        ) from error
    assert found is not None, "rank 0 always gets results"
    return tuple(_figures(found))


def _check_names(names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if not unknown:
        return
    near = {name: difflib.get_close_matches(name, known, n=2) for name in unknown}
    raise UserError(
        f"Unknown task: {', '.join(unknown)}",
        where="--tasks",
        fix="lm-eval ls tasks lists them; for a custom task pass its folder with --include",
        details=[f"{name}: did you mean {' or '.join(close)}?" for name, close in near.items() if close],
    )


def _figures(found: Mapping[str, Any]) -> list[TaskFigure]:
    """Every metric of every task, in the harness's order."""
    figures = []
    for task, values in found["results"].items():
        for key, value in values.items():
            metric, _, by = key.partition(",")
            if not by or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{by}")
            samples = found.get("n-samples", {}).get(task, {})
            figures.append(
                TaskFigure(
                    task=task,
                    metric=metric,
                    filter=by,
                    value=float(value),
                    error=float(error) if isinstance(error, int | float) else None,
                    shots=found.get("n-shot", {}).get(task),
                    samples=samples.get("effective"),
                    version=str(found.get("versions", {}).get(task, "")),
                )
            )
    return figures
