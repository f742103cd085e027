"""A measured experiment in one folder, resumable at any moment.

settings.json  the experiment and its version   shared/      what all cases have in common
trials/        one folder per case, with result.json
results.json   everything measured              table.md, index.html   tables, verdict, charts
"""

import gc
import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.runtime.container import usable_cores
from mlx_suite.runtime.device import device
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.resume import as_json, differences, refuse_other
from mlx_suite.runtime.stage import open_stage

from .experiment import Case, Experiment, Findings, LabOptions, Workplace, read_experiment
from .experiment_page import ExperimentPage, write_markdown
from .trial import RESULT
from .verdict import Result

KIND = "mlx-suite lab experiment"
RESULTS_FILE = "results.json"
Tell = Callable[[str], None]


def run_experiment(
    name: str, options: LabOptions, folder: Path, *, experiment: Experiment | None = None, tell: Tell = print
) -> list[Result]:
    """Measure all cases of an experiment in `folder`, or those that have no result yet; returns their results.

    Args:
        experiment: Default: the one called `name`.

    Raises UserError for a folder of another experiment or version, a kept result of other settings, and for whatever
    stops a case; KeyboardInterrupt if it was stopped.
    """
    experiment = experiment or read_experiment(name)
    cases = experiment.cases(options)
    assert len({case.name for case in cases}) == len(cases), "two cases of one name"
    results = []
    with open_stage(folder, KIND, {"experiment": name, "quick": options.quick}):
        (folder / "shared").mkdir(exist_ok=True)
        for number, case in enumerate(cases, start=1):
            place = Workplace(folder=folder / "trials" / case.name, shared=folder / "shared", options=options)
            found = _kept(case, place.folder)
            if found is None:
                tell(f"{number} of {len(cases)}: {case.arm}, seed {case.seed}")
                found = _measure(experiment, case, place)
            results.append(found)
    return results


def _kept(case: Case, folder: Path) -> Result | None:
    path = folder / RESULT
    if not path.is_file():
        return None
    found: Result = json.loads(path.read_text(encoding="utf-8"))
    refuse_other(differences(found["settings"], case.settings), folder)
    return found


def _measure(experiment: Experiment, case: Case, place: Workplace) -> Result:
    place.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    measured = experiment.run(case, place)
    about = {"arm": case.arm, "seed": case.seed, "settings": dict(case.settings)}
    result: Result = as_json({**about, **measured, "seconds": round(time.perf_counter() - began, 1)})
    write_atomically(place.folder / RESULT, json.dumps(result, indent=1) + "\n")
    # The next case measures memory: nothing of this one should be left.
    gc.collect()
    mx.clear_cache()
    return result


def machine_facts() -> Mapping[str, Any]:
    """The machine and the versions that measured."""
    found = device()
    return {
        "device": found.name,
        "kind": found.kind,
        "cores": usable_cores(),
        "memory_bytes": found.memory_bytes,
        "versions": {name: importlib.metadata.version(name) for name in ("mlx-suite", "mlx", "mlx-lm")},
    }


def write_experiment(
    name: str,
    results: Sequence[Result],
    options: LabOptions,
    folder: Path,
    *,
    experiment: Experiment | None = None,
    markdown: Path | None = None,
) -> ExperimentPage:
    """Write results.json, table.md and index.html.

    Args:
        markdown: A Markdown page to write too. Its figures, and the results, are written beside it.
    """
    experiment = experiment or read_experiment(name)
    findings: Findings = experiment.tell(results)
    page = ExperimentPage(
        name=name,
        experiment=experiment,
        options=options,
        findings=findings,
        results=results,
        machine=_machine_of(folder / RESULTS_FILE, results),
    )
    facts = {
        "experiment": name,
        "command": page.command,
        "options": {key: value for key, value in asdict(options).items() if key not in ("model", "text")},
        "machine": page.machine,
        "verdict": findings.verdict,
        "trials": list(results),
    }
    text = json.dumps(facts, indent=1) + "\n"
    write_atomically(folder / RESULTS_FILE, text)
    write_atomically(folder / "table.md", page.tables)
    write_atomically(folder / "index.html", page.html())
    if markdown is not None:
        write_markdown(page, markdown, text)
    return page


def _machine_of(path: Path, results: Sequence[Result]) -> Mapping[str, Any]:
    """The machine that measured: that of an earlier call if nothing was measured since."""
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.get("trials") == list(results):
            machine: Mapping[str, Any] = stored["machine"]
            return machine
    return machine_facts()
