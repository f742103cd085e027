"""What another window does to perplexity: measured on a trained model, then told by tables, charts and sentences."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from mlx_suite.checkpoints.load import build_model
from mlx_suite.evaluate.passages import Passage
from mlx_suite.evaluate.perplexity import Perplexity, measure
from mlx_suite.microworld.conversations import is_heldout, sample_example
from mlx_suite.microworld.world import make_world
from mlx_suite.modeling.decoder import Decoder
from mlx_suite.text import ChatTemplate, Message, Tokenizer, encode_chat

from .experiment import Findings, ResultChart, ResultTable, line_of, line_through
from .verdict import Result, Spread

NO_WINDOW = 1 << 20
"""A window that no text fills. Not None: a layer without a window would rotate by the global base in Gemma 3."""
Perplexities = dict[tuple[int | None, int], Spread]
"""By window (None: mlx-lm's implementation) and context."""
TRAINED = 32
"""Window that tiny-gemma2 was trained with."""


# ---- measured


def with_window(model: Decoder, window: int) -> Decoder:
    """The same weights with another window on all layers that have one."""
    config = model.config
    changed: Any = build_model(replace(config, windows=tuple(each and window for each in config.windows)))
    changed.update(model.parameters())
    changed.eval()
    decoder: Decoder = changed
    return decoder


def conversations(tokenizer: Tokenizer, template: ChatTemplate, length: int, seed: int) -> Passage:
    """At least `length` tokens of successive conversations of the microworld whose instructions were held out."""
    rng, world, ids = Random(f"window {seed}"), make_world(), list[int]()
    while len(ids) < length:
        example = sample_example(rng, world)
        if is_heldout(example.instruction):
            messages = [Message("user", example.instruction), Message("assistant", example.answer)]
            ids += [each for each in encode_chat(tokenizer, template, messages).ids if each != tokenizer.bos_id]
    return Passage(tokens=tuple(ids), scored=(True,) * len(ids))


def perplexity(model: Any, tokenizer: Tokenizer, passage: Passage, context: int) -> Perplexity:
    """The perplexity of a passage that is read `context` tokens at a time; half of them are context only."""
    return measure(model, tokenizer, [passage], context=context)


# ---- told


def window_name(window: int | None) -> str:
    return "mlx-lm" if window is None else "none" if window == NO_WINDOW else str(window)


# ---- tiny-gemma2


def tiny_findings(results: Sequence[Result]) -> Findings:
    """Perplexity of tiny-gemma2 by window and context, over texts."""
    values: dict[tuple[int | None, int], list[float]] = {}
    for result in results:
        for each in result["perplexity"]:
            values.setdefault((each["window"], each["context"]), []).append(each["value"])
    tiny = {key: Spread.of(each) for key, each in values.items()}
    return Findings(
        verdict=tuple(_tiny_sentences(tiny)), tables=(_tiny_table(tiny),), charts=(_by_window(tiny), _by_context(tiny))
    )


def _contexts(tiny: Perplexities) -> list[int]:
    return sorted({context for _, context in tiny})


def _windows(tiny: Perplexities) -> list[int]:
    return sorted({window for window, _ in tiny if window is not None})


def _tiny_table(tiny: Perplexities) -> ResultTable:
    return ResultTable(
        title="Perplexity of tiny-gemma2 by window and context",
        columns=("window", *(f"context {context}" for context in _contexts(tiny))),
        rows=tuple(
            (
                window_name(window) + (" (trained)" if window == TRAINED else ""),
                *(tiny[window, context].shown() if (window, context) in tiny else "–" for context in _contexts(tiny)),
            )
            for window in (*_windows(tiny), None)
        ),
        note="Mean ± standard deviation over texts.",
    )


def _by_window(tiny: Perplexities) -> ResultChart:
    windows = [window for window in _windows(tiny) if window != NO_WINDOW]
    return ResultChart(
        name="tiny-window",
        title="tiny-gemma2: perplexity by window",
        lines=tuple(
            line_through(
                f"context {context}",
                hue,
                # A window as long as the context hides nothing: there stands the figure without a window.
                [
                    *((float(window), tiny[window, context]) for window in windows if window < context),
                    (float(context), tiny[NO_WINDOW, context]),
                ],
            )
            for hue, context in enumerate(_contexts(tiny))
        ),
        x_label="window, tokens",
        y_label="perplexity",
        log_x=True,
        from_zero=False,
        note=f"At the last point of each line the window hides nothing. Trained with {TRAINED}.",
    )


def _by_context(tiny: Perplexities) -> ResultChart:
    lines = {"ours, trained window": TRAINED, "ours, no window": NO_WINDOW, "mlx-lm": None}
    return ResultChart(
        name="tiny-context",
        title="tiny-gemma2: perplexity by context",
        lines=tuple(
            line_through(
                name,
                hue,
                [(float(context), tiny[window, context]) for context in _contexts(tiny) if (window, context) in tiny],
                dashed=window is None,
            )
            for hue, (name, window) in enumerate(lines.items())
            if (window, _contexts(tiny)[-1]) in tiny
        ),
        x_label="context, tokens",
        y_label="perplexity",
        log_x=True,
        from_zero=False,
    )


def _tiny_sentences(tiny: Perplexities) -> Iterator[str]:
    longest = _contexts(tiny)[-1]
    ours, none, theirs = (tiny.get((window, longest)) for window in (TRAINED, NO_WINDOW, None))
    assert ours is not None and none is not None
    if theirs is not None:
        equal = abs(theirs.mean - none.mean) < 1e-3 * none.mean
        yield (
            f"At a context of {longest} tokens tiny-gemma2 has a perplexity of {ours.shown()} with the window it was "
            f"trained with, {none.shown()} without, and {theirs.shown()} in mlx-lm, which has no window: "
            f"{'the same model as ours without one' if equal else 'not that of ours without one'}."
        )
    parts = []
    for window in _windows(tiny):
        found = tiny[window, longest]
        if window != TRAINED:
            change = f"{window_name(window)} {100 * (found.mean / ours.mean - 1):+.1f} %"
            parts.append(f"{change} (clear)" if found.clearly_differs(ours) else change)
    yield f"Perplexity of tiny-gemma2 at that context with other windows at inference: {', '.join(parts)}."


# ---- a checkpoint of the user's


def model_findings(own: Sequence[Result], theirs: Result | None) -> Findings:
    """Perplexity of a checkpoint by window, and in mlx-lm's implementation."""
    settings = own[0]["settings"]
    text = settings["text"] or "conversations of the microworld"
    values = {each["settings"]["window"]: each["value"] for each in own}
    rows = [
        (window_name(window) + (" (trained)" if window == settings["trained"] else ""), f"{value:.3f}")
        for window, value in sorted(values.items())
    ]
    if theirs is not None:
        rows.append(("mlx-lm", f"{theirs['value']:.3f}"))
    points = dict(sorted((float(min(window, settings["context"])), value) for window, value in values.items()))
    lines = [line_of(settings["model"], 0, [list(points.items())])]
    if theirs is not None:
        lines.append(line_of("mlx-lm", 1, [[(x, theirs["value"]) for x in points]], dashed=True))
    return Findings(
        verdict=tuple(_model_sentences(values, settings["model"], settings["trained"], theirs)),
        tables=(
            ResultTable(
                title=f"Perplexity of {settings['model']} by window",
                columns=("window", "perplexity"),
                rows=tuple(rows),
                note=f"{own[0]['tokens']:,} tokens of {text}, read {settings['context']:,} at a time; half of them are "
                "context only.",
            ),
        ),
        charts=(
            ResultChart(
                name="model-window",
                title=f"{settings['model']}: perplexity by window",
                lines=tuple(lines),
                x_label="window, tokens",
                y_label="perplexity",
                log_x=True,
                from_zero=False,
                note="At the last point the window hides nothing.",
            ),
        ),
    )


def _model_sentences(values: dict[int, float], model: str, trained: int, theirs: Result | None) -> Iterator[str]:
    usual = values[trained]
    parts = [
        f"{window_name(window)} {100 * (value / usual - 1):+.1f} %"
        for window, value in sorted(values.items())
        if window != trained
    ]
    beside = "" if theirs is None else f" ({theirs['value']:.3f} in mlx-lm)"
    yield (
        f"{model} has a perplexity of {usual:.3f} with its window of {trained:,}{beside}; with other windows at "
        f"inference: {', '.join(parts)}."
    )
