"""Estimate the memory and time of a run, and changes that make it fit.

Computed from the model's config.json and the examples; no weights are loaded.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mlx_suite.checkpoints.config_file import SHARED_KEYS, read_config
from mlx_suite.finetune.estimate.alternatives import Alternatives, find_alternatives
from mlx_suite.finetune.estimate.duration import EFFICIENCY, Duration, forward_flops, measured_speed, step_flops
from mlx_suite.finetune.prepare import PreparedRun, make_batches
from mlx_suite.finetune.run import plan_run
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.modeling.config import OUR_TYPES, ModelConfig
from mlx_suite.runtime.device import Device, device, weights_dtype
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.footprint import bits_per_weight, parameter_count, weight_bytes
from mlx_suite.runtime.memory import human_bytes
from mlx_suite.training.loop import steps_per_epoch
from mlx_suite.training.step_memory import INFEASIBLE, MemoryEstimate, TrainShape, estimate_memory, memory_limit

PARTS = ("weights", "teacher", "trained", "gradients", "optimizer", "activations", "head")
"""Fields of a memory estimate, in display order."""


@dataclass(frozen=True, kw_only=True)
class TeacherShape:
    """A teacher that scores every batch."""

    config: ModelConfig
    bytes: int
    """Bytes of its weights."""


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """Estimated memory and time of a run."""

    config: ModelConfig
    shape: TrainShape
    memory: MemoryEstimate
    duration: Duration | None
    """Estimated time; None if not requested, because measuring the speed of the machine takes a second."""
    alternatives: Alternatives | None
    """Changes that would make the run fit; None if it already fits."""
    notes: tuple[str, ...]

    def render(self) -> Table:
        """A table of labels and lines for the terminal."""
        table = Table.grid(padding=(0, 1))
        table.add_column(min_width=10, no_wrap=True)
        table.add_column()
        for label, line, style in self._lines():
            table.add_row(Text(label, style="bold"), Text(line, style=style))
        return table

    def as_dict(self) -> dict[str, Any]:
        """For JSON: sizes in bytes, times in seconds."""
        memory = self.memory
        facts: dict[str, Any] = {
            "fits": memory.fits,
            "limit_bytes": memory.limit,
            "peak_bytes": memory.total,
            "moment": memory.moment,
            "parts": {name: getattr(memory, name) for name in PARTS},
            "parameters": parameter_count(vars(self.config)),
            "trained_parameters": memory.parameters,
            "rows": self.shape.rows,
            "row_length": self.shape.row_length,
            "notes": list(self.notes),
        }
        if time := self.duration:
            facts |= {
                "steps": time.steps,
                "step_flops": time.step_flops,
                "flops_per_second": time.speed,
                "step_seconds": time.step_seconds,
                "seconds": time.seconds,
                "seconds_at_least": time.least,
                "seconds_at_most": time.most,
            }
        if self.alternatives:
            together = self.alternatives.together
            facts["to_fit"] = together.as_dict() if together else None
            facts["changes"] = [alternative.as_dict() for alternative in self.alternatives.single]
        return facts

    def refuse_if_infeasible(self) -> None:
        """Raise UserError if the run would be killed for its memory use or swap endlessly."""
        if self.memory.total > INFEASIBLE * self.memory.limit:
            together = self.alternatives.together if self.alternatives else None
            raise UserError(
                f"This run needs far more memory than is available: {self.memory.verdict}",
                fix=f"{together.flags}; --estimate shows more" if together else "use a smaller model",
            )

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        """Yield (label, text, style) for each line."""
        config, memory, shape = self.config, self.memory, self.shape
        count = parameter_count(vars(config))
        yield "model", f"{config.model_type}, {config.num_hidden_layers} blocks, {count:,} parameters", ""
        kind = shape.method if shape.method == "full" else f"{shape.method}, rank {shape.rank}"
        total = count if shape.method == "full" else count + memory.parameters
        yield "trained", f"{memory.parameters:,} of {total:,} parameters ({memory.parameters / total:.2%}), {kind}", ""
        batches = f", {shape.accumulate} batches per step" if shape.accumulate > 1 else ""
        yield "batch", f"{shape.rows} rows of {shape.row_length:,} tokens{batches}", ""
        yield "memory", self.memory.verdict, "green" if memory.fits else "red"
        for name in PARTS:
            if getattr(memory, name):
                yield "", f"{human_bytes(getattr(memory, name)):>8}  {_MEANINGS[name]}", ""
        yield from self._alternatives_lines()
        yield from self._time_lines()
        for note in self.notes:
            yield "note", note, ""

    def _alternatives_lines(self) -> Iterator[tuple[str, str, str]]:
        if self.alternatives is None:
            return
        together = self.alternatives.together
        if together is None:
            yield "to fit", "no change of settings helps: use a smaller model", "red"
            return
        if together.memory.fits:
            yield "to fit", together.flags, "green"
            yield "", f"then {human_bytes(together.memory.total)}; {together.cost}", ""
        else:
            yield "to fit", "all changes together are not enough: use a smaller model or a larger machine", "red"
            yield "", f"{together.flags}: then {human_bytes(together.memory.total)}", ""
        for at, change in enumerate(self.alternatives.single):
            then = f"saves {human_bytes(change.saves)}, then {human_bytes(change.memory.total)}"
            verdict = ", which fits" if change.memory.fits else ""
            label = "" if at else "each alone"
            yield label, f"{_shortened(change.flags)}: {then}{verdict}; {change.cost}", ""

    def _time_lines(self) -> Iterator[tuple[str, str, str]]:
        time = self.duration
        if time is None:
            return
        yield (
            "time",
            f"about {readable_time(time.seconds)} for {time.steps:,} steps, between {readable_time(time.least)} and "
            f"{readable_time(time.most)}; {readable_time(time.step_seconds)} per step",
            "",
        )
        speed = f"{time.step_flops / 1e12:.3g} TFLOP per step; {time.speed / 1e12:.3g} TFLOP/s measured for a matmul"
        yield "", f"{speed}, of which training reaches about {EFFICIENCY:.0%}", ""


def teacher_shape(folder: Path, machine: Device | None = None) -> TeacherShape:
    """Dimensions and bytes of the teacher in `folder`. Raises UserError if its config.json lacks dimensions."""
    source = read_config(folder)
    config, _ = model_config(source, str(folder / "config.json"))
    given = str(source.get("dtype") or source.get("torch_dtype") or "bfloat16")
    precision = weights_dtype((machine or device()).kind, given, bool(source.get("quantization")))
    dense = 32 if precision.dtype == "float32" else 16
    bits = dense if not source.get("quantization") or precision.dequantize else bits_per_weight(source)
    return TeacherShape(config=config, bytes=weight_bytes(vars(config), bits))


def estimate_run(
    settings: FinetuneSettings,
    prepared: PreparedRun,
    machine: Device | None = None,
    *,
    with_time: bool = True,
    teacher: TeacherShape | None = None,
) -> RunEstimate:
    """Estimate memory and, if `with_time`, duration of a run on `machine` (None: this one).

    Measuring this machine's speed takes a second. Raises UserError if config.json lacks the model's dimensions.
    """
    machine = machine or device()
    source = read_config(prepared.folder)
    config, notes = model_config(source, str(prepared.folder / "config.json"))
    shape = train_shape(settings, prepared, config, source, machine)
    if teacher is not None:
        shape = replace(shape, teacher_bytes=teacher.bytes)
    limit = memory_limit(machine)

    def estimate(shape: TrainShape) -> MemoryEstimate:
        return estimate_memory(config, shape, limit)

    memory = estimate(shape)
    alternatives = None
    if not memory.fits:
        alternatives = find_alternatives(settings, shape, config.num_hidden_layers, prepared.train, estimate)
    duration = _duration(settings, prepared, config, shape, teacher) if with_time else None
    return RunEstimate(
        config=config, shape=shape, memory=memory, duration=duration, alternatives=alternatives, notes=notes
    )


def model_config(source: Mapping[str, Any], where: str) -> tuple[ModelConfig, tuple[str, ...]]:
    """Dimensions of the model of a config.json, and notes on what is uncertain about them.

    Other architectures are estimated as if their blocks were Llama's. Raises UserError if dimensions are missing.
    """
    if source["model_type"] in OUR_TYPES:
        return ModelConfig.from_dict(source, where), ()
    flat = {**source, **(source.get("text_config") or {})}  # multimodal models nest the language model
    kept = {"rms_norm_eps": 1e-6} | {name: flat[name] for name in SHARED_KEYS if flat.get(name) is not None}
    kind = source["model_type"]
    try:
        config = replace(ModelConfig.from_dict(kept | {"model_type": "llama"}, where), model_type=kind)
    except UserError as error:
        raise UserError(
            f"Cannot estimate {kind}: its configuration lacks dimensions", where=where, details=[error.what]
        ) from error
    experts = flat.get("num_experts") or flat.get("num_local_experts") or flat.get("n_routed_experts")
    note = f"a rough estimate: {kind} is counted as if its blocks were Llama's"
    return config, (f"{note} with one MLP; its {experts} experts need far more" if experts else note,)


def train_shape(
    settings: FinetuneSettings, prepared: PreparedRun, config: ModelConfig, source: Mapping[str, Any], machine: Device
) -> TrainShape:
    """Everything that determines the memory of a step: the trained parameters and the shape of a batch."""
    stored = source.get("quantization")
    given = str(source.get("dtype") or source.get("torch_dtype") or "bfloat16")
    precision = weights_dtype(machine.kind, given, bool(stored))
    packed = 0 if not stored or precision.dequantize else round(bits_per_weight(source) - 0.5)
    layers = settings.layers
    if layers is not None:
        layers = tuple(number for number in layers if number < config.num_hidden_layers)
    return TrainShape(
        method=settings.method,
        rank=settings.rank,
        modules=settings.modules,
        layers=layers,
        quantize_base=packed or settings.quantize_base,
        optimizer=settings.optimizer,
        averaged=settings.ema > 0,
        anchored=settings.anchor > 0,
        rows=settings.batch,
        row_length=prepared.row_length,
        packed=settings.batching == "pack",
        trained_share=_trained_share(settings, prepared),
        checkpointing=settings.recompute,
        element_bytes=4 if precision.dtype == "float32" else 2,
        accumulate=settings.accumulate,
        token_rows=len(prepared.template_tokens.trained_rows(settings)),
    )


def readable_time(seconds: float) -> str:
    """Seconds in a readable unit: "40 s", "12 min", "3.5 h", "2.1 days"."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds)} s" if seconds >= 1 else f"{seconds:.2g} s"


