"""Rows of the story as they came: the first ten of each kind, good and bad."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

COUNT = 10
LONGEST = 400
"""Characters of a text that are shown."""


def samples(folder: Path) -> list[str]:
    """Markdown lines: answers of the test part, Magpie rows, and pairs with the text they were written from."""
    lines = ["## Ten answers of the finetuned model", ""]
    for row in _rows(folder / "answers-tuned.jsonl"):
        lines += _quoted(
            question=row["messages"][-1]["content"], reference=row["reference"] or "", answer=row["answer"]
        )
    lines += ["## Ten rows of Magpie", ""]
    for row in _rows(folder / "magpie" / "accepted.jsonl"):
        question, answer = (message["content"] for message in row["messages"][-2:])
        lines += _quoted(question=question, answer=answer)
    lines += ["## Ten pairs of the synthesizer", ""]
    for question, answer in islice(_pairs(folder / "pairs" / "texts.jsonl"), COUNT):
        lines += _quoted(question=question, answer=answer)
    return lines


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:COUNT]]


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        for written in json.loads(line).get("written", ()):
            for pair in written.get("pairs", ()):
                yield pair["question"], pair["answer"]


def _quoted(**parts: str) -> list[str]:
    lines = []
    for name, text in parts.items():
        shown = text if len(text) <= LONGEST else text[:LONGEST] + " …"
        lines.append(f"> **{name}** {shown.replace(chr(10), ' ⏎ ')}  ")
    return [*lines, ""]
