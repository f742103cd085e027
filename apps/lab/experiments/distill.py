"""A small student with and without a teacher at equal data: from the data alone, and distilled in three ways."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import exp
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.evaluate.passages import Passage, read_passages
from mlx_suite.evaluate.perplexity import measure
from mlx_suite.finetune.model import TrainableModel
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import FinishedRun, RunCallbacks, RunPlan, finetune
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.hub.resolve import resolve
from mlx_suite.loading import load
from mlx_suite.microworld import WorldExample, heldout_examples, make_world, training_conversations
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.pretrain.size import shape_of_size
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.footprint import parameter_count
from mlx_suite.text import Tokenizer, load_chat_template, load_tokenizer
from mlx_suite.training.checkpoint import State
from mlx_suite.transfer.distill.cache import make_cache
from mlx_suite.transfer.distill.run import distill
from mlx_suite.transfer.distill.settings import DistillSettings

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
from ..skills import heldout_accuracy
from ..verdict import Result

TEACHER = "tiny-llama3"
SCRATCH, FORWARD, ON_POLICY, CACHED = "scratch", "forward", "on-policy", "cached"
ARMS = (SCRATCH, FORWARD, ON_POLICY, CACHED)
TRAIN, VALID, CACHE = "train.jsonl", "valid.jsonl", "cache"
CONTEXT = 256
CURVE_ROWS = 100
"""Held-out conversations that the curve is measured on."""


@dataclass(frozen=True, kw_only=True)
class DistillTraining:
    """Budget and settings that all arms share."""

    size: int = 2
    """Blocks of the student, and its shape by the size dial of pretraining."""
    steps: int = 400
    batch: int = 32
    """Conversations per step."""
    learning_rate: float = 2e-3
    conversations: int = 16_000
    held_out: int = 300
    """Held-out instructions that accuracy and perplexity are measured on."""
    share: float = 0.5
    """On-policy share of the rows, in the second half of the steps."""
    max_new_tokens: int = 48
    draws: int = 32


def cases(options: LabOptions) -> list[Case]:
    training = DistillTraining()
    if options.quick:
        training = replace(training, steps=60, conversations=2000, held_out=60)
    return over_seeds(options, {arm: vars(training) for arm in ARMS})


def run(case: Case, place: Workplace) -> Mapping[str, Any]:
    training = DistillTraining(**case.settings)
    make_data(place.shared, training)
    teacher = resolve(TEACHER)
    tokenizer = load_tokenizer(teacher)
    passages = _passages(place.shared / VALID, tokenizer, teacher)
    student = place.folder / "student"
    if not student.exists():
        new_student(training.size, teacher, tokenizer, student, seed=case.seed)
    curve = _Curve(passages[:CURVE_ROWS], tokenizer)
    last, tokens = train_arm(case.arm, training, student, place, seed=case.seed, curve=curve)
    model, _ = load(last)
    return {
        "parameters": parameter_count(vars(model.config)),
        "trained_tokens": tokens,
        "nats": measure(model, tokenizer, passages, context=CONTEXT).nats,
        "teacher_nats": measure(load(teacher)[0], tokenizer, passages, context=CONTEXT).nats,
        "accuracy": heldout_accuracy(last, training.held_out),
        "curve": curve.points,
    }


def train_arm(
    arm: str, training: DistillTraining, student: Path, place: Workplace, *, seed: int, curve: "_Curve"
) -> tuple[Path, int]:
    """Train the student of an arm; returns the folder of the model and the number of trained tokens."""
    settings = _settings(training, student, place, seed)
    if arm == SCRATCH:
        return _finished(finetune(settings, prepare(settings), callbacks=curve.callbacks()))
    wanted = DistillSettings(**vars(settings), teacher=TEACHER, draws=training.draws)
    if arm == CACHED:
        # The draws are those of one seed, as a cache that is made once is used by every run.
        once = replace(wanted, seed=0)
        make_cache(once, prepare(once), place.shared / CACHE)
        wanted = replace(wanted, cache=str(place.shared / CACHE))
    if arm != ON_POLICY:
        return _finished(distill(wanted, prepare(wanted), callbacks=curve.callbacks()))
    # A new student writes noise: it learns from the data's responses first.
    half = training.steps // 2
    first = replace(wanted, steps=half, out=str(place.folder / "first"))
    begun, tokens = _finished(distill(first, prepare(first), callbacks=curve.callbacks()))
    second = replace(
        wanted,
        model=str(begun),
        steps=training.steps - half,
        on_policy=training.share,
        max_new_tokens=training.max_new_tokens,
        warmup=0.0,
        seed=seed + 1000,
        out=str(place.folder / "second"),
    )
    curve.offset = half
    last, further = _finished(distill(second, prepare(second), callbacks=curve.callbacks()))
    return last, tokens + further


def make_data(shared: Path, training: DistillTraining) -> None:
    """Write conversations of the microworld to train on, and held-out ones, unless they are there."""
    world = make_world()
    if not (shared / TRAIN).exists():
        _write(shared / TRAIN, islice(training_conversations(0, world), training.conversations))
    if not (shared / VALID).exists():
        _write(shared / VALID, ([each] for each in heldout_examples(0, training.held_out, world)))


def new_student(size: int, teacher: Path, tokenizer: Tokenizer, folder: Path, *, seed: int) -> None:
    """Save a random model of a size, with the teacher's tokenizer and template."""
    given = json.loads((teacher / "config.json").read_text())
    ids = {name: given[name] for name in ("vocab_size", "bos_token_id", "eos_token_id") if name in given}
    config = ModelConfig.from_dict({**shape_of_size(size), **ids})
    mx.random.seed(seed)
    save_model(folder, build_model(config), config, dtype="float32", tokenizer_from=teacher)


