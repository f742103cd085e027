"""What a run will take, before it begins: memory, time, and what to change where it does not fit.

Counted from the model's config.json and the examples; no weights are loaded.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table
from rich.text import Text

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.finetune.estimate.dimensions import model_config
from mlx_suite.finetune.estimate.duration import SHARE, Duration, forward_flops, measured_speed, step_flops
from mlx_suite.finetune.estimate.memory import MemoryEstimate, TrainShape, estimate_memory
from mlx_suite.finetune.estimate.savings import Saving, Savings, find_savings
from mlx_suite.finetune.prepare import Prepared, make_batches
from mlx_suite.finetune.run import plan_run
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.device import Device, device, weights_dtype
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.footprint import bits_per_weight, parameter_count
from mlx_suite.runtime.memory import available_memory, human_bytes
from mlx_suite.training.loop import steps_per_epoch

HOPELESS = 1.5
"""How much more than there is a run may be estimated to take before it is refused: estimates are a fifth off."""
PARTS = ("weights", "trained", "gradients", "optimizer", "activations", "head")
"""Of a memory estimate, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a run will take."""

    config: ModelConfig
    shape: TrainShape
    memory: MemoryEstimate
    duration: Duration | None
    """None where nobody asked: measuring this machine takes a second."""
    savings: Savings | None
    """None where it fits as it is."""
    notes: tuple[str, ...]

    def render(self) -> Table:
        """For people: labels, and lines beside them."""
        table = Table.grid(padding=(0, 1))
        table.add_column(min_width=10, no_wrap=True)
        table.add_column()
        for label, line, style in self._lines():
            table.add_row(Text(label, style="bold"), Text(line, style=style))
        return table

    def as_dict(self) -> dict[str, Any]:
        """For JSON: bytes, seconds, operations."""
        memory = self.memory
        found: dict[str, Any] = {
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
            found |= {
                "steps": time.steps,
                "step_flops": time.step_flops,
                "flops_per_second": time.speed,
                "step_seconds": time.step_seconds,
                "seconds": time.seconds,
                "seconds_at_least": time.least,
                "seconds_at_most": time.most,
            }
        if self.savings:
            together = self.savings.together
            found["to_fit"] = _saving_as_dict(together) if together else None
            found["changes"] = [_saving_as_dict(saving) for saving in self.savings.single]
        return found

    def refuse_if_hopeless(self) -> None:
        """Raises UserError for a run that would end the program, or make the machine swap for ever."""
        if self.memory.total > HOPELESS * self.memory.limit:
            together = self.savings.together if self.savings else None
            raise UserError(
                f"This run takes far more memory than there is: {self.verdict}",
                fix=f"{together.flags}; --estimate says more" if together else "--estimate says what takes it",
            )

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        """(label, text, style)"""
        config, memory, shape = self.config, self.memory, self.shape
        count = parameter_count(vars(config))
        yield "model", f"{config.model_type}, {config.num_hidden_layers} blocks, {count:,} parameters", ""
        kind = shape.method if shape.method == "full" else f"{shape.method} of rank {shape.rank}"
        total = count if shape.method == "full" else count + memory.parameters
        yield "trained", f"{memory.parameters:,} of {total:,} parameters ({memory.parameters / total:.2%}), {kind}", ""
        batches = f", {shape.accumulate} such batches a step" if shape.accumulate > 1 else ""
        yield "batch", f"{shape.rows} rows of {shape.row_length:,} tokens{batches}", ""
        yield "memory", self.verdict, "green" if memory.fits else "red"
        for name in PARTS:
            if getattr(memory, name):
                yield "", f"{human_bytes(getattr(memory, name)):>8}  {_MEANINGS[name]}", ""
        yield from self._savings_lines()
        yield from self._time_lines()
        for note in self.notes:
            yield "note", note, ""

    @property
    def verdict(self) -> str:
        """Whether it fits, in a line."""
        memory = self.memory
        peak = f"about {human_bytes(memory.total)} {_MOMENTS[memory.moment]}"
        if memory.fits:
            return f"{peak}; fits, {human_bytes(memory.limit)} may be taken"
        missing = human_bytes(memory.total - memory.limit)
        return f"{peak}; does not fit: {human_bytes(memory.limit)} may be taken, {missing} are missing"

    def _savings_lines(self) -> Iterator[tuple[str, str, str]]:
        if self.savings is None:
            return
        together = self.savings.together
        if together is None:
            yield "to fit", "nothing helps here: take a smaller model", "red"
            return
        if together.memory.fits:
            yield "to fit", together.flags, "green"
            yield "", f"then {human_bytes(together.memory.total)}; {together.cost}", ""
        else:
            yield "to fit", "not even all of these are enough: take a smaller model, or a larger machine", "red"
            yield "", f"{together.flags}: then {human_bytes(together.memory.total)}", ""
        for at, saving in enumerate(self.savings.single):
            then = f"saves {human_bytes(saving.saves)}, then {human_bytes(saving.memory.total)}"
            verdict = ", which fits" if saving.memory.fits else ""
            label = "" if at else "each alone"
            yield label, f"{_shortened(saving.flags)}: {then}{verdict}; {saving.cost}", ""

    def _time_lines(self) -> Iterator[tuple[str, str, str]]:
        time = self.duration
        if time is None:
            return
        yield (
            "time",
            f"about {spoken(time.seconds)} for {time.steps:,} steps, within {spoken(time.least)} to "
            f"{spoken(time.most)}; {spoken(time.step_seconds)} a step",
            "",
        )
        speed = f"{time.step_flops / 1e12:.3g} TFLOP a step, {time.speed / 1e12:.3g} TFLOP/s measured in one product"
        yield "", f"{speed}, of which a step reaches about {SHARE:.0%}", ""


def outlook(settings: FinetuneSettings, prepared: Prepared, machine: Device | None = None) -> Outlook:
    """What the run of `settings` will take on `machine`; None is this one. Takes a second, to measure its speed.

    Raises UserError for a config.json that does not tell the model's dimensions.
    """
    machine = machine or device()
    found = memory_outlook(settings, prepared, machine)
    return replace(found, duration=_duration(settings, prepared, found.config, found.shape, machine))


def memory_outlook(settings: FinetuneSettings, prepared: Prepared, machine: Device | None = None) -> Outlook:
    """The same without the time."""
    machine = machine or device()
    source = read_config(prepared.folder)
    config, notes = model_config(source, str(prepared.folder / "config.json"))
    shape = train_shape(settings, prepared, config, source, machine)
    limit = memory_limit(machine)

    def estimate(shape: TrainShape) -> MemoryEstimate:
        return estimate_memory(config, shape, limit)

    memory = estimate(shape)
    savings = None
    if not memory.fits:
        savings = find_savings(settings, shape, config.num_hidden_layers, prepared.train, estimate)
    return Outlook(
        config=config,
        shape=shape,
        memory=memory,
        duration=None,
        savings=savings,
        notes=notes,
    )


def train_shape(
    settings: FinetuneSettings, prepared: Prepared, config: ModelConfig, source: Mapping[str, Any], machine: Device
) -> TrainShape:
    """What a step of the run trains, and on how much at a time."""
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
        rows=settings.batch,
        row_length=prepared.row_length,
        trained_share=_trained_share(settings, prepared),
        checkpointing=settings.recompute,
        element_bytes=4 if precision.dtype == "float32" else 2,
        accumulate=settings.accumulate,
    )


def memory_limit(machine: Device) -> int:
    """Bytes that a run may take: the device's working set, and where the machine tells it, what is free now."""
    if machine.kind == "cuda":
        return machine.working_set_bytes
    return min(machine.working_set_bytes, available_memory())


