"""Arguments of commands, as they are completed."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

Completer = Callable[[str], Iterator[str]]
"""Possible arguments that begin with a text."""


def one_of(*names: str) -> Completer:
    """Complete a name."""
    return lambda text: (name for name in names if name.startswith(text))


def models(text: str) -> Iterator[str]:
    """Complete the name of a model on this machine."""
    return one_of(*_models())(text)


@cache
def _models() -> Sequence[str]:
    from mlx_suite.hub.local_models import cached_models, shipped_models

    return [each.name for each in shipped_models()] + sorted({each.repo for each in cached_models() if each.complete})


def paths(suffix: str | None = None) -> Completer:
    """Complete the path of a folder, or of a file with `suffix`."""

    def complete(text: str) -> Iterator[str]:
        start, last = os.path.split(text)
        folder = Path(start or ".").expanduser()
        try:
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
        except OSError:
            return
        for each in entries:
            if not each.name.startswith(last) or (each.name.startswith(".") and not last):
                continue
            if each.is_dir():
                yield os.path.join(start, each.name) + "/"
            elif suffix and each.name.endswith(suffix):
                yield os.path.join(start, each.name)

    return complete
