"""`mlx-suite bench`: our code compared with other libraries, both measured in one run."""

import json as json_format
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .bench_attention import attention
from .bench_corpus import corpus
from .bench_duplicates import duplicates
from .bench_finetune import finetune
from .bench_magpie import magpie
from .bench_merge import merge
from .bench_models import RANDOM, checkpoint_folder, load_ours, load_theirs
from .bench_pretrain import pretrain
from .bench_serve import serve
from .bench_speculate import speculate
from .bench_start import start
from .bench_workers import workers
from .flags import AsJson, positive_numbers
from .help import HelpCommand, add, new_app

if TYPE_CHECKING:
    from ..bench.step_profile import StepProfile
    from ..bench.throughput import Comparison

bench_app = new_app("bench", "Compare our speed and memory with other libraries', both measured in one run.")

add(bench_app, pretrain)
add(bench_app, finetune)
add(bench_app, duplicates)
add(bench_app, corpus)
add(bench_app, magpie)
add(bench_app, workers)
add(bench_app, serve)
add(bench_app, merge)
add(bench_app, speculate)
add(bench_app, start)
add(bench_app, attention)

DEFAULT = ["tiny-llama3", "tiny-gemma2", *RANDOM]


@bench_app.command(cls=HelpCommand)
def generate(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help=f"Names, folders, or random weights: {', '.join(RANDOM)}."),
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,8,32",
    prompt: Annotated[int, typer.Option(min=2, help="Prompt length in tokens.")] = 64,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens generated per row.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; medians are printed.")] = 3,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time of a decode step goes.")] = False,
    json: AsJson = False,
) -> None:
    """Compare generation with mlx-lm: tokens per second, time to first token, peak memory.

    All run the same weights greedily on the same random prompts, in turn; transformers on torch runs too if it is
    installed. For Gemma 2, the size of one row's KV cache at twice the sliding window is compared too.

    Example: mlx-suite bench generate tiny-llama3 --batch 1,8
    """
    from ..bench.step_profile import profile_step
    from ..bench.throughput import Workload, compare
    from ..bench.torch_generation import TorchGeneration, torch_is_installed

    sizes = positive_numbers("--batch", batch, "1,8,32")
    report: list[dict[str, Any]] = []
    console = Console()
    for name in models or DEFAULT:
        with checkpoint_folder(name) as folder, ExitStack() as stack:
            torch = stack.enter_context(TorchGeneration(folder)).time_once if torch_is_installed() else None
            ours, theirs = load_ours(folder), load_theirs(folder)
            vocabulary = ours.config.vocab_size
            comparisons, notes = [], []
            for size in sizes:
                rival = theirs
                if size > 1 and not _batches(theirs, vocabulary):
                    rival = ours
                    notes = ["mlx-lm cannot batch its own model of this family; its batching runs our model"]
                workload = Workload(batch=size, prompt_tokens=prompt, tokens=tokens, repeats=repeats)
                comparisons.append(compare(ours, rival, vocabulary, workload, torch))
            cache = _cache_sizes(ours, theirs, vocabulary)
            profiles = [profile_step(ours, size) for size in sizes] if profile else []
            if json:
                report.append(_as_dict(name, comparisons, cache, notes))
                report[-1] |= {"profiles": [asdict(each) for each in profiles]} if profile else {}
            else:
                _show(console, name, comparisons, cache, notes)
                _show_profiles(console, profiles)
    if json:
        typer.echo(json_format.dumps(report, indent=2))


