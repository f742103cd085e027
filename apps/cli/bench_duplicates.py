"""`mlx-suite bench duplicates`: cost of online de-duplication."""

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .flags import AsJson

if TYPE_CHECKING:
    from ..bench.duplicates import BenchStage

DIM = 256
"""Dimensions of an embedding, to which Magpie truncates longer ones."""
COSINE = 0.95
"""Smallest cosine similarity of near-duplicates."""
LOOK_UPS = 1000
"""Timed look-ups of the cosine stage; 100,000 would take minutes."""


def duplicates(
    rows: Annotated[int, typer.Option(min=2, help="Number of rows.")] = 100_000,
    json: AsJson = False,
) -> None:
    """Compare online de-duplication with comparing all pairs: rows per second and memory.

    Three stages: exact text, lexical (MinHash and Jaccard), and cosine of 256-dimensional embeddings. Each row is
    looked up, and added if it is new. The cosine stage is timed halfway through the run; the naive baseline is timed
    on 1,000 rows and extrapolated.

    Example: mlx-suite bench duplicates --rows 20000
    """
    from rich.console import Console
    from rich.table import Table

    from mlx_suite.runtime.memory import human_bytes

    from ..bench.duplicates import measure_stages

    costs = list(measure_stages({"exact": exact, "lexical": lexical, "cosine": cosine}, rows))
    if json:
        report = [asdict(each) | {"ratio": round(each.ratio, 3)} for each in costs]
        typer.echo(json_format.dumps({"rows": rows, "stages": report}, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "rows/s", "resident", "growth", "naive rows/s", "ratio"):
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    for each in costs:
        table.add_row(
            *(each.name, f"{each.rows_per_second:,.0f}", human_bytes(each.resident_bytes)),
            *(human_bytes(each.grown_bytes), f"{each.naive_rows_per_second:,.2f}", f"{each.ratio:,.0f}x"),
        )
    Console().print(table)
    typer.echo(f"{rows:,} rows; the naive baseline is extrapolated from all pairs of {costs[0].naive_rows:,}")
    timed = costs[-1].timed
    if timed < rows:
        typer.echo(f"cosine: {timed:,} look-ups, timed halfway, after {(rows - timed) // 2:,} rows")


def exact() -> "BenchStage":
    """Exact duplicates: the same text after normalisation."""
    from mlx_suite.magpie.judge import key_of

    from ..bench.duplicates import BenchStage, instructions

    known: set[Any] = set()

    def is_duplicate(key: int, text: str) -> bool:
        digest = key_of(text)
        is_known = digest in known
        known.add(digest)
        return is_known

    return BenchStage(
        items=instructions,
        is_duplicate=is_duplicate,
        add=lambda key, text: known.add(key_of(text)),
        prepared=key_of,
        is_same=lambda one, other: bool(one == other),
    )


def lexical() -> "BenchStage":
    """Lexical near-duplicates: Jaccard similarity of word shingles."""
    from mlx_suite.curation.duplicates.lexical import LexicalIndex, shingles
    from mlx_suite.curation.duplicates.words import words

    from ..bench.duplicates import BenchStage, instructions

    index = LexicalIndex()

    def is_duplicate(key: int, text: str) -> bool:
        signature = index.signature(text)
        if index.find(signature) is not None:
            return True
        index.add(key, signature)
        return False

    def is_same(one: set[str], other: set[str]) -> bool:
        return len(one & other) >= index.threshold * len(one | other)

    return BenchStage(
        items=instructions,
        is_duplicate=is_duplicate,
        add=index.add,
        prepared=lambda text: set(shingles(words(text))),
        is_same=is_same,
    )


def cosine() -> "BenchStage":
    """Semantic near-duplicates: cosine similarity of embeddings."""
    import numpy as np

    from mlx_suite.curation.duplicates.neighbours import Neighbours

    from ..bench.duplicates import BenchStage, directions

    index = Neighbours(DIM)

    def is_duplicate(key: int, vector: Any) -> bool:
        nearest = index.nearest(vector)
        if nearest is not None and nearest[1] >= COSINE:
            return True
        index.add(key, vector)
        return False

    return BenchStage(
        items=lambda rows: directions(rows, DIM),
        is_duplicate=is_duplicate,
        add=index.add,
        prepared=lambda vector: vector / np.linalg.norm(vector),
        is_same=lambda one, other: bool(one @ other >= COSINE),
        timed=LOOK_UPS,
    )
