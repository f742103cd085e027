"""Preview of the training data: examples with their trained tokens marked, lengths, and problems.

Trained tokens are colored; without color (a file, NO_COLOR) they are between ⟦ and ⟧. Special tokens are shown by name,
names of special tokens that are ordinary text as «<eos> in letters», newlines as ↵.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.encode.lengths import ERROR
from mlx_suite.data.read.records import Problem
from mlx_suite.finetune.prepare import PreparedRun
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.runtime.errors import shortened
from mlx_suite.text import Tokenizer

TRAINED, TRAINED_SPECIAL, SPECIAL, HEADING = "bold green", "bold green reverse", "cyan", "bold"
"""Colours of tokens and headings; other text has the default colour."""
OPEN, CLOSE = "⟦", "⟧"
SPELLED = "«{} in letters»"
"""Name of a special token that is ordinary text."""
SHOWN_TOKENS = 320
"""Maximum tokens shown of an example; of a longer one, half from the start and half from the end."""
MOST_BINS = 12
LABEL = 11
"""Width of the labels on the left, in columns."""

Lines = Sequence[tuple[str, str]]
Findings = Sequence[tuple[str, Sequence[Problem]]]


@dataclass(frozen=True, kw_only=True)
class LengthQuantiles:
    """Percentiles over the examples."""

    least: int
    median: int
    p90: int
    """90th percentile."""
    p99: int
    most: int


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A bin of the histogram of lengths."""

    first: int
    """Minimum length in tokens."""
    last: int
    """Maximum length."""
    examples: int


@dataclass(frozen=True, kw_only=True)
class PreviewSummary:
    """Statistics of the encoded examples."""

    examples: int
    tokens: int
    trained: int
    """Number of trained tokens."""
    lengths: LengthQuantiles
    """Tokens per example."""
    trained_lengths: LengthQuantiles
    """Trained tokens per example."""
    histogram: tuple[Bin, ...]
    ends: Mapping[str, int]
    """Number of examples by last trained token, which is the token that the model learns to stop with."""

    @property
    def trained_share(self) -> float:
        return self.trained / self.tokens

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"trained_share": self.trained_share}


def summarise(documents: Sequence[Document], tokenizer: Tokenizer) -> PreviewSummary:
    """Compute statistics of one or more documents."""
    lengths = [len(document) for document in documents]
    marks = [np.asarray(document.weights, np.float32) > 0 for document in documents]
    trained = [int(mark[1:].sum()) for mark in marks]
    ends: Counter[str] = Counter()
    for document, mark in zip(documents, marks, strict=True):
        last = document.tokens[int(np.flatnonzero(mark)[-1])]
        ends[tokenizer.decode([last], skip_special=False)] += 1
    return PreviewSummary(
        examples=len(documents),
        tokens=sum(lengths),
        trained=sum(trained),
        lengths=_quantiles(lengths),
        trained_lengths=_quantiles(trained),
        histogram=_histogram(lengths),
        ends=dict(ends.most_common()),
    )


def preview(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    console: Console,
    report: Lines = (),
    findings: Findings = (),
    rows: int = 5,
) -> None:
    """Print `rows` examples spread over the data, then statistics, then problems.

    `report` contains labeled lines to print first; `findings` contains problems by heading.
    """
    coloured = console.color_system is not None and not console.no_color
    summary = summarise(documents, tokenizer)
    _print_lines(console, report)
    legend = Text("Trained tokens are ")
    legend.append("shown in this colour" if coloured else f"between {OPEN} and {CLOSE}", TRAINED if coloured else "")
    legend.append("; ↵ is a newline.")
    console.print()
    console.print(legend)
    for place in dict.fromkeys(np.linspace(0, len(documents) - 1, rows).round().astype(int).tolist()):
        document = documents[place]
        trained = document.trained
        console.print()
        where = document.place or f"example {place + 1}"
        console.print(Text(f"{where}  {len(document):,} tokens, {trained:,} trained", HEADING))
        console.print(Padding(marked(document, tokenizer, coloured=coloured), (0, 0, 0, 2), expand=False))
    console.print()
    console.print(Text("Tokens per example", HEADING))
    console.print(_bars(summary.histogram, console.width))
    console.print()
    _print_lines(console, _numbers(summary))
    for heading, problems in findings:
        console.print()
        console.print(Text(heading, HEADING))
        for line in shortened(problems):
            console.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 2), expand=False))


def findings(settings: FinetuneSettings, prepared: PreparedRun) -> list[tuple[str, Sequence[Problem]]]:
    """Problems of data prepared with `lenient` settings, under headings that say how `settings` handle them."""
    groups: list[tuple[str, Sequence[Problem]]] = []
    if prepared.problems:
        act = "skipped" if settings.skip_bad else "training refuses them without --skip-bad"
        groups.append((f"Invalid rows: {act}", prepared.problems))
    if prepared.too_long:
        acts = {"drop": "dropped", "truncate": "truncated", "split": "split"}
        act = acts.get(settings.too_long, "training refuses them without --too-long or a larger --max-length")
        groups.append((f"Longer than {settings.max_length:,} tokens: {act}", prepared.too_long))
    return groups


def lenient(settings: FinetuneSettings) -> FinetuneSettings:
    """Settings that accept data that training would refuse, so that it can be previewed."""
    return replace(settings, skip_bad=True, too_long="drop" if settings.too_long == ERROR else settings.too_long)


