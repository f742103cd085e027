"""Small rows and run folders."""

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from tests.magpie import rows
from tests.magpie.rows import Row, conversation

VOID = frozenset("br circle img input link meta path".split())
"""Elements without an end tag."""


def rejected(instruction: str, reason: str, stage: str, **fields: Any) -> Row:
    """A rejected row without a response."""
    return {**conversation(instruction), "rejection": reason, "stage": stage, **fields}


def write_run(
    folder: Path,
    accepted: Sequence[Row],
    lost: Sequence[Row] = (),
    manifest: Mapping[str, Any] | None = None,
    vectors: Any = None,
) -> Path:
    """Write the folder of a run."""
    rows.write_run(folder, accepted, lost, **(manifest or {"kind": "mlx-suite magpie"}))
    if vectors is not None:
        np.save(folder / "embeddings.npy", np.asarray(vectors, np.float16))
    return folder


class Page(HTMLParser):
    """A parsed page; mismatched end tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, (tag, self.open, self.getpos())
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
