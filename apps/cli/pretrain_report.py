"""Output of `pretrain`: labelled lines on the plan and the result, and the fields of `--json`."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from mlx_suite.runtime.footprint import parameter_count

from .options import field_docs

if TYPE_CHECKING:
    from mlx_suite.pretrain.run import FinishedRun, PreparedRun

WIDTH = 80
"""Columns of the list of keys."""
NESTED = ("data", "replay", "tokenizer")
"""Keys whose mappings are listed; `valid` has the keys of `data`."""
FEW_PASSES = 4
"""Passes over a corpus up to which repeated tokens are nearly as good as new ones (arXiv 2305.16264)."""


def size_lines(table: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """The table of `--sizes`."""
    yield f"{'size':>4}{'width':>7}{'heads':>7}{'parameters':>13}{'tokens':>9}{'batch':>9}{'learning rate':>15}"
    for row in table:
        yield (
            f"{row['size']:>4}{row['width']:>7}{row['heads']:>7}{short(row['parameters']):>13}{short(row['tokens']):>9}"
            f"{short(row['batch']):>9}{row['learning_rate']:>15.4f}"
        )
    yield "parameters: outside the embedding; tokens: the budget, 20 per parameter; batch: tokens per step"


def key_lines(settings: type, indent: str = "") -> Iterator[str]:
    """The keys of a configuration with their defaults and meanings; those of a nested mapping are indented."""
    hints = get_type_hints(settings)
    docs = field_docs(settings)
    for field in fields(settings):
        default = "" if field.default in (MISSING, None, "", ()) else f" (default {_as_yaml(field.default)})"
        yield from textwrap.wrap(
            f"{field.name}: {docs[field.name]}{default}",
            WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_on_hyphens=False,
        )
        nested = [kind for kind in _types(hints[field.name]) if is_dataclass(kind)]
        for kind in nested if field.name in NESTED else ():
            assert isinstance(kind, type)
            yield from key_lines(kind, f"{indent}    ")


def plan_lines(prepared: "PreparedRun", processes: int = 1) -> Iterator[tuple[str, str]]:
    """Lines on the corpus, the model, and everything that was decided, with its origin."""
    plan, settings, origin = prepared.plan, prepared.settings, prepared.origin
    weights = {part.name: part.weight for part in prepared.corpus.train}
    for part in prepared.corpus.train:
        share = f", {weights[part.name]:.0%} of the rows" if len(weights) > 1 else ""
        yield "corpus", f"{part.name}: {part.file.count:,} tokens in {part.file.documents:,} documents{share}"
    for part in prepared.corpus.valid:
        yield "held out", f"{part.name}: {part.file.count:,} tokens"
    config = prepared.source.config
    yield (
        "model",
        f"{config.model_type}, {config.num_hidden_layers} blocks, width {config.hidden_size}, "
        f"{config.num_attention_heads} heads, {config.num_key_value_heads} key-value heads, "
        f"MLP {config.intermediate_size}, vocabulary {config.vocab_size:,}",
    )
    yield (
        "parameters",
        f"{parameter_count(vars(config)):,}, of which {prepared.parameters:,} outside embedding and head",
    )
    yield "memory", prepared.memory.verdict
    batches = f" x {plan.accumulate}" if plan.accumulate > 1 else ""
    yield (
        "step",
        f"{prepared.step_tokens:,} tokens: {settings.batch} rows of {settings.length:,}{batches}"
        + _why(origin, "batch"),
    )
    yield "rate", f"{plan.learning_rate:g}, {plan.schedule}, {settings.optimizer}" + _why(origin, "learning_rate")
    budget = next((name for name in ("tokens", "steps", "epochs") if getattr(settings, name) is not None), "steps")
    yield (
        "steps",
        f"{plan.steps:,}: {short(plan.steps * prepared.step_tokens)} tokens, {prepared.epochs:.3g} epochs"
        + _why(origin, budget),
    )
    if prepared.epochs > FEW_PASSES:
        yield (
            "note",
            f"the corpus is read {prepared.epochs:.0f} times: beyond {FEW_PASSES} times repeated text teaches little "
            "(arXiv 2305.16264)",
        )
    if processes > 1:
        yield "processes", f"{processes}, data-parallel"


def result_lines(finished: "FinishedRun") -> Iterator[tuple[str, str]]:
    """Lines on the result, and what to do with it."""
    state, folder, plan = finished.state, finished.folder, finished.prepared.plan
    if finished.result.stopped:
        yield "stopped", f"after step {state.step:,} of {plan.steps:,}; the same command resumes"
        return
    best = min(finished.evaluations, key=lambda line: float(line["loss"]), default=None)
    if best is not None:
        first = finished.evaluations[0]
        yield (
            "validation",
            f"loss {first['loss']:.4f} before training, {best['loss']:.4f} at best (step {best['step']:,}), nats per "
            f"token; {best['bits_per_byte']:.4f} bits per byte",
        )
    for entry in finished.ledger:
        yield "read", f"{entry.name}: {entry.tokens:,} tokens, {entry.share:.1%}, {entry.passes:.3g} passes"
    chosen = folder / "best" if (folder / "best").exists() else folder / "last"
    also = f", best: {chosen}" if chosen.name == "best" else ""
    yield "model", f"{folder / 'last'}{also}"
    logs = ("metrics.jsonl", "samples.md", "loss.png", "config.yaml")
    yield "logs", ", ".join(str(folder / name) for name in logs if (folder / name).exists())
    if not finished.plotted:
        yield "no plot", "to get one, pip install 'mlx-suite[plots]'"
    yield "try it", f'mlx-suite generate {chosen} "…" --raw'


def plan_facts(prepared: "PreparedRun") -> dict[str, Any]:
    """Fields of `--estimate --json`."""
    config, plan, memory = prepared.source.config, prepared.plan, prepared.memory
    return {
        "parameters": parameter_count(vars(config)),
        "body_parameters": prepared.parameters,
        "corpus": {part.name: part.file.count for part in prepared.corpus.train},
        "held_out": {part.name: part.file.count for part in prepared.corpus.valid},
        "steps": plan.steps,
        "step_tokens": prepared.step_tokens,
        "epochs": prepared.epochs,
        "learning_rate": plan.learning_rate,
        "peak_bytes": memory.total,
        "limit_bytes": memory.limit,
        "fits": memory.fits,
        "origin": dict(prepared.origin),
    }


def facts_of(finished: "FinishedRun") -> dict[str, Any]:
    """Fields of `--json`."""
    state, evaluations = finished.state, finished.evaluations
    best = min(evaluations, key=lambda line: float(line["loss"]), default=None)
    return {
        "folder": str(finished.folder),
        "parameters": parameter_count(vars(finished.prepared.source.config)),
        "steps": state.step,
        "stopped": finished.result.stopped,
        "trained_tokens": state.tokens,
        "valid_loss_before": evaluations[0]["loss"] if evaluations else None,
        "best_valid_loss": best["loss"] if best else None,
        "best_bits_per_byte": best["bits_per_byte"] if best else None,
        "best_step": state.best_step,
        "read": {
            entry.name: {"tokens": entry.tokens, "share": entry.share, "passes": entry.passes}
            for entry in finished.ledger
        },
    }


def short(count: float) -> str:
    """A count with two or three digits: 1.2 M for 1,200,000."""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " K")):
        if count >= size:
            return f"{count / size:.{0 if count >= 9.5 * size else 1}f}{unit}"
    return f"{count:.0f}"


def _types(hint: Any) -> Iterator[Any]:
    """A type and its arguments, at every depth."""
    yield hint
    for each in get_args(hint):
        yield from _types(each)


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _why(origin: Mapping[str, str], name: str) -> str:
    return f" ({origin[name]})" if name in origin else ""
