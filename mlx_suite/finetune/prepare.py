"""Prepare a run's data: read examples, split off validation, encode, apply the length limit, make batches."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.data.batch.batches import BucketedBatches, MixedBatches, PackedBatches, mixed_batches
from mlx_suite.data.batch.rows import Document, pack, usual_row_length
from mlx_suite.data.dataset import Dataset, fingerprint, read_dataset, split
from mlx_suite.data.encode.encoding import EncodingNotes, encode_all
from mlx_suite.data.encode.lengths import ERROR, LengthCounts, fit
from mlx_suite.data.encode.styles import CHAT
from mlx_suite.data.example import Example
from mlx_suite.data.read.records import Problem, refusal
from mlx_suite.finetune.new_tokens import TemplateTokens, template_tokens
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.finetune.starting_point import StartingPoint, check_model, inherited, starting_point
from mlx_suite.hub.resolve import resolve
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Tokenizer, load_chat_template, load_tokenizer
from mlx_suite.text.template import dated
from mlx_suite.text.template_variables import read_variables

AnyBatches = PackedBatches | MixedBatches | BucketedBatches


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """The data of a run, encoded, before the model is loaded."""

    folder: Path
    """Folder of the model: of a fully finetuned one, if the run starts from it."""
    tokenizer: Tokenizer
    template: ChatTemplate | None
    dataset: Dataset
    train: tuple[Document, ...]
    valid: tuple[Document, ...]
    held_out: tuple[Example, ...]
    """The validation examples before encoding."""
    counts: LengthCounts
    """Effect of the length limit on training and validation examples."""
    problems: tuple[Problem, ...]
    """Problems of the rows that were skipped."""
    notes: EncodingNotes
    """What the chat template drops, and what is trained as letters."""
    too_long: tuple[Problem, ...]
    """Examples beyond the length limit, with their lengths."""
    row_length: int
    """Input positions per row: of the longest packed rows, or of the longest example with bucket."""
    context: int | None
    """Maximum context of the model in tokens; None if its config does not say."""
    fingerprint: str
    """Hash of data, template and tokenizer, to detect changes before a resume."""
    start: StartingPoint | None = None
    """What the run trains further; None for a new adapter, or for full finetuning of the model."""

    @cached_property
    def template_tokens(self) -> TemplateTokens:
        """The special tokens of the chat template, and which of them the model was never trained on."""
        rows = self.start.row_ids if self.start else None
        return template_tokens(self.folder, self.tokenizer, self.template, self.train, rows)

    @cached_property
    def trained_tokens(self) -> int:
        return sum(document.trained for document in self.train)

    @cached_property
    def tokens(self) -> int:
        return sum(map(len, self.train))


def prepare(settings: FinetuneSettings, folder: Path | None = None) -> PreparedRun:
    """Read and encode the data of a run. The model's weights are not needed.

    `folder` holds config and tokenizer; None resolves the model of the settings, and downloads it if needed.

    Raises UserError that lists every problem of the data, or the settings that differ from those of `start_from`
    (`inherited` takes them over).
    """
    folder = folder or resolve(settings.model)
    start = starting_point(settings.start_from) if settings.start_from else None
    if start is not None:
        inherited(settings, start, given=start.fixed)
        if start.adapter is None:
            check_model(folder, start)
            folder = start.folder
    tokenizer = load_tokenizer(folder)
    # Bad rows are skipped here, so that one error reports them together with rows that cannot be encoded.
    columns = dict(pair.split("=", 1) for pair in settings.columns)
    dataset = read_dataset(
        settings.data,
        format=settings.format,
        skip_bad=True,
        valid=settings.valid or None,
        split=settings.split,
        columns=columns,
    )
    train, valid = dataset.train, dataset.valid
    if not valid:
        train, valid = split(train, settings.valid_share, settings.seed)
    template = _template(settings, folder, [*train, *valid], start.template_from if start else None)
    encoded = [
        encode_all(
            examples,
            style=settings.style,
            tokenizer=tokenizer,
            template=template,
            train_on=settings.train_on,
            reasoning=settings.reasoning == "keep",
            read_special_tokens=settings.read_special_tokens,
        )
        for examples in (train, valid)
    ]
    problems = (*dataset.problems, *(problem for part in encoded for problem in part.problems))
    if problems and not (settings.skip_bad and encoded[0].documents):
        raise refusal(problems, settings.data, all_lost=not encoded[0].documents)
    if settings.too_long == ERROR:  # training and validation examples in one report
        fit([*encoded[0].documents, *encoded[1].documents], settings.max_length, ERROR)
    fitted, fitted_valid = (
        fit(part.documents, settings.max_length, settings.too_long, tokenizer.bos_id) for part in encoded
    )
    if not fitted.documents:
        raise UserError(
            "No training example is left",
            where=settings.data,
            fix="raise --max-length",
            details=[f"{fitted.counts.dropped:,} are longer than {settings.max_length:,} tokens"],
        )
    if settings.valid and not (dataset.valid and fitted_valid.documents):
        raise UserError(
            "This file has no usable validation example",
            where=settings.valid,
            fix="correct its rows, or omit --valid to split off a share of the training examples",
        )
    return PreparedRun(
        folder=folder,
        tokenizer=tokenizer,
        template=template,
        dataset=dataset,
        train=tuple(fitted.documents),
        valid=tuple(fitted_valid.documents),
        held_out=tuple(valid),
        counts=fitted.counts + fitted_valid.counts,
        problems=problems,
        notes=encoded[0].notes + encoded[1].notes,
        too_long=fitted.too_long + fitted_valid.too_long,
        row_length=_row_length(settings, fitted.documents),
        context=read_config(folder).get("max_position_embeddings"),
        fingerprint=_fingerprint(dataset, template, tokenizer, folder),
        start=start,
    )


def make_batches(prepared: PreparedRun, settings: FinetuneSettings) -> tuple[AnyBatches, AnyBatches | None]:
    """Training and validation batches; None without validation examples."""
    return _batches(prepared.train, prepared, settings), (
        _batches(prepared.valid, prepared, settings) if prepared.valid else None
    )


def _template(
    settings: FinetuneSettings, folder: Path, examples: Sequence[Example], adapter: Path | None
) -> ChatTemplate | None:
    """The chat template, the adapter's or the model's, with a fixed date; None if no conversation needs it."""
    if settings.style != CHAT or not any(example.messages for example in examples):
        return None
    try:
        return dated(load_chat_template(folder, read_variables(settings.template_args), adapter=adapter))
    except UserError as error:
        raise UserError(error.what, error.where, f"use --style alpaca; or {error.fix}", error.details) from error


def _fingerprint(dataset: Dataset, template: ChatTemplate | None, tokenizer: Tokenizer, folder: Path) -> str:
    """Hash of the examples, the template and the tokenizer. Settings are compared separately."""
    source = "" if template is None else template.source
    digest = hashlib.sha256(f"{fingerprint(dataset)}\n{source}\n".encode())
    digest.update(f"{tokenizer.bos_id} {sorted(tokenizer.stop_ids)}\n".encode())
    for name in ("tokenizer.json", "tokenizer.model"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _batches(documents: Sequence[Document], prepared: PreparedRun, settings: FinetuneSettings) -> AnyBatches:
    if settings.batching == "bucket":
        return BucketedBatches(documents, settings.batch)
    longest = max(map(len, documents)) - 1
    if settings.row_length is None:
        return mixed_batches(documents, max(prepared.row_length, longest), settings.batch)
    return PackedBatches(pack(documents, max(prepared.row_length, longest)), settings.batch)


def _row_length(settings: FinetuneSettings, documents: Sequence[Document]) -> int:
    longest = max(map(len, documents)) - 1
    if settings.batching == "bucket":
        return longest
    if settings.row_length is None:
        return usual_row_length(documents)
    if settings.row_length < longest:
        raise UserError(
            f"--row-length {settings.row_length} is shorter than the longest example, {longest + 1} tokens",
            fix=f"omit it, give {longest} or more, or cut examples with --max-length {settings.row_length + 1} "
            "--too-long truncate",
        )
    return settings.row_length
