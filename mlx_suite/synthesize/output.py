"""Files of an augmented corpus, each replaced when it is complete."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import json_line
from mlx_suite.runtime.files import disk_errors, sync_folder, write_atomically

CORPUS_FILE, TEXTS_FILE, SUMMARY_FILE, README_FILE = "corpus.jsonl", "texts.jsonl", "summary.json", "README.md"
README = """\
# An augmented corpus

Written by `mlx-suite synthesize run`.

| file | content |
|--|--|
| corpus.jsonl | documents to pretrain on: `{{"text": …, "form": …, "sources": […]}}` |
| texts.jsonl | the texts, and what was written from each: pairs, rewrites, and how many were dropped for which reason |
| summary.json | tokens, seconds, costs and quality |
| completions.jsonl | what the model wrote, from which the same command resumes |
| settings.json | everything that the texts depend on |

{documents:,} documents from {texts:,} texts. Pretrain on corpus.jsonl.
"""


@contextmanager
def replaced_file(path: Path, kept: Callable[[], str]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that appends a JSON line to a file which replaces `path` when the block ends without an error.

    Args:
        kept: Says what is safe if the disk is full: "120 completions are kept".
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with disk_errors(path), partial.open("wb") as file:

            def write(record: Mapping[str, Any]) -> None:
                with disk_errors(path, kept=kept()):
                    file.write(json_line(record))

            yield write
            with disk_errors(path, kept=kept()):
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` and the README. Raises UserError if the disk is full."""
    write_atomically(folder / SUMMARY_FILE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    documents = sum(each["documents"] for each in summary["corpus"]["forms"].values())
    write_atomically(folder / README_FILE, README.format(documents=documents, texts=summary["texts"]))
