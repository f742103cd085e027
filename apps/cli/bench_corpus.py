"""`mlx-suite bench corpus`: tokenizing a corpus that is larger than memory."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mlx_suite.runtime.errors import UserError

from .bench_models import checkpoint_folder
from .flags import AsJson


def corpus(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Name or folder of the tokenizer.")] = "tiny-llama3",
    size: Annotated[str, typer.Option(help="Size of the generated corpus, such as 200MB or 5GB.")] = "200MB",
    folder: Annotated[
        Path | None, typer.Option(help="Where the corpus is written; by default among temporary files.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare tokenizing a corpus with a plain loop over Tokenizer.encode: MB/s, tokens/s, peak memory.

    The corpus is generated (after 50 MB it repeats) and deleted afterwards; it takes twice its size on disk. The loop
    is timed on the first 30 MB. Then 2,000 shuffled batches of 8 x 512 tokens are read, after the checksums have been
    verified.

    Example: mlx-suite bench corpus tiny-gemma2 --size 1GB
    """
    from rich.console import Console
    from rich.table import Table

    from mlx_suite.runtime.memory import human_bytes, parse_size

    from ..bench.corpus import measure_corpus

    number = parse_size(size)
    if not number:
        raise UserError(what=f"--size is {size!r}, not a size", fix="for example, --size 200MB")
    with TemporaryDirectory(dir=folder) as work, checkpoint_folder(model) as checkpoint:
        costs = measure_corpus(checkpoint, Path(work), number)
    ratio = costs[0].megabytes_per_second / costs[1].megabytes_per_second
    if json:
        report = {
            "model": model,
            "corpus_bytes": number,
            "sides": [asdict(each) for each in costs],
            "ratio": round(ratio, 2),
        }
        typer.echo(json_format.dumps(report, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("side", "text", "s", "CPU s", "MB/s", "tokens/s", "peak", "ratio"):
        table.add_column(heading, justify="left" if heading == "side" else "right", no_wrap=True)
    for each in costs:
        table.add_row(
            *(each.name, human_bytes(each.text_bytes), f"{each.seconds:,.1f}", f"{each.cpu_seconds:,.1f}"),
            *(f"{each.megabytes_per_second:,.2f}", f"{each.tokens_per_second:,.0f}", human_bytes(each.resident_bytes)),
            f"{ratio:.2f}x" if each is costs[0] else "",
        )
    Console().print(table)
