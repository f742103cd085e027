"""The file of tagged rows, what it was made with, and what is still on the way to it.

`tagged.jsonl` is whole or not there. Beside it `tagged.settings.json` says what the tags depend on, and
`tagged.unfinished.jsonl` holds what is known of single rows while a run is under way.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.journal import read_lines

KIND = "mlx-suite tags"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TagFile:
    """Where tagged rows go."""

    out: Path
    facts: Mapping[str, Any]
    """What the tags depend on; `names` is there for the record alone."""

    @property
    def settings(self) -> Path:
        return self.out.with_suffix(".settings.json")

    @property
    def unfinished(self) -> Path:
        return self.out.with_suffix(".unfinished.jsonl")

    def check(self) -> None:
        """Raises UserError where the file was begun with something else, or is not ours at all."""
        # A run that was killed before it had written its settings leaves an empty file.
        begun = self.out.exists() or (self.unfinished.exists() and self.unfinished.stat().st_size > 0)
        if changed := self._changes(begun):
            raise UserError(
                "The file was begun with something else",
                where=str(self.out),
                fix="name another file with --out, or go on with what it was begun with",
                details=changed,
            )

    def begin(self) -> None:
        """Write down what the file is made with."""
        text = json.dumps({"kind": KIND, **self.facts}, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.settings, text)

    def finished_rows(self, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
        """What `read` makes of each row that an earlier run has finished."""
        return read_lines(self.out, read) if self.out.exists() else iter(())

    def _changes(self, begun: bool) -> list[str]:
        try:
            stored = json.loads(self.settings.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return [f"it is there, and no {self.settings.name} that says how it was made"] if begun else []
        except (OSError, ValueError) as error:
            return [f"{self.settings.name} cannot be read: {error}"]
        if not isinstance(stored, dict) or stored.get("kind") != KIND:
            return [f"{self.settings.name} is about something else"]
        return [
            f"{name}: {json.dumps(stored.get(name), ensure_ascii=False)} in the file, "
            f"{json.dumps(value, ensure_ascii=False)} now"
            for name, value in self.facts.items()
            if begun and name != "names" and stored.get(name) != value
        ]