@bench_app.command(cls=HelpCommand)
def exponentials(json: AsJson = False) -> None:
    """Compare our tanh, sigmoid, softmax and logsumexp with MLX's, in nanoseconds per element.

    On a CPU ours are polynomials that the compiler vectorises; on a GPU they are MLX's own functions.
    """
    from ..bench.exponentials import time_exponentials

    results = time_exponentials()
    if json:
        typer.echo(json_format.dumps([asdict(each) | {"ratio": round(each.ratio, 2)} for each in results], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("function", "mlx-suite ns", "MLX ns", "ratio"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    for each in results:
        table.add_row(each.name, f"{each.ours:.1f}", f"{each.builtin:.1f}", f"{each.ratio:.1f}x")
    Console().print(table)


@bench_app.command(cls=HelpCommand)
def head(
    rows: Annotated[int, typer.Option(min=1, help="Trained tokens per batch.")] = 1024,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden size.")] = 256,
    json: AsJson = False,
) -> None:
    """Compare our chunked losses with plain ones that hold all logits: memory, time, error.

    Cross-entropy, and the distillation loss, whose plain form holds the logits of both models. At vocabularies of 128k
    and 256k, with the LM head frozen (LoRA) and trained (full finetuning). Errors are distances from float64. The plain
    distillation loss takes about 8 GB for 1024 rows.

    Example: mlx-suite bench head --rows 512 --json
    """
    from ..bench.head_memory import GEMMA2, LLAMA3, measure_head

    results = []
    for shape, teacher, trained in product((LLAMA3, GEMMA2), (False, True), (False, True)):
        results.append(measure_head(replace(shape, rows=rows, hidden=hidden, trained=trained, teacher=teacher)))
    if json:
        typer.echo(json_format.dumps([asdict(each) | {"ratio": round(each.ratio, 4)} for each in results], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("vocabulary", "head", "loss", "MB", "ms", "memory", "loss err", "grad err"):
        table.add_column(heading, justify="left" if heading in ("head", "loss") else "right", no_wrap=True)
    for each in results:
        kinds = [("trained" if each.shape.trained else "frozen") + (", capped" if each.shape.cap else "")]
        kinds += ["distilled" if each.shape.teacher else ""]
        sides = (("mlx-suite", each.ours, f"{each.ratio:.1%}"), ("plain", each.plain, ""))
        for kind, (side, cost, share) in zip(kinds, sides, strict=True):
            table.add_row(
                *(f"{each.shape.vocabulary:,}" if share else "", kind, side),
                *(f"{cost.peak_bytes / 1e6:,.0f}", f"{cost.milliseconds:,.0f}", share),
                *(f"{cost.loss_error:.0e}", f"{cost.gradient_error:.0e}"),
            )
    Console().print(table)


def _batches(model: Any, vocabulary: int) -> bool:
    """Whether mlx-lm's batch generator can run mlx-lm's model of this family."""
    from ..bench.throughput import their_side

    # Its Gemma 2 broadcasts the rows of the mask over the key heads: no error if there are as many rows as heads.
    rows = 1 + getattr(model.args, "num_key_value_heads", 1)
    prompts = [[row % vocabulary] * 4 for row in range(rows)]
    try:
        their_side(model)(prompts, 2, lambda row: None)
    except ValueError:
        return False
    return True


def _cache_sizes(ours: Any, theirs: Any, vocabulary: int) -> tuple[int, int, int] | None:
    """(tokens, our bytes, their bytes) of one row's KV cache at twice the sliding window; None without a window."""
    from ..bench.throughput import cache_bytes

    windows = [window for window in ours.config.windows if window is not None]
    if not windows:
        return None
    length = 2 * min(windows)
    return length, cache_bytes(ours, length, vocabulary), cache_bytes(theirs, length, vocabulary)


def _as_dict(
    name: str, comparisons: "list[Comparison]", cache: tuple[int, int, int] | None, notes: list[str]
) -> dict[str, Any]:
    return {
        "model": name,
        "runs": [_run_as_dict(each) for each in comparisons],
        "cache": None
        if cache is None
        else dict(zip(("tokens", "our_bytes", "their_bytes"), cache, strict=True)) | {"ratio": cache[1] / cache[2]},
        "notes": notes,
    }


def _run_as_dict(run: "Comparison") -> dict[str, Any]:
    found = asdict(run) | {"ratio": round(run.ratio, 3)}
    if run.torch_ratio is None:
        del found["torch"]
        return found
    return found | {"torch_ratio": round(run.torch_ratio, 3)}


def _show(
    console: Console,
    name: str,
    comparisons: "list[Comparison]",
    cache: tuple[int, int, int] | None,
    notes: list[str],
) -> None:
    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for heading in ("batch", "library", "tok/s", "1st s", "MB", "ratio"):
        table.add_column(heading, justify="left" if heading == "library" else "right")
    for each in comparisons:
        sides = [("mlx-suite", each.ours, None), ("mlx-lm", each.theirs, each.ratio)]
        sides += [("torch", each.torch, each.torch_ratio)] if each.torch else []
        for side, speed, ratio in sides:
            table.add_row(
                str(each.workload.batch) if ratio is None else "",
                side,
                f"{speed.tokens_per_second:,.0f}",
                f"{speed.first_token:.3f}",
                f"{speed.peak_bytes / 1e6:,.0f}",
                "" if ratio is None else f"{ratio:.2f}x",
            )
    console.print(table)
    if cache is not None:
        tokens, our_bytes, their_bytes = cache
        console.print(
            f"KV cache of one row at {tokens} tokens: {our_bytes:,} bytes, mlx-lm {their_bytes:,} "
            f"({our_bytes / their_bytes:.0%})"
        )
    for note in notes:
        console.print(f"note: {note}")
    console.print()


def _show_profiles(console: Console, profiles: "list[StepProfile]") -> None:
    from ..bench.step_profile import STEP_PARTS

    if not profiles:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("rows")
    for each in profiles:
        table.add_column(str(each.rows), justify="right")
    for part in ("step", *STEP_PARTS, "rest", "host", "python"):
        table.add_row(part, *(f"{getattr(each, part):.2f}" for each in profiles))
    console.print("Milliseconds of a decode step")
    console.print(table)
    console.print("host: processor time of the launching thread, Python and MLX's dispatch; it overlaps with the rest.")
    console.print()
