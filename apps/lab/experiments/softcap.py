"""Gemma 2's soft-caps on attention scores and final logits, at a learning rate that suits and at one that hurts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import mlx.core as mx

from mlx_suite.modeling.decoder import Decoder
from mlx_suite.pretrain.run import PreparedRun
from mlx_suite.training.loop import DivergedError, read_log

from ..experiment import (
    Case,
    Experiment,
    Findings,
    LabOptions,
    ResultChart,
    ResultTable,
    Workplace,
    arms_of,
    compared,
    line_of,
    over_seeds,
    spread,
)
from ..logit_probe import LogitProbe
from ..small_pretraining import SmallTraining, train_small
from ..verdict import Result, Spread

ATTENTION_CAP, FINAL_CAP = 50.0, 30.0
"""Gemma 2's (arXiv 2408.00118, section 2)."""
CAPS: Mapping[str, tuple[float | None, float | None]] = {
    "both": (ATTENTION_CAP, FINAL_CAP),
    "none": (None, None),
    "attention": (ATTENTION_CAP, None),
    "final": (None, FINAL_CAP),
}
"""Caps of attention scores and final logits."""
RATES = {"usual": 4e-3, "high": 3e-2}
"""Peak learning rates of AdamW."""
GEMMA2: Mapping[str, Any] = {
    "model_type": "gemma2",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
PROBES = 50
"""Measurements of the logits during training."""
PROBED_ROWS = 4
SHOWN = {"loss": "Training loss", "attention": "Largest attention score", "final": "Largest final logit"}


def cases(options: LabOptions) -> list[Case]:
    arms = {}
    for rate in ("high", "usual"):
        # At the usual rate the caps are hardly reached: one cap at a time would show nothing.
        for caps in ("both", "none") if options.quick or rate == "usual" else CAPS:
            attention, final = CAPS[caps]
            config = {**GEMMA2, "attn_logit_softcapping": attention, "final_logit_softcapping": final}
            training = SmallTraining(
                config=config,
                tokens=60_000 if options.quick else 250_000,
                learning_rate=RATES[rate],
                log_every=1,
            )
            arms[f"{rate}-{caps}"] = {"training": asdict(training)}
    return over_seeds(options, arms)


def run(case: Case, place: Workplace) -> Mapping[str, Any]:
    training = SmallTraining(**case.settings["training"])
    recorder = _Recorder(every=max(1, training.tokens // (training.batch * training.length) // PROBES))
    diverged, facts = None, {}
    try:
        facts = train_small(
            training, place.folder, place.shared, seed=case.seed, begin=recorder.begin, step=recorder.step
        ).facts
    except DivergedError:
        diverged = recorder.last + 1
    log = [line for line in read_log(place.folder) if line["kind"] == "train"]
    return {
        "bits_per_byte": None,
        **facts,
        "diverged_at": diverged,
        "every": recorder.every,
        "logits": recorder.logits,
        "losses": [[line["step"], line["loss"]] for line in log],
        "norms": [[line["step"], line["gradient_norm"]] for line in log],
    }


class _Recorder:
    """Measures the largest logits on held-out rows every few steps."""

    def __init__(self, every: int) -> None:
        self.every, self.last = every, 0
        self.logits: list[tuple[int, float, float]] = []
        """(step, largest attention score, largest final logit), before the caps."""

    def begin(self, model: Decoder, prepared: PreparedRun) -> None:
        assert prepared.valid is not None
        batch = prepared.valid.take(next(iter(prepared.valid.order(0, 0))))
        self._probe = LogitProbe(model, mx.array(batch.tokens[:PROBED_ROWS]))

    def step(self, number: int) -> None:
        self.last = number
        if number % self.every == 0:
            found = self._probe.measure()
            if math.isfinite(found.attention) and math.isfinite(found.final):
                self.logits.append((number, round(found.attention, 3), round(found.final, 3)))


def tell(results: Sequence[Result]) -> Findings:
    arms = arms_of(results)
    return Findings(
        verdict=tuple(_verdict(arms)),
        tables=tuple(_table(rate, _of_rate(arms, rate)) for rate in RATES if _of_rate(arms, rate)),
        charts=tuple(chart for rate in RATES for chart in _charts(rate, _of_rate(arms, rate))),
    )


def _of_rate(arms: Mapping[str, list[Result]], rate: str) -> dict[str, list[Result]]:
    """Results at one learning rate, by caps."""
    return {arm.removeprefix(f"{rate}-"): each for arm, each in arms.items() if arm.startswith(f"{rate}-")}


def _largest(results: Sequence[Result], place: int) -> Spread:
    """Largest attention scores (1) or final logits (2) of a training run."""
    return Spread.of([max((each[place] for each in result["logits"]), default=0.0) for result in results])


def _norms(results: Sequence[Result]) -> tuple[Spread, Spread]:
    """Median and largest gradient norm, after the first tenth of the steps."""
    late = [[norm for _, norm in each["norms"][len(each["norms"]) // 10 :]] for each in results]
    return Spread.of([median(each) for each in late]), Spread.of([max(each) for each in late])


def _finished(results: Sequence[Result]) -> list[Result]:
    return [each for each in results if each["diverged_at"] is None]


def _table(rate: str, arms: Mapping[str, list[Result]]) -> ResultTable:
    rows = []
    for caps, each in arms.items():
        finished = _finished(each)
        usual, most = _norms(each)
        rows.append(
            (
                caps,
                f"{len(each) - len(finished)} of {len(each)}",
                spread(finished, "bits_per_byte").shown(4) if finished else "–",
                _largest(each, 1).shown(1),
                _largest(each, 2).shown(1),
                usual.shown(2),
                most.shown(1),
            )
        )
    return ResultTable(
        title=f"Learning rate {RATES[rate]:g} ({rate})",
        columns=(
            "caps",
            "diverged",
            "bits per byte",
            "largest attention score",
            "largest final logit",
            "median gradient norm",
            "largest gradient norm",
        ),
        rows=tuple(rows),
        note=f"Largest absolute values before capping, over the training run, on {PROBED_ROWS} held-out rows. Gradient "
        "norms before clipping to 1, without the first tenth of the steps. Mean ± standard deviation over seeds.",
    )


def _charts(rate: str, arms: Mapping[str, list[Result]]) -> Iterator[ResultChart]:
    if not arms:
        return
    series = {
        "attention": lambda each: [(step, attention) for step, attention, _ in each["logits"]],
        "final": lambda each: [(step, final) for step, _, final in each["logits"]],
        "loss": lambda each: _thinned(each["losses"], each["every"]),
        "norm": lambda each: _thinned(each["norms"], each["every"]),
    }
    for name, title in (SHOWN | {"norm": "Gradient norm before clipping"}).items():
        lines = tuple(
            line_of(caps, hue, _equally_long([series[name](each) for each in results]))
            for hue, (caps, results) in enumerate(arms.items())
            if all(series[name](each) for each in results)
        )
        if not lines:
            continue
        yield ResultChart(
            name=f"{rate}-{name}",
            title=f"{title}, learning rate {RATES[rate]:g}",
            lines=lines,
            x_label="steps",
            y_label="nats per token" if name == "loss" else "before the cap" if name in ("attention", "final") else "",
            log_y=name != "loss",
        )


def _thinned(series: Sequence[tuple[int, float]], every: int) -> list[tuple[int, float]]:
    """Means of `every` successive points."""
    groups = [series[start : start + every] for start in range(0, len(series) - every + 1, every)]
    return [(group[-1][0], sum(value for _, value in group) / every) for group in groups]


def _equally_long(series: Sequence[list[tuple[int, float]]]) -> list[list[tuple[int, float]]]:
    """Cut where the first of them diverged."""
    shortest = min(map(len, series))
    return [each[:shortest] for each in series]


def _verdict(arms: Mapping[str, list[Result]]) -> Iterator[str]:
    for rate in ("high", "usual"):
        own = _of_rate(arms, rate)
        if not {"both", "none"} <= own.keys():
            continue
        where = f"at learning rate {RATES[rate]:g}"
        bits = {caps: spread(done, "bits_per_byte") for caps, each in own.items() if (done := _finished(each))}
        lost = {caps: len(each) - len(_finished(each)) for caps, each in own.items()}
        if {"both", "none"} <= bits.keys():
            yield compared(f"Bits per byte {where}", "both", "none", bits, 4)
        if any(lost.values()):
            told = ", ".join(f"{caps} {lost[caps]} of {len(own[caps])}" for caps in own)
            yield f"Runs that became NaN or inf {where}: {told}."
        for place, what, cap in ((1, "attention score", ATTENTION_CAP), (2, "final logit", FINAL_CAP)):
            largest = {caps: _largest(own[caps], place) for caps in ("both", "none")}
            reached = "exceeds" if largest["none"].mean > cap else "stays below"
            sentence = compared(f"Largest {what} {where}", "both", "none", largest, 1)
            yield f"{sentence} Without a cap it {reached} {cap:g}, where the cap would act."


EXPERIMENT = Experiment(
    title="Soft-capping attention scores and final logits",
    about="""
    Gemma 2 passes attention scores through 50·tanh(x/50) and final logits through 30·tanh(x/30). Both caps keep logits
    bounded; fast attention kernels cannot compute the first. Here, a Gemma 2 of 0.9 million parameters (alternating
    windows of 64, four norms) is trained on biographies of the microworld with both caps, with none, and with one of
    them, at a learning rate that suits it and at a high one. Gradients are clipped to a norm of 1.

    A probe takes over the weights every few steps and measures, on held-out rows, the largest attention score and the
    largest final logit before they are capped.
    """,
    cases=cases,
    run=run,
    tell=tell,
    not_shown="Training for trillions of tokens in bf16, where logits drift slowly and rare spikes ruin a run: these "
    "runs last minutes, mostly in fp32. Post-norms, clipping and weight decay, which also hold logits down, were not "
    "removed.",
)
