"""Train an instruction synthesizer: a base model on chains of texts and pairs, with the loss on the pairs.

The run is a finetuning run on documents made here. Its chat template is the synthesizer's format: a user turn is a
text, an assistant turn its pairs, and earlier turns are the examples of an M-shot chain. `synthesizer.json` beside the
weights says that a model is a synthesizer, and of what.
"""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.trained_run import NAMES as RESULTS
from mlx_suite.data.batch.rows import usual_row_length
from mlx_suite.data.dataset import FEWEST, MOST, Dataset, FileReport
from mlx_suite.data.encode.encoding import EncodingNotes
from mlx_suite.data.encode.lengths import LengthCounts
from mlx_suite.data.example import Example as Conversation
from mlx_suite.finetune.prepare import PreparedRun
from mlx_suite.finetune.run import FinishedRun, RunCallbacks, finetune
from mlx_suite.hub.resolve import resolve
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.synthesize.chains import Chains, documents_digest, make_chains
from mlx_suite.synthesize.format import KINDS, SYNTHESIZER_FILE, write_completion
from mlx_suite.synthesize.readers import PlacedExample, ReadingData, read_training_data
from mlx_suite.synthesize.train_settings import LONGEST, SynthesizerSettings
from mlx_suite.text import ChatTemplate, Message, Tokenizer, load_tokenizer
from mlx_suite.training.process_group import ProcessGroup

_TEMPLATE = """\
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{- begin + ' <CON> ' + message['content'] + ' </CON>\\n\\n' }}
{%- elif message['role'] == 'assistant' %}{{- message['content'] + end }}
{%- else %}{{- raise_exception('no role ' + message['role']) }}{% endif %}
{%- endfor %}
"""


@dataclass(frozen=True, kw_only=True)
class PreparedSynthesizer:
    """The data of a run in chains, before the model is loaded."""

    settings: SynthesizerSettings
    """With the length of chains decided."""
    run: PreparedRun
    """The chains as training documents."""
    datasets: tuple[ReadingData, ...]
    train: Chains
    valid: Chains

    @property
    def description(self) -> dict[str, Any]:
        """Content of synthesizer.json."""
        shown = [each.example for chain in self.train.chains for each in chain]
        kinds = Counter(pair.kind for example in shown for pair in example.pairs)
        return {
            "format": "tags",
            "kinds": [kind for kind in KINDS if kinds[kind]],
            "rewrites": sorted({example.rewrite.form for example in shown if example.rewrite is not None}),
            "shots": max(map(len, self.train.chains)),
            "data": [
                {"name": each.name, "shape": each.shape, "examples": len(each.examples), "pairs": each.pairs}
                for each in self.datasets
            ],
        }


def prepare_synthesizer(settings: SynthesizerSettings, folder: Path | None = None) -> PreparedSynthesizer:
    """Read the data of a run, split off validation texts, make chains. The model's weights are not needed.

    `folder` holds config and tokenizer; None resolves the model of the settings, and downloads it if needed.

    Raises UserError that lists every problem of the data.
    """
    folder = folder or resolve(settings.model)
    tokenizer, context = load_tokenizer(folder), read_config(folder).get("max_position_embeddings")
    length = settings.max_length or min(LONGEST, context or LONGEST)
    settings = replace(settings, max_length=length)
    datasets = read_training_data(settings.data, seed=settings.seed, skip_bad=settings.skip_bad)
    held_out = _validation_texts(datasets, settings.valid_share, settings.seed)
    train, valid = (
        make_chains(
            [_part(dataset, held_out, inside) for dataset in datasets],
            tokenizer,
            max_length=length,
            shots=settings.shots,
            most=settings.most_examples,
            context_weight=settings.context_weight,
            seed=settings.seed,
        )
        for inside in (False, True)
    )
    if not train.documents:
        raise UserError(
            "No example is left to train on",
            where=", ".join(settings.data),
            fix="raise --max-length",
            details=[f"{len(train.too_long):,} are longer than {length:,} tokens"],
        )
    shown = [each for chain in valid.chains for each in chain if each.example.pairs]
    run = PreparedRun(
        folder=folder,
        tokenizer=tokenizer,
        template=synthesizer_template(tokenizer),
        dataset=Dataset(
            train=(),
            files=tuple(
                FileReport(name=each.name, format=each.shape, rows=len(each.examples), bad=0) for each in datasets
            ),
        ),
        train=train.documents,
        valid=valid.documents,
        held_out=tuple(map(_conversation, shown)),
        counts=LengthCounts(dropped=len(train.too_long) + len(valid.too_long)),
        notes=EncodingNotes(),
        problems=tuple(problem for dataset in datasets for problem in dataset.problems),
        too_long=train.too_long + valid.too_long,
        row_length=usual_row_length(train.documents),
        context=context,
        fingerprint=documents_digest([*train.documents, *valid.documents]),
    )
    return PreparedSynthesizer(settings=settings, run=run, datasets=tuple(datasets), train=train, valid=valid)