def marked(document: Document, tokenizer: Tokenizer, *, coloured: bool) -> Text:
    """An example as text, with its trained tokens coloured or bracketed."""
    text = Text(overflow="fold")
    for trained, parts in groupby(_runs(document, tokenizer), key=lambda run: run[1]):
        if not coloured:
            shown = "".join(part for part, _, _ in parts)
            text.append(f"{OPEN}{shown}{CLOSE}" if trained else shown)
            continue
        for part, _, special in parts:
            style = (TRAINED_SPECIAL if trained else SPECIAL) if special else (TRAINED if trained else "")
            text.append(part, style)
    text.rstrip()
    return text


def _runs(document: Document, tokenizer: Tokenizer) -> Iterator[tuple[str, bool, bool]]:
    """Runs of adjacent tokens of one kind: (text, trained, special)."""
    size, half = len(document), SHOWN_TOKENS // 2
    hidden = range(half, size - half) if size > SHOWN_TOKENS else range(0)
    special_ids = tokenizer.special_ids
    kinds = [
        (weight > 0 and place > 0, token in special_ids, place in hidden)
        for place, (token, weight) in enumerate(zip(document.tokens, document.weights, strict=True))
    ]
    ends = [0]
    for _, members in groupby(kinds):
        ends.append(ends[-1] + len(list(members)))
    names = tokenizer.specials
    shown_gap = False
    # Text is the difference of two decoded prefixes: a token decoded alone may lose its leading space.
    before = ""
    for start, end in pairwise(ends):
        trained, special, is_hidden = kinds[start]
        until = tokenizer.decode(document.tokens[:end], skip_special=False)
        if not is_hidden:
            part = until[len(before) :]
            if names is not None and not special:
                part = names.sub(lambda match: SPELLED.format(match[0]), part)
            yield _visible(part), trained, special
        elif not shown_gap:
            yield f" … {len(hidden):,} more tokens … ", False, False
            shown_gap = True
        before = until


def _visible(text: str) -> str:
    """Text with newlines marked and control characters replaced, which could otherwise control the terminal."""
    shown = "".join(chr(0x2400 + ord(letter)) if letter < " " and letter not in "\n\t" else letter for letter in text)
    return shown.replace("\x7f", "␡").replace("\n", "↵\n")


def _quantiles(numbers: Sequence[int]) -> LengthQuantiles:
    points = np.percentile(numbers, [0, 50, 90, 99, 100], method="inverted_cdf").astype(int).tolist()
    return LengthQuantiles(least=points[0], median=points[1], p90=points[2], p99=points[3], most=points[4])


def _histogram(lengths: Sequence[int]) -> tuple[Bin, ...]:
    """Bins whose width grows with the length, as text lengths are roughly log-normal."""
    least, most = min(lengths), max(lengths)
    for edges in (_edges(halves=True), _edges(halves=False)):
        first = max(edge for edge in edges if edge <= least)
        last = next(edge for edge in edges if edge > most)
        used = [edge for edge in edges if first <= edge <= last]
        if len(used) <= MOST_BINS + 1:
            break
    counts, _ = np.histogram(lengths, [*used[:-1], used[-1] - 0.5])
    return tuple(
        Bin(first=low, last=high - 1, examples=int(count))
        for (low, high), count in zip(pairwise(used), counts, strict=True)
    )


def _edges(*, halves: bool) -> list[int]:
    """Bin edges 1, 2, 3, 4, 6, 8, 12, …; without `halves`, powers of two only."""
    powers = [2**power for power in range(40)]
    return sorted({*powers, *(3 * power // 2 for power in powers[1:] if halves)})


def _bars(histogram: Sequence[Bin], width: int) -> RenderableType:
    """Bars scaled to the width of the terminal."""
    largest = max(bin.examples for bin in histogram)
    ranges = [f"{bin.first:,}-{bin.last:,}" for bin in histogram]
    counts = [f"{bin.examples:,}" for bin in histogram]
    room = min(60, width - 2 - max(map(len, ranges)) - max(map(len, counts)) - 5)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    for bin, name, count in zip(histogram, ranges, counts, strict=True):
        eighths = round(8 * room * bin.examples / largest)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        table.add_row(name, count, bar or ("▏" if bin.examples else ""))
    return Padding(table, (0, 0, 0, 2), expand=False)


def _numbers(summary: PreviewSummary) -> Iterator[tuple[str, str]]:
    for label, spread in (("lengths", summary.lengths), ("trained", summary.trained_lengths)):
        yield (
            label,
            f"median {spread.median:,}, 90 % up to {spread.p90:,}, 99 % up to {spread.p99:,}; "
            f"from {spread.least:,} to {spread.most:,} tokens per example",
        )
    yield "share", f"{summary.trained_share:.0%} of all tokens are trained: {summary.trained:,} of {summary.tokens:,}"
    ends = [f"{name} in {count:,}" for name, count in list(summary.ends.items())[:5]]
    unique = len(summary.ends) == 1
    yield "last token", f"{next(iter(summary.ends))} in every example" if unique else ", ".join(ends)


def _print_lines(console: Console, lines: Lines | Iterator[tuple[str, str]]) -> None:
    """Print labels on the left and their lines to the right."""
    table = Table.grid(padding=0)
    table.add_column(width=LABEL)
    table.add_column(overflow="fold")
    for label, line in lines:
        table.add_row(Text(label), Text(line, overflow="fold"))
    if table.row_count:
        console.print(table)
