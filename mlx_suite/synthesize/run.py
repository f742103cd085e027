"""Write an augmented corpus into a folder, or resume: read a shard, write from it, put its documents together.

The folder (`output.README`) is resumed only with the same model, corpus and settings. Every completion is appended to a
journal when it ends; the other files depend on journal and corpus alone and replace earlier ones at the end. So a run
that was killed twenty times ends with the bytes of one that was not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.engine import Sampling, context_length
from mlx_suite.engine.step import GREEDY
from mlx_suite.runtime.journal import Journal
from mlx_suite.runtime.stage import open_stage
from mlx_suite.synthesize.assembly import Assembler, WrittenShard
from mlx_suite.synthesize.completions import COMPLETIONS_FILE, Completion, CompletionReader
from mlx_suite.synthesize.generation import Task, TextGenerator
from mlx_suite.synthesize.grow import Growth
from mlx_suite.synthesize.output import CORPUS_FILE, TEXTS_FILE, replaced_file, write_summary
from mlx_suite.synthesize.quality import Truth
from mlx_suite.synthesize.rephrase import CONTINUE
from mlx_suite.synthesize.settings import Lengths, SynthesisSettings
from mlx_suite.synthesize.shards import SHARD_TEXTS, Census, CorpusShards, Shard
from mlx_suite.synthesize.sources import SourceText, sources_of, split_text
from mlx_suite.synthesize.summary import Summary
from mlx_suite.synthesize.writer import Writer

KIND = "mlx-suite synthesize run"
SPLIT_SLACK = 8
"""Tokens by which a part of a text may be longer than its sentences counted one by one."""
OnProgress = Callable[[str, int, int], None]
"""Called with the stage, the number of texts done, and their number in all."""


@dataclass(frozen=True, kw_only=True)
class CorpusJob:
    """A corpus to convert, and what converts it."""

    model: Any
    """Ours or mlx-lm's, tokens (B, L) → logits (B, L, V)."""
    writer: Writer
    corpus: CorpusShards
    settings: SynthesisSettings
    model_name: str = ""
    batch: int = 16
    """Chains that are written at the same time; it does not affect the texts (in float32)."""
    truth: Truth = field(default_factory=dict)
    """Passages whose facts are known."""
    skip_bad: bool = False
    """Whether unreadable texts are counted instead of refused."""
    tell: OnProgress = lambda stage, done, total: None

    @property
    def context(self) -> int:
        return min(context_length(self.model), self.settings.max_context)

    def lengths(self, form: str) -> Lengths:
        """Limits in tokens for a form. Raises UserError if the context has no room for a text."""
        return self.settings.lengths(self.context, len(self.writer.prompt((), "", form)), form)

    def facts(self, census: Census) -> dict[str, Any]:
        """Everything that the completions depend on."""
        settings = self.settings
        lengths = {form: self.lengths(form) for form in settings.forms}
        return {
            "model": self.model_name,
            "weights": weights_digest(self.model),
            "writer": self.writer.facts(),
            "corpus": {"texts": census.texts, "digest": census.digest},
            "forms": list(settings.forms),
            "share": settings.share,
            "rounds": settings.rounds,
            "tokens": {form: [each.written, each.prompt, each.passage] for form, each in lengths.items()},
            "temperature": settings.temperature,
            "seed": settings.seed,
        }


def synthesize(job: CorpusJob, folder: Path) -> Summary:
    """Fill `folder`, or resume filling it; a complete folder is put together again from its completions.

    A folder can be run again with other `times`, `until_tokens` and `dedupe`: its completions are reused.

    Raises UserError for a corpus that cannot be read or that changed, a folder that is not ours or was started with
    another model, corpus or settings, a tokenizer without EOS, a context without room for a text, and a full disk.
    """
    lengths = {form: job.lengths(form) for form in job.settings.forms}
    census = job.corpus.census(skip_bad=job.skip_bad)
    with open_stage(folder, KIND, job.facts(census)), Journal(folder / COMPLETIONS_FILE) as journal:
        return _Run(job, census, lengths, folder, journal).fill()


