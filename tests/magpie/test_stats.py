"""The summary of a run."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.magpie.conftest import Loaded


def test_the_funnel_adds_up(checkpoint: Loaded, tmp_path: Path) -> None:
    summary = checkpoint.make(tmp_path, count=10)
    shown = json.loads(json.dumps(summary.as_dict()))

    assert shown["asked"] == shown["accepted"] + sum(shown["rejected"].values())
    assert shown["accepted"] == 10
    assert shown["yield"] == round(10 / shown["asked"], 4)
    assert shown["accepted_file"] == str(tmp_path / "accepted.jsonl")
    assert list(shown["rejected"].values()) == sorted(shown["rejected"].values(), reverse=True)
    run = shown["run"]
    assert run["rows"] == 10
    assert run["rows_per_second"] > 0 and run["tokens_per_second"] > run["rows_per_second"]
    assert 0 < run["slots_busy"] <= 1
    assert shown["left"]["grade"] == 10
    assert list(shown["left"].values()) == sorted(shown["left"].values(), reverse=True)
    assert set(shown["seconds"]) == {"ask", "screen", "answer", "grade"}
    assert abs(sum(shown["seconds"].values()) - run["seconds"]) < 0.05
    assert shown["accepted_rows_per_hour"] == pytest.approx(36000 / run["seconds"], rel=0.01)
    sampled = shown["instruction_tokens"] + shown["answer_tokens"] + sum(shown["lost_tokens"].values())
    assert run["tokens"]["sampled"] >= sampled  # plus stop tokens, and rows that were not needed
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["counts"]["accepted"] == 10
    assert manifest["seconds"] == shown["seconds"]
    digest = hashlib.sha256((tmp_path / "accepted.jsonl").read_bytes()).hexdigest()
    assert manifest["files"]["accepted.jsonl"] == digest
    assert shown["confirmed"] is None  # random letters are not about the microworld
    records = list(summary.records())
    assert shown["instruction_tokens"] == sum(record["instruction_tokens"] for record in records)
    assert shown["answer_tokens"] == sum(record["answer_tokens"] for record in records)
