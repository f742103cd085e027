"""`mlx-suite bench serve`: our server compared with mlx-lm's, and with rapid-mlx and vllm-mlx if they are installed."""

import json as json_format
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mlx_suite.runtime.container import usable_cores
from mlx_suite.runtime.errors import UserError

from .flags import AsJson, Quiet, positive_numbers

if TYPE_CHECKING:
    from ..bench.serving import Load, Measured
    from ..bench.serving_peers import Peer

DEFAULT = ["random-llama-40m", "random-gemma2-40m"]
NAMES = ", ".join([*DEFAULT, "random-llama-7m", "random-gemma2-7m"])
SERVERS = "mlx-suite,mlx-lm,rapid-mlx,vllm-mlx"


def serve(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help=f"Names, folders, or random weights: {NAMES}.")
    ] = None,
    rapid_mlx: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="Python of an environment with rapid-mlx.")
    ] = None,
    vllm_mlx: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="Python of an environment with vllm-mlx.")
    ] = None,
    servers: Annotated[str, typer.Option(help="Servers to run, separated by commas.")] = SERVERS,
    clients: Annotated[str, typer.Option(help="Numbers of concurrent clients, separated by commas.")] = "1,4,8,16",
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of a completion.")] = 96,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are printed.")] = 5,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Compare chat servers over HTTP: time to first token, pauses, tokens per second, failures, wrong text.

    The servers load the same weights and answer the same greedy requests, one server at a time, with the same BLAS.
    First tokens are those of turn 1 and turn 5 of a chat. The longest pause is that of a stream while another client
    sends a prompt of 2,000 tokens. Texts of concurrent clients are compared with the same server's own alone.
    rapid-mlx and vllm-mlx run if an option names their Python.

    Example: mlx-suite bench serve random-llama-7m --rounds 1
    """
    from ..bench.serving import Load, compare
    from ..bench.serving_checkpoint import context_of, serving_folder, words_of
    from ..bench.serving_peers import ended_by_sigterm

    peers = _peers(servers, rapid_mlx, vllm_mlx)
    load = Load(clients=positive_numbers("--clients", clients, "1,8,16"), tokens=tokens, rounds=rounds)
    report = []
    for name in models or DEFAULT:
        with serving_folder(name) as folder:
            fitted = load.within(context_of(folder))
            words = sorted(words_of(folder).values())

            def on_step(step: str, name: str = name) -> None:
                if not quiet:
                    print(f"{name}, {step}", file=sys.stderr)

            busy = os.getloadavg()[0]
            with ended_by_sigterm():
                results = compare(peers, folder, words, fitted, on_step)
        if json:
            report.append(_as_dict(name, results, fitted, busy))
        else:
            _show(Console(), name, results, fitted, busy)
    if json:
        typer.echo(json_format.dumps(report, indent=2))


def _peers(servers: str, rapid_python: str | None, vllm_python: str | None) -> "list[Peer]":
    """The servers to run, ours first."""
    from ..bench.serving_peers import mlx_lm, ours, rapid_mlx, vllm_mlx

    known = {"mlx-suite": ours(), "mlx-lm": mlx_lm()}
    if rapid_python:
        known["rapid-mlx"] = rapid_mlx(rapid_python)
    if vllm_python:
        known["vllm-mlx"] = vllm_mlx(vllm_python)
    wanted = [name.strip() for name in servers.split(",")]
    unknown = [name for name in wanted if name not in SERVERS.split(",")]
    chosen = [peer for name, peer in known.items() if name in wanted]
    if unknown or not chosen:
        raise UserError(
            f"--servers is {servers!r}",
            where="--servers",
            fix=f"name some of {SERVERS}; the last two need --rapid-mlx PYTHON, --vllm-mlx PYTHON",
        )
    return chosen


def _as_dict(name: str, results: "list[Measured]", load: "Load", busy: float) -> dict[str, Any]:
    from ..bench.serving_report import notes, rows

    return {
        "model": name,
        "load": asdict(load),
        "load_average_before": busy,
        "servers": [each.name for each in results],
        "medians": [
            asdict(row.measure) | {"values": row.values, "ratio": row.ratio, "reached": row.reached}
            for row in rows(results, load)
        ],
        "notes": notes(results, load, busy, usable_cores()),
        "measured": [asdict(each) for each in results],
    }


def _show(console: Console, name: str, results: "list[Measured]", load: "Load", busy: float) -> None:
    from ..bench.serving_report import notes, rows

    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    table.add_column("median", no_wrap=True)
    for each in results:
        table.add_column(each.name, justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("aim", justify="right", no_wrap=True)
    for row in rows(results, load):
        aim = row.measure.aim
        table.add_row(
            row.measure.title,
            *(_cell(value, row.measure.rate) for value in row.values),
            "" if row.ratio is None else f"{row.ratio:.2f}x",
            "" if aim is None else f"{'≥' if row.measure.rate else '≤'} {aim:.1f}x",
        )
    for clients in load.clients:
        if any(clients in each.differing for each in results):
            cells = [f"{each.differing[clients]}" if clients in each.differing else "-" for each in results]
            table.add_row(f"wrong text, of {clients}", *cells)
    table.add_row("peak MB", *(f"{each.peak_bytes / 1e6:,.0f}" if each.peak_bytes else "-" for each in results))
    table.add_row("BLAS", *(each.blas or "-" for each in results))
    console.print(table)
    for note in notes(results, load, busy, usable_cores()):
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print()


def _cell(value: float | None, rate: bool) -> str:
    if value is None:
        return "failed"
    return f"{value:,.0f}" if rate else f"{value * 1000:,.0f} ms"
