"""A command that runs in several processes, as `mlx.launch` starts it, and speaks with one voice."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mlx_suite.magpie.shards import Shards


@contextmanager
def launched(folder: Path) -> Iterator["Shards"]:
    """This process among those that work on `folder`; it is the only one when nobody has launched others.

    What another process tells is not told here, and one message says that all were stopped.
    """
    from mlx_suite.magpie.shards import ElsewhereError, Shards
    from mlx_suite.training.peers import join

    shards = Shards(join(), folder)
    try:
        yield shards
    except ElsewhereError:
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if shards.peers.first:
            print(f"Stopped. What was made is in {folder}; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
