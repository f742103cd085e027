"""What a model is, in labelled lines, for `models info` and `models check`."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_suite.checkpoints.description import ModelDescription
from mlx_suite.hub.check import ModelCheck
from mlx_suite.runtime.memory import human_bytes


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print (label, text) lines as two columns."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts:
        table.add_row(label, Text(value))
    Console().print(table)


def check_facts(check: ModelCheck) -> list[tuple[str, str]]:
    """(label, text) lines of `check`: the model's own, then the judgement."""
    in_gguf = check.description.quantization if check.format == "GGUF" else None
    facts = [("format", f"{check.format}, {check.source}"), *model_facts(check.description, in_gguf)]
    facts.append(("licence", check.license or "not stated"))
    if check.base_model:
        facts.append(("base model", check.base_model))
    if check.download_bytes:
        facts.append(("download", human_bytes(check.download_bytes)))
    facts += _several("runs", [f"no: {problem}" for problem in check.problems] or [f"yes, in {check.runs_in}"])
    facts += _several("note", check.notes)
    if check.weight_bytes is not None:
        cache = f" and {human_bytes(check.cache_bytes)} KV cache" if check.cache_bytes else ""
        verdict = "fits" if check.fits else "does not fit"
        facts.append(("memory", f"{human_bytes(check.weight_bytes)} weights ({check.precision}){cache}"))
        facts.append(("", f"for {check.context:,} tokens: {verdict} into {human_bytes(check.memory_bytes)}"))
    if check.tokens_per_second is not None and check.fits and not check.problems:
        speed = f"{check.tokens_per_second:.{0 if check.tokens_per_second >= 9.5 else 1}f}"
        facts.append(("speed", f"≤ {speed} tokens/s at {check.bandwidth:,.0f} GB/s"))
    return facts


def _several(label: str, lines: Iterable[str]) -> list[tuple[str, str]]:
    """One label and several lines."""
    return [(label if not number else "", line) for number, line in enumerate(lines)]


def model_facts(model: ModelDescription, weights: str | None = None) -> list[tuple[str, str]]:
    """(label, text) lines that describe a model, without those that its files do not state."""
    facts = [("model type", model.model_type), ("architecture", model.architecture)]
    if model.parameters is not None:
        facts.append(("parameters", f"{_count(model.parameters)} ({model.parameters:,})"))
    facts.append(("weights", weights or _weights(model)))
    facts.append(("size on disk", human_bytes(model.size_bytes)))
    facts.append(("layers", _number(model.layers)))
    if model.heads is not None:
        facts.append(("heads", f"{model.heads} ({model.kv_heads} for keys and values)"))
    facts.append(("head dim", _number(model.head_dim)))
    facts.append(("hidden size", _number(model.hidden_size)))
    facts.append(("vocabulary", _number(model.vocab_size)))
    facts.append(("context", f"{model.context:,} tokens" if model.context else None))
    facts.append(("window", _window(model)))
    facts.append(("KV cache", _kv_cache(model)))
    facts.append(("chat template", "yes" if model.chat_template else "no"))
    named = (f"{t.text} ({t.id})" if t.text else str(t.id) for t in model.stop_tokens)
    stops = ", ".join(named)
    facts.append(("stop tokens", stops or "none stated"))
    return [(label, value) for label, value in facts if value]


def _weights(model: ModelDescription) -> str:
    return f"{model.quantization}, {model.dtype}" if model.quantization else model.dtype


def _window(model: ModelDescription) -> str | None:
    if model.window is None:
        return None
    layers = f" in {model.window_layers} of {model.layers} layers" if model.window_layers else ""
    return f"{model.window:,} tokens{layers}"


def _kv_cache(model: ModelDescription) -> str | None:
    if model.kv_bytes_per_token is None:
        return None
    text = f"{human_bytes(model.kv_bytes_per_token)} per token"
    past = model.kv_bytes_per_token_past_window
    if model.window is None or past is None or past == model.kv_bytes_per_token:
        return text
    return f"{text}, {human_bytes(past)} past the window" if past else f"{text}, none past the window"


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _count(number: float) -> str:
    """Format with three digits and a unit, such as 8.03 B."""
    for scale, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f}"
