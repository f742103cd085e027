"""What KV caches with and without rings cost: tables, charts and sentences of `lab window`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlx_suite.curation.report.lines import Line
from mlx_suite.runtime.memory import human_bytes

from .experiment import Findings, ResultChart, ResultTable, line_of
from .kv_memory import CHUNK, ENGINE, FULL, MLX_LM, RING, STORED_CHUNK

Row = Mapping[str, Any]
SIDES = (RING, FULL, MLX_LM)


def memory_findings(rows: Sequence[Row], title: str, key: str) -> Findings:
    """Bytes of the cache arrays. `key` ends the names of the figures."""
    return Findings(
        verdict=tuple(_memory_sentences(rows, title)),
        tables=(_memory_table(rows, title),),
        charts=(
            ResultChart(
                name=f"memory-{key}",
                title=f"KV cache of {title}, after decoding",
                lines=_lines(rows, "decode", 1e-6),
                x_label="context, tokens",
                y_label="MB",
            ),
        ),
    )


def work_findings(rows: Sequence[Row], title: str, key: str) -> Findings:
    """Time and peak memory of prefill and decode."""
    return Findings(
        verdict=tuple(_work_sentences(rows, title)),
        tables=(_work_table(rows, title),),
        charts=(
            ResultChart(
                name=f"decode-{key}",
                title=f"Decode step, {title}",
                lines=_lines(rows, "decode_seconds", 1e3),
                x_label="context, tokens",
                y_label="ms",
            ),
            ResultChart(
                name=f"prefill-{key}",
                title=f"Peak memory of prefill, {title}",
                lines=_lines(rows, "prefill_peak_bytes", 1e-6),
                x_label="context, tokens",
                y_label="MB",
            ),
        ),
    )


def _of(rows: Sequence[Row], side: str) -> dict[int, Row]:
    """The rows of a side by context."""
    return {row["context"]: row for row in rows if row["side"] == side}


def _lines(rows: Sequence[Row], column: str, factor: float) -> tuple[Line, ...]:
    return tuple(
        line_of(side, hue, [[(c, factor * row[column]) for c, row in _of(rows, side).items()]], dashed=side == MLX_LM)
        for hue, side in enumerate((*SIDES, ENGINE))
        if _of(rows, side)
    )


def _memory_table(rows: Sequence[Row], title: str) -> ResultTable:
    contexts = sorted({row["context"] for row in rows})
    lines = [(f"{side}, after {when}", side, when) for side in SIDES for when in ("prefill", "decode")]
    lines.append((f"{ENGINE}, ring", ENGINE, "decode"))
    return ResultTable(
        title=f"KV cache of {title}, one row in bf16",
        columns=("side", *(f"{context:,} tokens" for context in contexts)),
        rows=tuple(
            (name, *(human_bytes(_of(rows, side)[context][when]) for context in contexts)) for name, side, when in lines
        ),
        note=f"Bytes of the cache arrays. Prefill in chunks of {STORED_CHUNK:,} leaves the window and the chunk in a "
        "ring; the first decoded token makes it the window's size. Our engine's rings never hold more than the window.",
    )


def _memory_sentences(rows: Sequence[Row], title: str) -> Iterator[str]:
    longest = max(row["context"] for row in rows)
    ring, full, theirs = (_of(rows, side)[longest]["decode"] for side in SIDES)
    than = "than mlx-lm's" if theirs == full else f"than without; mlx-lm's takes {human_bytes(theirs)}"
    yield (
        f"At {longest:,} tokens the KV cache of {title} takes {human_bytes(ring)} with rings and {human_bytes(full)} "
        f"without: {100 * (1 - ring / full):.0f} % less {than}."
    )


def _work_table(rows: Sequence[Row], title: str) -> ResultTable:
    return ResultTable(
        title=f"Prefill and decode, {title}",
        columns=("context", "side", "prefill", "its peak", "KV cache", "decode step", "logit difference"),
        rows=tuple(
            (
                f"{row['context']:,}",
                row["side"],
                f"{row['prefill_seconds']:.2f} s",
                human_bytes(row["prefill_peak_bytes"]),
                human_bytes(row["kv_bytes"]),
                f"{1e3 * row['decode_seconds']:.1f} ms",
                f"{row['difference']:.2g}",
            )
            for row in rows
        ),
        note=f"Prefill since the context before, in chunks of {CHUNK}; its peak is beyond what was allocated before. "
        f"Decode: the fastest step. Difference: the largest, after prefill, from the logits of {RING}.",
    )


def _work_sentences(rows: Sequence[Row], title: str) -> Iterator[str]:
    longest = max(row["context"] for row in rows)
    ring, full, theirs = (_of(rows, side)[longest] for side in SIDES)
    yield (
        f"A decode step after {longest:,} tokens ({title}) takes {1e3 * ring['decode_seconds']:.1f} ms with rings, "
        f"{1e3 * full['decode_seconds']:.1f} ms without, {1e3 * theirs['decode_seconds']:.1f} ms in mlx-lm. "
        f"Without rings the logits differ by {full['difference']:.1g}, in mlx-lm by {theirs['difference']:.1g}."
    )
