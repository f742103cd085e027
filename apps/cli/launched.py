"""Commands that `mlx.launch` runs in several processes; only rank 0 prints."""

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
    """Join the processes that work on `folder`; a process that nobody launched is alone.

    An error is reported by the process that raised it, and Ctrl-C by rank 0.
    """
    from mlx_suite.magpie.shards import ElsewhereError, Shards
    from mlx_suite.training.process_group import join

    shards = Shards(join(), folder)
    try:
        yield shards
    except ElsewhereError:
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if shards.group.is_rank_zero:
            print(f"Stopped. What was made is in {folder}; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
