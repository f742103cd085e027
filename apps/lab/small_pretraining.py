"""Small models of an experiment, pretrained alike on texts of the microworld."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlx_suite.modeling.decoder import Decoder
from mlx_suite.pretrain.bits_per_byte import target_bytes
from mlx_suite.pretrain.model import make_model
from mlx_suite.pretrain.run import PreparedRun, prepare_run
from mlx_suite.pretrain.settings import CorpusPart, PretrainSettings, TokenizerSource
from mlx_suite.runtime.footprint import parameter_count
from mlx_suite.text.training import train_base_tokenizer
from mlx_suite.training.loop import Callbacks, read_log, train

from .material import texts_of, write_texts
from .people import LabPeople
from .recipe import LabWorld

RAW, VALID, TOKENIZER = "raw.jsonl", "valid.jsonl", "tokenizer"
CHARACTERS_PER_TOKEN = 4.0
"""Most characters per token of these texts with a vocabulary of a few hundred ids."""
LEARNED_TEXTS = 2000
"""Texts that the tokenizer is trained on."""


@dataclass(frozen=True, kw_only=True)
class SmallTraining:
    """Budget and settings of one small model; arms of an experiment share all but `config` or what they compare."""

    config: Mapping[str, Any]
    """Keys of a config.json, without the vocabulary."""
    tokens: int
    learning_rate: float
    people: int = 48
    """People in the biographies that are trained on; each biography is read once, in words of its own."""
    vocabulary: int = 640
    length: int = 128
    """Row length in tokens."""
    batch: int = 16
    """Rows per step."""
    schedule: str = "wsd"
    log_every: int = 10
    """Steps between log lines."""


@dataclass(frozen=True, kw_only=True)
class SmallModel:
    """A trained small model."""

    model: Decoder
    prepared: PreparedRun
    log: tuple[Mapping[str, Any], ...]
    """Lines of metrics.jsonl; those of kind "valid" have `bits_per_byte`."""

    @property
    def bits_per_byte(self) -> float:
        """Of held-out biographies of the same people, after the last step."""
        value: float = [line["bits_per_byte"] for line in self.log if line["kind"] == "valid"][-1]
        return value

    @property
    def facts(self) -> dict[str, Any]:
        """What a result records of every small model."""
        shape = vars(self.model.config)
        return {
            "parameters": parameter_count(shape),
            "tokens": self.prepared.plan.steps * self.prepared.step_tokens,
            "bits_per_byte": self.bits_per_byte,
            "valid": [[line["step"], line["bits_per_byte"]] for line in self.log if line["kind"] == "valid"],
        }


def make_texts(shared: Path, training: SmallTraining) -> None:
    """Write the corpus, held-out texts and the tokenizer into `shared`, unless they are there."""
    people = LabPeople(world=LabWorld(people=training.people))
    if not (shared / RAW).exists():
        budget = training.tokens * CHARACTERS_PER_TOKEN
        write_texts(shared / RAW, takewhile(_within(budget), people.fresh_texts()))
    if not (shared / VALID).exists():
        write_texts(shared / VALID, people.heldout_texts())
    if not (shared / TOKENIZER / "tokenizer.json").exists():
        texts = [text for text, _ in zip(texts_of(shared / RAW), range(LEARNED_TEXTS), strict=False)]
        train_base_tokenizer(texts, shared / TOKENIZER, training.vocabulary)


def _within(budget: float) -> Callable[[str], bool]:
    """Whether texts so far, this one included, have at most `budget` characters."""
    read = 0

    def more(text: str) -> bool:
        nonlocal read
        read += len(text)
        return read <= budget

    return more


def train_small(
    training: SmallTraining,
    folder: Path,
    shared: Path,
    *,
    seed: int,
    begin: Callable[[Decoder, PreparedRun], None] = lambda model, prepared: None,
    step: Callable[[int], None] = lambda number: None,
) -> SmallModel:
    """Train a new model on the texts in `shared`, from its first step: what `folder` holds is deleted.

    Args:
        begin: Called before the first step with the model, which is trained in place.
        step: Called after each step with its number.

    Raises KeyboardInterrupt if it was stopped, DivergedError for a loss of NaN or inf.
    """
    make_texts(shared, training)
    shutil.rmtree(folder, ignore_errors=True)
    settings = PretrainSettings(
        config=training.config,
        tokenizer=TokenizerSource(checkpoint=str(shared / TOKENIZER)),
        data=(CorpusPart(path=str(shared / RAW), name="raw"),),
        valid=CorpusPart(path=str(shared / VALID)),
        tokens=training.tokens,
        length=training.length,
        batch=training.batch,
        accumulate=1,
        learning_rate=training.learning_rate,
        schedule=training.schedule,
        seed=seed,
        log_every=training.log_every,
        out=str(folder),
    )
    prepared = prepare_run(settings)
    assert prepared.settings.dtype is not None and prepared.valid is not None
    model: Any = make_model(settings, prepared.source, prepared.settings.dtype)
    counts = target_bytes(prepared.valid, prepared.tokenizer)
    begin(model, prepared)
    finished = train(
        model,
        prepared.batches,
        prepared.plan,
        folder,
        valid=prepared.valid,
        callbacks=Callbacks(
            step=lambda number, loss, trained: step(number),
            measured=lambda number, loss: {"bits_per_byte": round(counts.bits_per_byte(loss), 5)},
        ),
    )
    if finished.stopped:
        raise KeyboardInterrupt
    model.eval()
    log = tuple(read_log(folder))
    for name in ("checkpoint", "tokens"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return SmallModel(model=model, prepared=prepared, log=log)
