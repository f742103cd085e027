"""Speed and memory of tokenizing a corpus and of reading its batches, beside a plain loop over `Tokenizer.encode`.

The corpus is generated: documents of nonsense words whose frequencies follow a power law, in sentences and paragraphs;
the first 50 MB repeat. Each side runs in its own process, so memory is measured separately.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from mlx_suite.data.corpus.batches import CorpusBatches
from mlx_suite.data.corpus.documents import CorpusText, read_corpus
from mlx_suite.data.corpus.mixture import natural_parts
from mlx_suite.data.corpus.token_file import TokenFile
from mlx_suite.data.corpus.tokenize import tokenize_corpus
from mlx_suite.text import load_tokenizer

from .turns import TurnOrder, Work, resident_peak, take_turns

VOCABULARY = 50_000
MEDIAN_WORDS, SPREAD = 300, 1.0
"""Median and log standard deviation of document lengths, in words; lengths are log-normal."""
SENTENCE, PARAGRAPH = 12, 60
"""Mean length of a sentence and of a paragraph, in words."""
DISTINCT = 50_000_000
"""Bytes of the corpus before its documents repeat."""
LOOP_BYTES = 30_000_000
"""Text on which the plain loop is timed; its speed does not depend on the size."""
BATCHES = 2_000
"""Batches that are read after the tokens are written."""
LENGTH, ROWS = 512, 8
"""Shape of a batch."""


@dataclass(frozen=True, kw_only=True)
class CorpusCost:
    """Speed and memory of one side."""

    name: str
    text_bytes: int
    tokens: int
    seconds: float
    cpu_seconds: float
    """Seconds of all cores together, which other programs on the machine hardly change."""
    resident_bytes: int
    """Peak resident memory of the process."""

    @property
    def megabytes_per_second(self) -> float:
        return self.text_bytes / self.seconds / 1e6

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, kw_only=True)
class CorpusJob:
    """Input of a side."""

    model: str
    """Folder of the tokenizer."""
    source: str
    """File of the corpus."""
    folder: str
    """Folder for its tokens."""


def measure_corpus(model: Path, folder: Path, size: int) -> tuple[CorpusCost, ...]:
    """Generate a corpus of `size` bytes in `folder` and measure three sides on it.

    They are our tokenizing, the plain loop on the first LOOP_BYTES, and reading BATCHES shuffled batches.

    Raises UserError with the end of the traceback if a side fails.
    """
    source = folder / "corpus.jsonl"
    write_corpus(source, size)
    job = CorpusJob(model=str(model), source=str(source), folder=str(folder / "tokens"))
    costs = []
    for name, work in SIDES.items():
        costs += take_turns({name: (work, job)}, turns=1)[name]
    return tuple(costs)


def write_corpus(path: Path, size: int) -> None:
    """Write JSON lines until they have `size` bytes: DISTINCT bytes of different documents, then the same again."""
    lines: list[bytes] = []
    made = 0
    for text in corpus_texts():
        lines.append(json.dumps({"text": text}).encode() + b"\n")
        made += len(lines[-1])
        if made >= min(size, DISTINCT):
            break
    with path.open("wb") as file:
        for line in cycle(lines):
            file.write(line)
            if file.tell() >= size:
                return


def corpus_texts(seed: int = 1) -> Iterator[str]:
    """Documents without end."""
    letters, rng = random.Random(seed), np.random.default_rng(seed)
    words = np.array([_word(letters) for _ in range(VOCABULARY)], object)
    frequency = np.cumsum(1 / (np.arange(VOCABULARY) + 10))
    while True:
        count = max(4, round(MEDIAN_WORDS * rng.lognormal(0, SPREAD)))
        chosen = words[np.searchsorted(frequency, rng.random(count) * frequency[-1])]
        chosen[rng.random(count) < 1 / SENTENCE] += "."
        breaks = np.flatnonzero(rng.random(count - 1) < 1 / PARAGRAPH) + 1
        yield "\n\n".join(" ".join(part) for part in np.split(chosen, breaks))


def _word(rng: random.Random) -> str:
    word = "".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))
    return word.title() if rng.random() < 0.1 else word


def _tokenize(job: CorpusJob, turns: TurnOrder) -> None:
    def work() -> tuple[int, int]:
        file = tokenize_corpus(job.source, load_tokenizer(job.model), job.folder)
        return file.text_bytes, file.count

    _report("tokenize", work, turns)


def _loop(job: CorpusJob, turns: TurnOrder) -> None:
    def work() -> tuple[int, int]:
        tokenizer = load_tokenizer(job.model)
        text_bytes, parts = 0, []
        for item in read_corpus(job.source):
            assert isinstance(item, CorpusText)
            parts.append(np.array([*tokenizer.encode_prompt(item.text), tokenizer.eos_id], np.uint32))
            text_bytes += len(item.text.encode())
            if text_bytes >= LOOP_BYTES:
                break
        return text_bytes, len(np.concatenate(parts))

    _report("encode loop", work, turns)


def _batches(job: CorpusJob, turns: TurnOrder) -> None:
    def work() -> tuple[int, int]:
        file = TokenFile.open(job.folder)
        batches = CorpusBatches(natural_parts([file]), length=LENGTH, size=ROWS)
        tokens = sum(batches.take(chosen).trained for chosen in islice(batches.order(0, 0), BATCHES))
        return round(tokens * file.text_bytes / file.count), tokens

    _report("batches", work, turns)


def _report(name: str, work: Callable[[], tuple[int, int]], turns: TurnOrder) -> None:
    turns.wait()
    start, cpu = time.perf_counter(), time.process_time()
    text_bytes, tokens = work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    turns.report(
        CorpusCost(
            name=name,
            text_bytes=text_bytes,
            tokens=tokens,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            resident_bytes=resident_peak(),
        )
    )


SIDES: dict[str, Work] = {"tokenize": _tokenize, "encode loop": _loop, "batches": _batches}
"""What is measured, in this order: the batches are those of our tokens."""
