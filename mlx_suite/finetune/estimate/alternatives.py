"""Settings that would make a run fit into memory: what each change saves, and the cheapest set that is enough."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from mlx_suite.data.batch.rows import Document
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.training.step_memory import MemoryEstimate, TrainShape

SMALLEST_RANK = 8
SHORTEST = 256
"""Minimum row length in tokens that is proposed."""
LEAST_SAVING = 0.01
"""Fraction of the memory that a change must save to be listed."""

EstimateShape = Callable[[TrainShape], MemoryEstimate]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of the settings."""

    flags: str
    """Flags to add to the command."""
    cost: str
    """Cost in a few words."""
    price: float
    """The cost as a number, comparable between changes."""
    shape: Mapping[str, Any] = field(default_factory=dict)
    """New values of fields of `TrainShape`."""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One or more changes, with the memory that the run then needs."""

    changes: tuple[Change, ...]
    memory: MemoryEstimate
    saves: int
    """Bytes saved."""

    @property
    def flags(self) -> str:
        return " ".join(change.flags for change in self.changes)

    @property
    def cost(self) -> str:
        return "; ".join(change.cost for change in self.changes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; sizes in bytes."""
        return {
            "flags": self.flags,
            "cost": self.cost,
            "saves_bytes": self.saves,
            "peak_bytes": self.memory.total,
            "fits": self.memory.fits,
        }


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """Ways to make a run fit."""

    together: Alternative | None
    """The cheapest set of changes that fits, otherwise the set that saves most; None if nothing helps."""
    single: tuple[Alternative, ...]
    """Each change alone, in descending order of memory saved."""


def find_alternatives(
    settings: FinetuneSettings,
    shape: TrainShape,
    layers: int,
    documents: Sequence[Document],
    estimate: EstimateShape,
) -> Alternatives:
    """Find changes of the settings that make `shape` fit.

    Args:
        layers: Number of blocks of the model.
        documents: Training examples, to count those that a shorter limit would cut.
        estimate: Computes the memory of a shape.
    """
    now = estimate(shape)
    changes = list(_changes(settings, shape, layers, documents))
    single = [
        alternative
        for change in changes
        if (alternative := _alternative([change], shape, now, estimate)).saves > LEAST_SAVING * now.total
    ]
    single.sort(key=lambda alternative: -alternative.saves)
    # All sets: a change that saves nothing alone may be needed together with another.
    sets = [
        chosen for size in range(1, len(changes) + 1) for chosen in combinations(changes, size) if _compatible(chosen)
    ]
    sets.sort(key=lambda chosen: sum(change.price for change in chosen))
    best: Alternative | None = None
    for chosen in sets:
        together = _alternative(chosen, shape, now, estimate)
        if together.memory.fits:
            return Alternatives(together=together, single=tuple(single))
        if together.saves > (best.saves if best else LEAST_SAVING * now.total):
            best = together
    return Alternatives(together=best, single=tuple(single))


def _alternative(
    changes: Sequence[Change], shape: TrainShape, now: MemoryEstimate, estimate: EstimateShape
) -> Alternative:
    changed: dict[str, Any] = {}
    for change in changes:
        changed |= change.shape
    memory = estimate(replace(shape, **changed))
    return Alternative(changes=tuple(changes), memory=memory, saves=now.total - memory.total)


def _compatible(changes: Sequence[Change]) -> bool:
    """Whether no two changes affect the same field."""
    names = [name for change in changes for name in change.shape]
    return len(names) == len(set(names))


def _changes(
    settings: FinetuneSettings, shape: TrainShape, layers: int, documents: Sequence[Document]
) -> Iterator[Change]:
    """All possible changes, whether they help or not."""
    if shape.rows > 1:
        steps = shape.rows * shape.accumulate
        yield Change(
            flags=f"--batch 1 --accumulate {steps}",
            cost="same optimizer step",
            price=1.0,
            shape={"rows": 1, "accumulate": steps},
        )
    if not shape.checkpointing:
        yield Change(flags="--recompute", cost="a third slower", price=1.5, shape={"checkpointing": True})
    if shape.method != "full" and not shape.quantize_base:
        yield Change(
            flags="--quantize-base 4",
            cost="a slightly less accurate base model",
            price=2.0,
            shape={"quantize_base": 4},
        )
    if shape.optimizer in ("adamw", "muon"):
        yield Change(
            flags="--optimizer adafactor", cost="a different optimizer", price=3.0, shape={"optimizer": "adafactor"}
        )
    if shape.method != "full" and shape.rank > SMALLEST_RANK:
        yield Change(
            flags=f"--rank {SMALLEST_RANK} --alpha {settings.alpha * SMALLEST_RANK / shape.rank:g}",
            cost="less adapter capacity",
            price=3.0,
            shape={"rank": SMALLEST_RANK},
        )
    yield from _shorter(settings, shape, documents)
    if shape.method != "full" and shape.layers is None and layers > 1:
        upper = tuple(range(layers // 2, layers))
        yield Change(
            flags=f"--layers {','.join(map(str, upper))}",
            cost="adapts only the upper half of the blocks",
            price=4.0,
            shape={"layers": upper},
        )
    if shape.method == "full":
        lora = {"method": "lora", "rank": settings.rank, "modules": settings.modules}
        yield Change(flags="--method lora", cost="trains only an adapter", price=6.0, shape=lora)
        yield Change(
            flags="--method lora --quantize-base 4",
            cost="trains only an adapter, on a slightly less accurate base model",
            price=8.0,
            shape=lora | {"quantize_base": 4},
        )


def _shorter(settings: FinetuneSettings, shape: TrainShape, documents: Sequence[Document]) -> Iterator[Change]:
    """Propose rows of half and of a quarter of the length; at most one of the two is applied."""
    longest = max(map(len, documents), default=0)
    for length in (shape.row_length // 2 // 64 * 64, shape.row_length // 4 // 64 * 64):
        if length < SHORTEST:
            return
        cut = sum(len(document) > length for document in documents)
        fits = longest <= length
        flags = [f"--row-length {length}"] if settings.row_length else []
        flags += [] if fits else [f"--max-length {length} --too-long truncate"]
        if not flags:  # rows are already as short as the examples
            return
        yield Change(
            flags=" ".join(flags),
            cost="no example is truncated" if fits else f"truncates {cut:,} of {len(documents):,} examples",
            price=0.5 if fits else 4.0 + 4.0 * cut / len(documents),
            shape={"row_length": length},
        )