def spoken(seconds: float) -> str:
    """Seconds as one says them: "40 s", "12 min", "3.5 h", "2.1 days"."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{_two_figures(seconds / size)} {unit}"
    return f"{_two_figures(seconds)} s" if seconds >= 1 else f"{seconds:.2g} s"


def _duration(
    settings: FinetuneSettings, prepared: Prepared, config: ModelConfig, shape: TrainShape, machine: Device
) -> Duration:
    batches, valid = make_batches(prepared, settings)
    plan = plan_run(settings, steps_per_epoch(batches, settings.accumulate)).settings
    dtype = "float32" if shape.element_bytes == 4 else "bfloat16"
    # The memory is that of the longest rows, the time that of all.
    forms = Counter(batches.take(chosen).tokens.shape for chosen in batches.order(settings.seed, 0))
    flops = sum(count * step_flops(config, shape.of(*form)) for form, count in forms.items()) / forms.total()
    evaluated = [] if valid is None else [valid.take(chosen).tokens.shape for chosen in valid.order(0, 0)]
    return Duration(
        step_flops=flops,
        evaluation_flops=sum(forward_flops(config, shape.of(*form)) for form in evaluated),
        speed=measured_speed(dtype, shape.quantize_base),
        steps=plan.steps,
        evaluations=0 if valid is None or not plan.eval_every else plan.steps // plan.eval_every + 1,
    )


def _trained_share(settings: FinetuneSettings, prepared: Prepared) -> float:
    """Of the positions of a batch whose next token is trained; with bucket, of a batch of the longest examples."""
    documents = sorted(prepared.train, key=len, reverse=True)
    if settings.batching == "bucket":
        documents = documents[: settings.batch]
    trained = sum(sum(weight > 0 for weight in document.weights[1:]) for document in documents)
    return trained / max(sum(map(len, documents)), 1)


def _saving_as_dict(saving: Saving) -> dict[str, Any]:
    return {
        "flags": saving.flags,
        "cost": saving.cost,
        "saves_bytes": saving.saves,
        "peak_bytes": saving.memory.total,
        "fits": saving.memory.fits,
    }


def _shortened(flags: str) -> str:
    return flags if len(flags) <= 40 else flags[:39] + "…"


def _two_figures(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


_MEANINGS = {
    "weights": "the model's weights",
    "trained": "what is trained, in fp32",
    "gradients": "gradients, and what the update works with",
    "optimizer": "the optimizer's moments",
    "activations": "what the backward pass needs of the forward pass",
    "head": "logits of a chunk, and the hidden states in front of them",
}
_MOMENTS = {
    "loss": "while the loss is worked out",
    "blocks": "at the start of the backward pass",
    "gradients": "at the end of the backward pass",
    "update": "while the optimizer works",
}
