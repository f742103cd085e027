"""`mlx-suite synthesize run`: write pairs and rewrites from the texts of a corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.settings import SynthesisSettings

from .checkpoint import Checkpoint, open_checkpoint
from .flags import AdapterFolder, AsJson, Batch, OutFolder, Quiet, check_choice, print_json, resumable
from .options import Flag, takes_settings
from .output import progress_lines, show

if TYPE_CHECKING:
    from mlx_suite.synthesize.quality import Quality, Truth
    from mlx_suite.synthesize.shards import CorpusShards
    from mlx_suite.synthesize.summary import Summary
    from mlx_suite.synthesize.writer import Writer

GROUPS = {
    "What to write": ("forms", "share", "rounds", "dedupe"),
    "Growing a small corpus": ("times", "until_tokens", "temperature"),
    "Lengths": ("max_tokens", "max_context", "passage"),
    "Randomness": ("seed",),
}
FLAGS = {
    "forms": Flag(names=("--as",), metavar="FORMS"),
    "max_tokens": Flag(metavar="N"),
    "max_context": Flag(metavar="N"),
    "passage": Flag(metavar="N"),
    "times": Flag(metavar="X"),
    "until_tokens": Flag(metavar="N"),
}
COMMON = ("forms", "share", "rounds", "times")
FORMATS = ("auto", "tags", "chat")


@takes_settings(SynthesisSettings, GROUPS, FLAGS, COMMON)
def synthesize_run(
    typed: Mapping[str, Any],
    synthesizer: Annotated[
        str,
        typer.Argument(
            metavar="SYNTH",
            help="A synthesizer, or any instruct model: a name from `models list`, a folder, or OWNER/REPO on the hub.",
        ),
    ],
    corpus: Annotated[
        str,
        typer.Argument(
            metavar="CORPUS",
            help="A file, a folder, OWNER/REPO on the hub, or microworld:COUNT[:SEED], passages whose facts are known.",
            show_default=False,
        ),
    ],
    out: OutFolder,
    adapter: AdapterFolder = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            hidden=True,
            help="tags (the synthesizer's own format) or chat (an instruct model). Default: chat if the model has a "
            "chat template and no synthesizer.json.",
        ),
    ] = "auto",
    language: Annotated[
        str, typer.Option(help="Language that an instruct model writes in. Default: that of each text.")
    ] = "",
    field: Annotated[
        str, typer.Option(metavar="NAME", hidden=True, help="Field of a record that holds its text.")
    ] = "text",
    separator: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", hidden=True, help="What stands between the documents of a text file; \\n is a newline."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", hidden=True, help="Use only the first N texts.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", hidden=True, help="Leave out unreadable texts.")] = False,
    batch: Batch = 16,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write instruction-response pairs from the texts of a corpus (arXiv 2406.14491), or rewrite the texts.

    DIR gets corpus.jsonl, documents to pretrain on, and texts.jsonl, each text with what was written from it. No text
    is lost: one from which nothing valid was written is kept as it is, and a long one is cut at sentence ends. A corpus
    may be larger than memory. A run that was stopped or killed is resumed by the same command.

    Example: `mlx-suite synthesize run tiny-synthesizer microworld:100 --out augmented/`

    Example: `mlx-suite synthesize run tiny-synthesizer texts/ --share 0.2 --out augmented/`

    Example: `mlx-suite synthesize run OWNER/MODEL notizen.jsonl --language German --as pairs,faq --out augmented/`

    Example: `mlx-suite synthesize run OWNER/MODEL stories.txt --as prose,continue,pairs --times 10 --out grown/`
    """
    check_choice("--format", format, FORMATS)
    settings = SynthesisSettings(**typed)
    shards, truth = _corpus(corpus, field, separator, limit)
    from mlx_suite.synthesize.run import CorpusJob, synthesize

    checkpoint = open_checkpoint(synthesizer, quiet, adapter)
    with resumable(f"Everything written so far is in {out}"), progress_lines("texts", quiet) as update:
        summary = synthesize(
            CorpusJob(
                model=checkpoint.model,
                writer=writer_for(checkpoint, settings.forms, format, language, batch),
                corpus=shards,
                settings=settings,
                model_name=checkpoint.name,
                batch=batch,
                truth=truth,
                skip_bad=skip_bad,
                tell=update,
            ),
            out,
        )
    if as_json:
        print_json({"folder": str(out), **summary.as_dict()})
    else:
        show(_figures(summary))