def train_synthesizer(
    prepared: PreparedSynthesizer,
    *,
    callbacks: RunCallbacks | None = None,
    group: ProcessGroup | None = None,
) -> FinishedRun:
    """Start or resume the run in the folder of the settings; its folders best/ and last/ are synthesizers.

    Raises UserError as `finetune` does.
    """
    group, settings = group or ProcessGroup(), prepared.settings
    finished = finetune(
        settings.finetune,
        prepared.run,
        origin={name: "flag" for name in _given(settings)},
        callbacks=callbacks,
        group=group,
        repeat=command(settings),
    )
    if group.is_rank_zero:
        description = json.dumps(prepared.description, indent=2, ensure_ascii=False) + "\n"
        for folder in (finished.folder, *(finished.folder / name for name in RESULTS)):
            if folder.is_dir():
                write_atomically(folder / SYNTHESIZER_FILE, description)
    return finished


def synthesizer_template(tokenizer: Tokenizer) -> ChatTemplate:
    """The synthesizer's format as a chat template: `format.encode_prompt` gives the same tokens."""
    begin = "" if tokenizer.bos_id is None else tokenizer.token_of(tokenizer.bos_id) or ""
    end = tokenizer.settings.roles.get("eos_token", "")
    names = f"{{%- set begin = {json.dumps(begin)} %}}\n{{%- set end = {json.dumps(end)} %}}\n"
    return ChatTemplate(source=names + _TEMPLATE, special_tokens={}, origin="the synthesizer's format")


def command(settings: SynthesizerSettings) -> str:
    """The command that repeats a run in another folder."""
    words = ["mlx-suite", "synthesize", "train", settings.model, *settings.data, "--out", "FOLDER"]
    for name in _given(settings):
        value = getattr(settings, name)
        if name not in ("model", "data", "out"):
            flag = f"--{name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)


def _given(settings: SynthesizerSettings) -> list[str]:
    """Names of the settings that differ from their defaults."""
    return [field.name for field in fields(settings) if getattr(settings, field.name) != field.default]


def _validation_texts(datasets: Sequence[ReadingData], share: float, seed: int) -> frozenset[str]:
    """A share of all texts, drawn by their hash: a text that occurs twice stays on one side."""
    texts = {each.example.text for dataset in datasets for each in dataset.examples}
    if share == 0 or len(texts) < FEWEST:
        return frozenset()
    drawn = sorted(texts, key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())
    return frozenset(drawn[: min(MOST, max(1, round(share * len(texts))))])


def _part(dataset: ReadingData, held_out: frozenset[str], inside: bool) -> ReadingData:
    return replace(
        dataset, examples=tuple(each for each in dataset.examples if (each.example.text in held_out) is inside)
    )


def _conversation(each: PlacedExample) -> Conversation:
    """A text and its pairs as turns, from which samples are made during training."""
    turns = (Message("user", each.example.text), Message("assistant", write_completion(each.example)))
    return Conversation(messages=turns, place=each.place)
