"""Time to the first token of a new process, compared with mlx-lm's: imports, loading, first token.

Each measurement is a process of its own, which this module is too (`python -m …bench.start SIDE …`), so it imports
little itself. Ours runs the `generate` command; theirs does what `mlx_lm.generate` does. The sides take turns.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

PHASES = ("imports", "load", "first token")
SIDES = ("mlx-suite", "mlx-lm")


@dataclass(frozen=True, kw_only=True)
class StartTimes:
    """How long each phase of a start takes on one side; medians in seconds."""

    side: str
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    """The same of all threads together, which a busy machine changes less."""

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu_seconds.values())


def compare_starts(folder: str, prompt: str, repeats: int, sides: Sequence[str] = SIDES) -> list[StartTimes]:
    """Measure the start of each side `repeats` times. Raises UserError if a process fails."""
    runs: dict[str, list[list[list[float]]]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            runs[side].append(_start(side, folder, prompt))
    found = []
    for side, of_side in runs.items():
        wall, cpu = (
            {phase: statistics.median(run[at][kind] for run in of_side) for at, phase in enumerate(PHASES)}
            for kind in (0, 1)
        )
        found.append(StartTimes(side=side, seconds=wall, cpu_seconds=cpu))
    return found


def _start(side: str, folder: str, prompt: str) -> list[list[float]]:
    """(wall, CPU) seconds of each phase of one start."""
    from mlx_suite.runtime.errors import UserError

    command = [sys.executable, "-m", __name__, side, folder, prompt, str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        details = done.stderr.strip().splitlines()[-3:]
        raise UserError(f"{side} could not generate", where=folder, fix="check the model's folder", details=details)
    phases: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return phases


class _Clock:
    """Wall and CPU time of the phases of this process."""

    def __init__(self, started: float) -> None:
        self._last = started, 0.0
        """Time of the process's start, and the CPU time it had used then."""
        self.phases: list[list[float]] = []

    def skip(self) -> None:
        """Begin the first phase now."""
        self._last = time.time(), time.process_time()

    def lap(self) -> None:
        """End a phase."""
        now = time.time(), time.process_time()
        self.phases.append([round(after - before, 4) for after, before in zip(now, self._last, strict=True)])
        self._last = now


def _ours(folder: str, prompt: str, clock: _Clock) -> None:
    from mlx_suite import loading
    from mlx_suite.engine import chat_model  # noqa: F401

    from ..chat.repl import answer  # noqa: F401
    from ..cli import generate, main  # noqa: F401

    load = loading.load

    def timed_load(*arguments: Any, **options: Any) -> Any:
        clock.lap()
        loaded = load(*arguments, **options)
        clock.lap()
        return loaded

    loading.load = timed_load
    with redirect_stdout(sys.stderr):
        main.app(["generate", folder, prompt, "--max-tokens", "1"], standalone_mode=False)
    clock.lap()


def _theirs(folder: str, prompt: str, clock: _Clock) -> None:
    import mlx_suite  # noqa: F401  (for the same BLAS; its time does not count)

    clock.skip()
    from mlx_lm import load, stream_generate

    clock.lap()
    model, tokenizer, *_ = load(folder)
    clock.lap()
    messages = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    for _ in stream_generate(model, tokenizer, ids, max_tokens=1):
        pass
    clock.lap()


if __name__ == "__main__":
    _side, _folder, _prompt, _started = sys.argv[1:]
    _clock = _Clock(float(_started))
    {"mlx-suite": _ours, "mlx-lm": _theirs}[_side](_folder, _prompt, _clock)
    print(json.dumps(_clock.phases))