def _corpus(source: str, field: str, separator: str | None, limit: int | None) -> "tuple[CorpusShards, Truth]":
    """The corpus, and its passages if it is the microworld's."""
    from mlx_suite.data.corpus.documents import read_corpus
    from mlx_suite.synthesize.shards import CorpusShards
    from mlx_suite.synthesize.worlds import heldout_passages, heldout_texts, is_heldout_corpus

    if is_heldout_corpus(source):
        passages = heldout_passages(source)
        shards = CorpusShards(partial(heldout_texts, source, passages), name=source, limit=limit)
        return shards, {passage.text: passage for passage in passages}
    if separator is not None:
        separator = separator.replace("\\n", "\n")
    read = partial(read_corpus, source, field=field, separator=separator)
    return CorpusShards(read, name=source, limit=limit), {}


def writer_for(checkpoint: Checkpoint, forms: Sequence[str], format: str, language: str, batch: int) -> "Writer":
    from mlx_suite.engine.never_sampled import untrained
    from mlx_suite.synthesize.instruct import ChatWriter, check_trained_forms, is_chat_model
    from mlx_suite.synthesize.writer import TagWriter

    folders = [each for each in (checkpoint.adapter_folder, checkpoint.folder) if each is not None]
    if format == "chat" or (format == "auto" and is_chat_model(folders)):
        return ChatWriter(chat=checkpoint.chat_model(batch), language=language)
    if language:
        raise UserError(
            "A synthesizer writes in the language that it was trained on",
            where="--language",
            fix="name an instruct model as SYNTH, or omit --language",
        )
    check_trained_forms(folders, forms)
    writer = TagWriter(tokenizer=checkpoint.tokenizer)
    return replace(writer, banned=tuple(sorted(untrained(checkpoint.model, checkpoint.tokenizer) - writer.stops)))


def _figures(summary: "Summary") -> list[tuple[str, str]]:
    facts = summary.as_dict()
    figures = [("texts", f"{facts['texts']:,}")]
    if facts["split"]:
        figures.append(("", f"{facts['split']:,} are long and cut at sentence ends: {facts['parts']:,} parts in all"))
    figures.append(("converted", f"{facts['converted']:,}"))
    figures += [("kept raw", f"{number:,}: {reason}") for reason, number in facts["kept_raw"].items()]
    if facts["unreadable"]:
        figures.append(("", f"{facts['unreadable']:,} unreadable, left out"))
    for form, cost in summary.ledger.forms.items():
        name = "pairs" if form in ("pairs", "pit") else "rewrites"
        figures.append((form, f"{cost.accepted:,} {name} accepted, {cost.dropped.total():,} dropped"))
        figures += [("", f"dropped: {number:,} {reason}") for reason, number in cost.dropped.most_common()]
        spent = f"{cost.read:,} tokens read, {cost.written:,} written in {cost.seconds:,.1f} s"
        if cost.tokens_per_accepted is not None:
            spent += (
                f"; {cost.tokens_per_accepted:,.1f} tokens and {cost.seconds_per_accepted:,.3f} s for each accepted"
            )
        figures.append(("", spent))
    figures += _quality(summary.quality)
    growth = summary.growth
    times = growth.total / max(growth.source_tokens, 1)
    figures.append(("corpus", f"{growth.total:,} tokens, {times:.2f} times the {growth.source_tokens:,} of the texts"))
    if growth.stalled:
        figures.append(("", f"stopped after {growth.repeats} repeats: almost nothing new was written"))
    figures.append(("folder", str(summary.folder)))
    return figures


def _quality(quality: "Quality") -> list[tuple[str, str]]:
    figures = []
    if quality.pieces:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in quality.kinds.most_common())
        figures.append(("parsed", f"{quality.parsed / quality.pieces:.1%} of {quality.pieces:,} pieces"))
        figures.append(("kinds", kinds or "none"))
    if quality.quoted_share is not None:
        figures.append(("quoted", f"{quality.quoted_share:.0%} of the words of an answer stand in its text"))
    if quality.repeated:
        share = quality.repeated / quality.compared
        figures.append(
            ("repeated", f"{share:.0%} of {quality.compared:,} questions nearly repeat another: see --dedupe")
        )
    if quality.truth is not None:
        judged = quality.truth.judged
        figures.append(
            (
                "truth",
                f"{quality.truth.grounded / judged:.1%} of {judged:,} pairs ask what the text answers, "
                f"{quality.truth.right / judged:.1%} are right",
            )
        )
    for form, facts in quality.facts.items():
        total = max(facts.kept + facts.lost, 1)
        figures.append(
            (
                "facts",
                f"{form}: {facts.kept / total:.1%} kept, {facts.lost / total:.1%} lost, {facts.invented:,} invented",
            )
        )
    return figures