def _duration(
    settings: FinetuneSettings,
    prepared: PreparedRun,
    config: ModelConfig,
    shape: TrainShape,
    teacher: TeacherShape | None,
) -> Duration:
    def scoring(form: tuple[int, ...]) -> float:
        return 0.0 if teacher is None else forward_flops(teacher.config, shape.of(*form))

    def step(form: tuple[int, ...]) -> float:
        scores = scoring(form) + (forward_flops(config, shape.of(*form)) if shape.anchored else 0.0)
        return step_flops(config, shape.of(*form)) + settings.accumulate * scores

    batches, valid = make_batches(prepared, settings)
    plan = plan_run(settings, steps_per_epoch(batches, settings.accumulate)).settings
    dtype = "float32" if shape.element_bytes == 4 else "bfloat16"
    # Only the longest rows determine the memory, but all rows count for the time.
    forms = Counter(batches.take(chosen).tokens.shape for chosen in batches.order(settings.seed, 0))
    flops = sum(n * step(form) for form, n in forms.items())
    evaluated = [] if valid is None else [valid.take(chosen).tokens.shape for chosen in valid.order(0, 0)]
    return Duration(
        step_flops=flops / forms.total(),
        evaluation_flops=sum(forward_flops(config, shape.of(*form)) + scoring(form) for form in evaluated),
        speed=measured_speed(dtype, shape.quantize_base),
        steps=plan.steps,
        evaluations=0 if valid is None or not plan.eval_every else plan.steps // plan.eval_every + 1,
    )


def _trained_share(settings: FinetuneSettings, prepared: PreparedRun) -> float:
    """Fraction of positions whose next token is trained; with bucket, in the batch of the longest examples."""
    documents = sorted(prepared.train, key=len, reverse=True)
    if settings.batching == "bucket":
        documents = documents[: settings.batch]
    trained = sum(document.trained for document in documents)
    return trained / max(sum(map(len, documents)), 1)


def _shortened(flags: str) -> str:
    return flags if len(flags) <= 40 else flags[:39] + "…"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


_MEANINGS = {
    "weights": "the model's weights",
    "teacher": "the teacher's weights",
    "trained": "trained parameters, in fp32",
    "gradients": "gradients, and temporaries of the update",
    "optimizer": "the optimizer's moments",
    "activations": "activations kept for the backward pass",
    "head": "logits of one chunk, and their hidden states",
}
