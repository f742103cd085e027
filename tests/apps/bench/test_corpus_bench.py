"""The generated corpus of the benchmark, and what its sides report. Speed is not tested."""

import json
from itertools import islice
from pathlib import Path

import pytest

from mlx_suite_apps.bench import corpus
from mlx_suite_apps.bench.corpus import SIDES, CorpusCost, CorpusJob, corpus_texts, write_corpus


@pytest.fixture(autouse=True)
def small_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "VOCABULARY", 500)


def test_the_texts_are_the_same_each_time_and_have_sentences_and_paragraphs() -> None:
    texts = list(islice(corpus_texts(), 50))
    assert texts == list(islice(corpus_texts(), 50))
    assert any(". " in text for text in texts) and any("\n\n" in text for text in texts)


def test_the_corpus_has_its_size_and_repeats_after_the_distinct_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "DISTINCT", 5_000)
    write_corpus(tmp_path / "a.jsonl", 40_000)
    lines = [json.loads(line)["text"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    distinct = len(set(lines))
    assert lines[distinct : 2 * distinct] == lines[:distinct]
    assert 40_000 <= (tmp_path / "a.jsonl").stat().st_size < 60_000


class OwnTurns:
    """Turns of a side that runs in this process."""

    def __init__(self) -> None:
        self.reports: list[CorpusCost] = []

    def wait(self) -> None:
        assert not self.reports

    def report(self, result: CorpusCost) -> None:
        self.reports.append(result)


def test_all_sides_read_the_same_tokens(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl", 30_000)
    job = CorpusJob(model="models/tiny-llama3", source=str(tmp_path / "a.jsonl"), folder=str(tmp_path / "tokens"))
    costs = []
    for work in SIDES.values():
        turns = OwnTurns()
        work(job, turns)
        costs += turns.reports
    assert [cost.name for cost in costs] == list(SIDES) == ["tokenize", "encode loop", "batches"]
    ours, loop, batches = costs
    assert (ours.text_bytes, ours.tokens) == (loop.text_bytes, loop.tokens)
    assert batches.tokens == ours.tokens - 1


def test_speeds_are_per_second_of_the_clock() -> None:
    cost = CorpusCost(name="tokenize", text_bytes=6_000_000, tokens=900, seconds=3.0, cpu_seconds=5.0, resident_bytes=1)
    assert (cost.megabytes_per_second, cost.tokens_per_second) == (2.0, 300.0)