class _Run:
    """One session of filling a folder."""

    def __init__(
        self, job: CorpusJob, census: Census, lengths: dict[str, Lengths], folder: Path, journal: Journal
    ) -> None:
        self.job, self.census, self.lengths, self.folder, self.journal = job, census, lengths, folder, journal
        settings = job.settings
        self.reader = CompletionReader(journal.path, journal.count)
        self.generator = TextGenerator(job.model, job.writer, slots=job.batch, context=job.context)
        self.assembler = Assembler(
            writer=job.writer,
            seed=settings.seed,
            truth=job.truth,
            dedupe=settings.dedupe,
            grows=settings.grows,
        )
        # A text is counted when it is split, as a source and as a raw document, all within its shard.
        self._tokens = lru_cache(maxsize=2 * SHARD_TEXTS)(lambda text: len(job.writer.tokenizer.encode(text)))
        self.growth = Growth(settings=settings, count=self._tokens)
        self.done = 0

    def fill(self) -> Summary:
        def kept() -> str:
            return f"{self.journal.count:,} completions are kept"

        with (
            replaced_file(self.folder / CORPUS_FILE, kept) as write_document,
            replaced_file(self.folder / TEXTS_FILE, kept) as write_text,
        ):
            for repeat in count():
                self.done = 0
                for shard in self.job.corpus.checked(self.census):
                    assembled = self.assembler.add(self._write(repeat, shard))
                    for record in assembled.records:
                        write_text(record)
                    for document in assembled.documents:
                        if self.growth.takes(document):
                            write_document(document.record())
                if self.growth.ends():
                    break
        summary = Summary(
            folder=self.folder,
            model=self.job.model_name,
            census=self.census,
            assembler=self.assembler,
            growth=self.growth,
        )
        write_summary(self.folder, summary.as_dict())
        return summary

    def _write(self, repeat: int, shard: Shard) -> WrittenShard:
        """Write what is missing from a shard."""
        settings = self.job.settings
        if repeat == 0:
            for each in shard.texts:
                self.growth.add_source(each.text)
        sources = self._sources(shard)
        completions = self.reader.take(repeat, shard.number)
        tasks = [self._task(repeat, shard, form) for form in settings.forms]
        stage, total = f"repeat {repeat}" if repeat else "write", self.census.texts * len(tasks)
        for task in tasks:
            ready = [s for s in sources if s.kept_raw or (task.form, s.key) in completions]
            self.done += sum(source.is_last_part for source in ready)
            self.job.tell(stage, self.done, total)

            def keep(source: SourceText, completion: Completion) -> None:
                self.journal.append(completion.record())
                completions[completion.form, completion.source] = completion
                self.done += source.is_last_part
                self.job.tell(stage, self.done, total)

            self.generator.run(task, sources, completions, keep)
        return WrittenShard(tasks=tasks, sources=sources, completions=completions)

    def _task(self, repeat: int, shard: Shard, form: str) -> Task:
        settings = self.job.settings
        is_sampled = repeat > 0 or form == CONTINUE
        banned = self.job.writer.banned
        sampling = Sampling(temperature=settings.temperature if is_sampled else GREEDY.temperature, banned=banned)
        return Task(
            repeat=repeat,
            shard=shard.number,
            form=form,
            sampling=sampling,
            lengths=self.lengths[form],
            rounds=settings.rounds,
            seed=settings.seed,
        )

    def _sources(self, shard: Shard) -> list[SourceText]:
        settings = self.job.settings
        longest = min(each.passage for each in self.lengths.values())
        return sources_of(
            shard,
            shard.chosen(settings.share, settings.seed),
            self.job.writer.refusal,
            lambda text: split_text(text, self._tokens, max(longest - SPLIT_SLACK, SPLIT_SLACK)),
        )
