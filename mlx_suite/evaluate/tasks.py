"""Runs tasks of the lm-evaluation-harness and keeps what matters of its results."""

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
    """One figure of one task."""

    task: str
    metric: str
    filter: str
    """How an answer was read before it was compared; `none` for most tasks."""
    value: float
    error: float | None
    """Standard error; None where the harness has none."""
    shots: int | None
    """Solved examples in front of each question."""
    samples: int | None
    """Questions that were asked."""
    version: str
    """Of the task: figures of two versions cannot be compared."""

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def require_harness() -> None:
    """Raises UserError that names the extra where the harness is not installed."""
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
    """Run tasks by name.

    Args:
        limit: Questions of each task; None for all. Figures of a part are for a quick look.
        shots: Solved examples in front of each question; None for the task's own number.
        chat: Put each question in the model's chat template.
        include: A folder with tasks of one's own, as YAML.
        seed: Of the choice of examples, and of answers that are drawn.

    Raises UserError for a task that nobody knows, or whose data cannot be had.
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
            f"The data of a task cannot be had: {str(error).splitlines()[0]}",
            where=", ".join(names),
            fix="tasks fetch their data from the hub: check the connection, or give tasks of your own with --include",
        ) from error
    assert found is not None, "only other processes get nothing"
    return tuple(_figures(found))


def _check_names(names: Sequence[str], known: Sequence[str]) -> None:
    strange = [name for name in names if name not in known]
    if not strange:
        return
    near = {name: difflib.get_close_matches(name, known, n=2) for name in strange}
    raise UserError(
        f"The harness knows no task {', '.join(strange)}",
        where="--tasks",
        fix="lm-eval ls tasks lists them; a task of your own needs --include with its folder",
        details=[f"{name}: did you mean {' or '.join(close)}?" for name, close in near.items() if close],
    )


def _figures(found: Mapping[str, Any]) -> list[TaskFigure]:
    """Every figure of every task, in the harness's order."""
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
