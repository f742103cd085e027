"""The file of tagged rows: its settings, a journal of unfinished work, and the results for each row.

`tagged.jsonl` is written atomically. Next to it, `tagged.settings.json` stores everything the tags depend on and,
during a run, `tagged.unfinished.jsonl` stores the results of single rows.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlx_suite.curation.rows import Record
from mlx_suite.curation.tags.scores import Measurements, scores_of
from mlx_suite.curation.tags.settings import TagSettings
from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.journal import read_lines
from mlx_suite.runtime.resume import differences, facts_text, refuse_other, stored_facts

KIND = "mlx-suite tags"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TagFile:
    """A file of tagged rows and the two files next to it."""

    out: Path
    facts: Mapping[str, Any]
    """Everything the tags depend on; `names` is for the record only."""

    @property
    def settings(self) -> Path:
        return self.out.with_suffix(".settings.json")

    @property
    def unfinished(self) -> Path:
        return self.out.with_suffix(".unfinished.jsonl")

    def check(self) -> None:
        """Raises UserError if the file was started with other settings or is not ours."""
        # A run killed before it wrote its settings leaves an empty journal.
        begun = self.out.exists() or (self.unfinished.exists() and self.unfinished.stat().st_size > 0)
        if begun or self.settings.exists():
            stored = stored_facts(self.settings, KIND)
            if begun:
                refuse_other(differences(stored, self.facts, ignored=["names"]), self.out, what="file")

    def begin(self) -> None:
        """Store the settings that the tags depend on."""
        write_atomically(self.settings, facts_text(KIND, self.facts))

    def finished_rows(self, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
        """Apply `read` to each row that an earlier run finished."""
        return read_lines(self.out, read) if self.out.exists() else iter(())


@dataclass(kw_only=True)
class RowResults:
    """Results for one row so far."""

    tags: dict[str, str] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    measured: Measurements = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    """Scores of a row that an earlier run finished."""
    untagged: str | None = None
    """Why there are no tags, one of `chat_model.NOT_ENCODED`."""
    parts: set[str] = field(default_factory=set)
    """Passes that are done."""


@dataclass(frozen=True, kw_only=True)
class TagResults:
    """Results for all rows so far, by `key_of`."""

    settings: TagSettings
    names: Sequence[str]
    """Names of the questions asked."""
    by_key: dict[str, RowResults] = field(default_factory=dict)

    def add_finished(self, row: Record) -> None:
        """Add a row that an earlier run finished."""
        self.by_key[key_of(row)] = RowResults(
            tags=_selected(row, "tags", self.names),
            confidence=_selected(row, "confidence", self.names),
            scores=_selected(row, "scores", self.settings.scores),
            untagged=row.get("untagged"),
            parts=set(self.settings.parts),
        )

    def add_line(self, line: Record) -> None:
        """Add a line of the journal: `key`, `part`, and the results of that part."""
        results = self.by_key.setdefault(line["key"], RowResults())
        results.tags |= line.get("tags", {})
        results.confidence |= line.get("confidence", {})
        results.measured |= line.get("figures", {})
        results.untagged = line.get("untagged", results.untagged)
        results.parts.add(line["part"])

    def lacking(self, part: str, keys: Iterable[str]) -> list[str]:
        """The rows for which a part is not done."""
        return [key for key in keys if part not in self.of(key).parts]

    def complete(self, keys: Iterable[str]) -> int:
        """Number of rows for which all parts are done."""
        return sum(set(self.settings.parts) <= self.of(key).parts for key in keys)

    def of(self, key: str) -> RowResults:
        return self.by_key.get(key) or RowResults()

    def row(self, row: Record) -> Record:
        """The row as written: its own fields, with tags and scores of the same names replaced."""
        results = self.of(key_of(row))
        scores = results.scores or scores_of(results.measured, self.settings.scores)
        added: dict[str, dict[str, Any]] = {"tags": results.tags, "confidence": results.confidence, "scores": scores}
        fields = {key: value for key, value in row.items() if key != "untagged"}
        fields |= {key: {**(row.get(key) or {}), **values} for key, values in added.items() if values}
        return fields if results.untagged is None else {**fields, "untagged": results.untagged}


def key_of(row: Mapping[str, Any]) -> str:
    """Hash of a row's messages and base output: equal rows share their results."""
    messages = [[each["role"], spoken_text(each)] for each in row["messages"]]
    text = json.dumps([messages, row.get("base_output")], default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _selected(row: Record, field: str, names: Iterable[str]) -> dict[str, Any]:
    values = row.get(field) or {}
    return {name: values[name] for name in names if name in values}