def _settings(training: DistillTraining, student: Path, place: Workplace, seed: int) -> FinetuneSettings:
    return FinetuneSettings(
        model=str(student),
        data=str(place.shared / TRAIN),
        valid=str(place.shared / VALID),
        out=str(place.folder / "run"),
        method="full",
        batching="bucket",
        max_length=CONTEXT,
        too_long="drop",
        batch=training.batch,
        steps=training.steps,
        learning_rate=training.learning_rate,
        schedule="constant",
        warmup=0.05,
        seed=seed,
        eval_every=max(1, training.steps // 6),
        sample_tokens=8,
    )


def _finished(finished: FinishedRun) -> tuple[Path, int]:
    if finished.result.stopped:
        raise KeyboardInterrupt
    return finished.folder / "last", finished.state.tokens


def _write(path: Path, conversations: Iterable[Sequence[WorldExample]]) -> None:
    lines = []
    for turns in conversations:
        messages = [
            {"role": role, "content": text}
            for turn in turns
            for role, text in (("user", turn.instruction), ("assistant", turn.answer))
        ]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines))


def _passages(path: Path, tokenizer: Tokenizer, teacher: Path) -> Sequence[Passage]:
    return read_passages(path, tokenizer, load_chat_template(teacher)).passages


class _Curve:
    """Measures the perplexity of held-out responses at each evaluation of a run."""

    def __init__(self, passages: Sequence[Passage], tokenizer: Tokenizer) -> None:
        self.passages, self.tokenizer, self.offset = passages, tokenizer, 0
        self.points: list[tuple[int, float]] = []
        self.model: Any = None

    def callbacks(self) -> RunCallbacks:
        return RunCallbacks(begin=self._begin, line=self._line)

    def _begin(self, trainable: TrainableModel, plan: RunPlan, state: State) -> None:
        self.model = trainable.model

    def _line(self, entry: Mapping[str, Any]) -> None:
        if entry["kind"] == "valid" and (entry["step"] or not self.offset):
            self.model.eval()
            found = measure(self.model, self.tokenizer, self.passages, context=CONTEXT)
            self.points.append((entry["step"] + self.offset, round(found.perplexity, 4)))


def tell(results: Sequence[Result]) -> Findings:
    results = [{**each, "perplexity": exp(each["nats"])} for each in results]
    arms = arms_of(results)
    perplexity = {arm: spread(each, "perplexity") for arm, each in arms.items()}
    right = {arm: spread(each, "accuracy") for arm, each in arms.items()}
    teacher = exp(results[0]["teacher_nats"])
    rows = tuple(
        (
            arm,
            perplexity[arm].shown(3),
            right[arm].shown(1, 100),
            spread(each, "trained_tokens").shown(0),
            spread(each, "seconds").shown(0),
        )
        for arm, each in arms.items()
    )
    sentences = []
    for arm in arms:
        if arm != SCRATCH and SCRATCH in arms:
            sentences.append(compared("Perplexity of held-out responses", arm, SCRATCH, perplexity))
    if {CACHED, FORWARD} <= arms.keys():
        sentences.append(
            compared("A sample of the distribution beside all of it, perplexity", CACHED, FORWARD, perplexity)
        )
    if {ON_POLICY, FORWARD} <= arms.keys():
        sentences.append(compared("Right responses, on-policy beside off-policy", ON_POLICY, FORWARD, right))
    chart = ResultChart(
        name="perplexity",
        title="Perplexity of held-out responses",
        lines=tuple(
            line_of(arm, hue, _equally_long([each["curve"] for each in found]))
            for hue, (arm, found) in enumerate(arms.items())
        ),
        x_label="steps",
        y_label="perplexity",
        log_y=True,
    )
    table = ResultTable(
        title=f"Student of {results[0]['parameters']:,} parameters; its teacher has perplexity {teacher:.3f}",
        columns=("arm", "perplexity", "right responses, %", "trained tokens", "seconds"),
        rows=rows,
        note="Mean ± standard deviation over seeds. Responses are greedy; the microworld's checker judges them. "
        "Seconds include measuring, and those of the first cached arm making the cache.",
    )
    return Findings(verdict=tuple(sentences), tables=(table,), charts=(chart,))


def _equally_long(series: Sequence[Sequence[tuple[int, float]]]) -> list[list[tuple[int, float]]]:
    """Points that all runs have: a resumed run measured only those after its last checkpoint."""
    common = set.intersection(*({step for step, _ in each} for each in series))
    return [[(step, value) for step, value in each if step in common] for each in series]


EXPERIMENT = Experiment(
    title="Distillation: a student with and without a teacher",
    about="""
    Gemma 2's smaller models were trained on the probabilities of a larger one instead of on the next token alone. Its
    report compares the perplexity of models of three sizes from scratch and distilled. Here the teacher is the shipped
    tiny-llama3, and the student a new model of the size dial, with the same tokenizer, trained on the same
    conversations of the microworld in the same number of steps: from the data alone (cross-entropy), with the forward
    KL of the teacher, with the same but half of the responses written by the student in the second half of the steps,
    and with the forward KL of 32 draws per token from a cache on disk. Perplexity and the share of right responses are
    measured on instructions that neither has seen.
    """,
    cases=cases,
    run=run,
    tell=tell,
    not_shown="Teachers and students of billions of parameters, and training to convergence: an advantage at equal "
    "steps may shrink with more. The teacher was trained on the same world, so what it knows is in the data too.",
)
