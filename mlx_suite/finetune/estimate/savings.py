"""What would make a run fit: changes of its settings, what each saves, and the fewest that are enough together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from mlx_suite.data.batch.rows import Document
from mlx_suite.finetune.estimate.memory import MemoryEstimate, TrainShape
from mlx_suite.finetune.settings import FinetuneSettings

SMALLEST_RANK = 8
SHORTEST = 256
"""Tokens below which rows are not made shorter."""
WORTH = 0.01
"""Share of the memory that a change must save to be named."""

Estimate = Callable[[TrainShape], MemoryEstimate]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to do otherwise."""

    flags: str
    """What to add to the command."""
    cost: str
    """What it costs, in a few words."""
    price: float
    """The same as a number: how unwelcome it is beside the others."""
    shape: Mapping[str, Any] = field(default_factory=dict)
    """The fields of `TrainShape` that it changes."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Some changes together, and what they come to."""

    changes: tuple[Change, ...]
    memory: MemoryEstimate
    saves: int
    """Bytes less than without them."""

    @property
    def flags(self) -> str:
        return " ".join(change.flags for change in self.changes)

    @property
    def cost(self) -> str:
        return "; ".join(change.cost for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class Savings:
    """How a run could be made to fit."""

    together: Saving | None
    """The least unwelcome changes that are enough, or all that help where nothing is enough; None where none helps."""
    single: tuple[Saving, ...]
    """Each change alone, the one that saves most first."""


def find_savings(
    settings: FinetuneSettings,
    shape: TrainShape,
    layers: int,
    documents: Sequence[Document],
    estimate: Estimate,
) -> Savings:
    """Changes that would make `shape` fit.

    Args:
        layers: Blocks of the model.
        documents: The training examples, to say how many a shorter limit would cut.
        estimate: The memory of a shape.
    """
    now = estimate(shape)
    changes = list(_changes(settings, shape, layers, documents))
    single = [
        saving for change in changes if (saving := _saving([change], shape, now, estimate)).saves > WORTH * now.total
    ]
    single.sort(key=lambda saving: -saving.saves)
    # One that saves nothing alone may be what is missing beside another.
    sets = [chosen for size in range(1, len(changes) + 1) for chosen in combinations(changes, size) if _agree(chosen)]
    sets.sort(key=lambda chosen: sum(change.price for change in chosen))
    least: Saving | None = None
    for chosen in sets:
        together = _saving(chosen, shape, now, estimate)
        if together.memory.fits:
            return Savings(together=together, single=tuple(single))
        if together.saves > (least.saves if least else WORTH * now.total):
            least = together
    return Savings(together=least, single=tuple(single))


def _saving(changes: Sequence[Change], shape: TrainShape, now: MemoryEstimate, estimate: Estimate) -> Saving:
    changed: dict[str, Any] = {}
    for change in changes:
        changed |= change.shape
    memory = estimate(replace(shape, **changed))
    return Saving(changes=tuple(changes), memory=memory, saves=now.total - memory.total)


def _agree(changes: Sequence[Change]) -> bool:
    """Whether no two of them change the same thing."""
    names = [name for change in changes for name in change.shape]
    return len(names) == len(set(names))


def _changes(
    settings: FinetuneSettings, shape: TrainShape, layers: int, documents: Sequence[Document]
) -> Iterator[Change]:
    """Everything that could be tried, whether it helps or not."""
    if shape.rows > 1:
        steps = shape.rows * shape.accumulate
        yield Change(
            flags=f"--batch 1 --accumulate {steps}",
            cost="the same step",
            price=1.0,
            shape={"rows": 1, "accumulate": steps},
        )
    if not shape.checkpointing:
        yield Change(flags="--recompute", cost="a third slower", price=1.5, shape={"checkpointing": True})
    if shape.method != "full" and not shape.quantize_base:
        yield Change(
            flags="--quantize-base 4",
            cost="a slightly coarser base",
            price=2.0,
            shape={"quantize_base": 4},
        )
    if shape.optimizer in ("adamw", "muon"):
        yield Change(
            flags="--optimizer adafactor", cost="another optimizer", price=3.0, shape={"optimizer": "adafactor"}
        )
    if shape.method != "full" and shape.rank > SMALLEST_RANK:
        yield Change(
            flags=f"--rank {SMALLEST_RANK} --alpha {settings.alpha * SMALLEST_RANK / shape.rank:g}",
            cost="learns less",
            price=3.0,
            shape={"rank": SMALLEST_RANK},
        )
    yield from _shorter(settings, shape, documents)
    if shape.method != "full" and shape.layers is None and layers > 1:
        upper = tuple(range(layers // 2, layers))
        yield Change(
            flags=f"--layers {','.join(map(str, upper))}",
            cost="the upper half learns",
            price=4.0,
            shape={"layers": upper},
        )
    if shape.method == "full":
        lora = {"method": "lora", "rank": settings.rank, "modules": settings.modules}
        yield Change(flags="--method lora", cost="only small matrices learn", price=6.0, shape=lora)
        yield Change(
            flags="--method lora --quantize-base 4",
            cost="only small matrices learn, beside a slightly coarser base",
            price=8.0,
            shape=lora | {"quantize_base": 4},
        )


def _shorter(settings: FinetuneSettings, shape: TrainShape, documents: Sequence[Document]) -> Iterator[Change]:
    """Rows of half the length and of a quarter: only one of the two can be chosen."""
    longest = max(map(len, documents), default=0)
    for length in (shape.row_length // 2 // 64 * 64, shape.row_length // 4 // 64 * 64):
        if length < SHORTEST:
            return
        cut = sum(len(document) > length for document in documents)
        fits = longest <= length
        flags = [f"--row-length {length}"] if settings.row_length else []
        flags += [] if fits else [f"--max-length {length} --too-long truncate"]
        if not flags:  # rows are as short as the examples already
            return
        yield Change(
            flags=" ".join(flags),
            cost="no example is cut" if fits else f"cuts {cut:,} of {len(documents):,} examples",
            price=0.5 if fits else 4.0 + 4.0 * cut / len(documents),
            shape={"row_length": length},
        )
