"""What is known of rows by what they say: tags, what scores are made of, and which parts have been done."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_suite.curation.rows import Record
from mlx_suite.curation.tags.scores import Measurements, scores_of
from mlx_suite.curation.tags.settings import TagSettings


@dataclass(kw_only=True)
class Found:
    """What is known of a row."""

    tags: dict[str, str] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    figures: Measurements = field(default_factory=dict)
    """What scores are made of."""
    scores: dict[str, float] = field(default_factory=dict)
    """Of a row that an earlier run has finished."""
    untagged: str | None = None
    """Why there are no tags, one of `spoken.UNSPOKEN`."""
    parts: set[str] = field(default_factory=set)
    """What has been done."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is known of every row, by `key_of` it."""

    settings: TagSettings
    names: Sequence[str]
    """Of the questions that are asked."""
    found: dict[str, Found] = field(default_factory=dict)

    def recall(self, row: Record) -> None:
        """Take in a row that an earlier run has finished."""
        self.found[key_of(row)] = Found(
            tags=_chosen(row, "tags", self.names),
            confidence=_chosen(row, "confidence", self.names),
            scores=_chosen(row, "scores", self.settings.scores),
            untagged=row.get("untagged"),
            parts=set(self.settings.parts),
        )

    def take(self, line: Record) -> None:
        """Take in a line of the journal: `key`, `part`, and what was found."""
        found = self.found.setdefault(line["key"], Found())
        found.tags |= line.get("tags", {})
        found.confidence |= line.get("confidence", {})
        found.figures |= line.get("figures", {})
        found.untagged = line.get("untagged", found.untagged)
        found.parts.add(line["part"])

    def lacking(self, part: str, keys: Iterable[str]) -> list[str]:
        """The rows for which a part is still to be done."""
        return [key for key in keys if part not in self.of(key).parts]

    def complete(self, keys: Iterable[str]) -> int:
        """Rows of which everything is known."""
        return sum(set(self.settings.parts) <= self.of(key).parts for key in keys)

    def of(self, key: str) -> Found:
        return self.found.get(key) or Found()

    def row(self, row: Record) -> Record:
        """The row as it is written. What it had stays, unless the same tag or score has been found."""
        found = self.of(key_of(row))
        scores = found.scores or scores_of(found.figures, self.settings.scores)
        made: dict[str, dict[str, Any]] = {"tags": found.tags, "confidence": found.confidence, "scores": scores}
        rest = {key: value for key, value in row.items() if key != "untagged"}
        rest |= {key: {**(row.get(key) or {}), **values} for key, values in made.items() if values}
        return rest if found.untagged is None else {**rest, "untagged": found.untagged}


def key_of(row: Mapping[str, Any]) -> str:
    """Equal for rows that say the same."""
    said = [[each["role"], each["content"]] for each in row["messages"]]
    text = json.dumps([said, row.get("base_output")], default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _chosen(row: Record, field: str, names: Iterable[str]) -> dict[str, Any]:
    values = row.get(field) or {}
    return {name: values[name] for name in names if name in values}
