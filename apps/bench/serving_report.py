"""What the server benchmark found: a row per measure with a cell per server, our ratio to the best other, and notes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .serving import TURNS, Load, Measured, crowd_stage


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of every server."""

    title: str
    stage: str
    """As `Measured.median` knows it."""
    requests: str
    """The stage whose failed requests make it void."""
    rate: bool = False
    """Tokens per second, more is better; otherwise seconds, printed as milliseconds."""
    aim: float | None = None
    """The aim for our ratio to the best other server: at least this for a rate, at most this for a time."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measure of all servers."""

    measure: Measure
    values: tuple[float | None, ...]
    """Medians in the order of the servers; None where requests failed or nothing was measured."""
    ratio: float | None
    """The first server's value over the best of the others; None without one of them."""

    @property
    def reached(self) -> bool | None:
        """Whether the ratio meets the aim; None without either."""
        if self.ratio is None or self.measure.aim is None:
            return None
        return self.ratio >= self.measure.aim if self.measure.rate else self.ratio <= self.measure.aim


def measures(load: Load) -> list[Measure]:
    """All measures of a load, with the aims of the project."""
    aims = {1: 1.0, 8: 1.3, 16: 1.3}
    return [
        Measure(title="first token, turn 1", stage="turn 1", requests="chat"),
        Measure(title=f"first token, turn {TURNS}", stage=f"turn {TURNS}", requests="chat", aim=0.5),
        Measure(title="longest pause", stage="pause", requests="long prompt", aim=0.5),
        Measure(title="its first token", stage="arriving", requests="long prompt"),
        *(
            Measure(
                title=f"tok/s, {crowd_stage(clients)}",
                stage=crowd_stage(clients),
                requests=crowd_stage(clients),
                rate=True,
                aim=aims.get(clients),
            )
            for clients in load.clients
        ),
    ]


def rows(results: Sequence[Measured], load: Load) -> list[Row]:
    """A row per measure; the ratio is that of the first server, if it is ours."""
    found = []
    for measure in measures(load):
        values = tuple(
            None if measure.requests in each.failures or each.down else each.median(measure.stage) for each in results
        )
        others = [value for value in values[1:] if value is not None and not math.isnan(value)]
        ratio = None
        if values[0] is not None and others and results[0].name == "mlx-suite":
            ratio = values[0] / (max(others) if measure.rate else min(others))
        found.append(Row(measure=measure, values=values, ratio=ratio))
    return found


def notes(results: Sequence[Measured], load: Load, busy: float = 0.0, cores: int = 1) -> list[str]:
    """One line for each failure, for each server that wrote too few tokens, and for a machine that was not idle.

    Args:
        busy: Load average of the machine before the first server started.
    """
    lines = []
    if busy > cores / 2:
        lines.append(
            f"other programs kept the machine busy (load {busy:.1f} on {cores} cores): repeat it when it is idle"
        )
    for each in results:
        if each.down:
            lines.append(f"{each.name} did not start: {each.down}")
        for stage, failed in each.failures.items():
            reason, _ = Counter(failed).most_common(1)[0]
            asked = each.requests[stage]
            lines.append(
                f"{each.name}, {stage}: {len(failed)} of {asked} requests failed ({reason}), and were not repeated"
            )
        for stage, retries in each.retries.items():
            lines.append(
                f"{each.name}, {stage}: {retries} of {each.requests[stage]} connections closed and tried again"
            )
        for clients, counts in each.written.items():
            if min(counts) < clients * load.tokens:
                lines.append(
                    f"{each.name}, {crowd_stage(clients)}: {min(counts)} of {clients * load.tokens} tokens written"
                )
    return lines
