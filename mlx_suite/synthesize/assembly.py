"""The augmented corpus, put together from the completions: documents to pretrain on, and what each text was given.

Everything depends only on corpus, completions and settings, so that a resumed run ends with the same bytes. One shard
at a time is in memory.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

from mlx_suite.synthesize.completions import NO_ROOM, Completion, Completions
from mlx_suite.synthesize.format import Example, Pair
from mlx_suite.synthesize.generation import Task
from mlx_suite.synthesize.layouts import INVERTED, lay_out
from mlx_suite.synthesize.ledger import Ledger
from mlx_suite.synthesize.quality import Quality, Truth
from mlx_suite.synthesize.repetition import REPEATED_QUESTION, REPEATED_TEXT, RepetitionFilter
from mlx_suite.synthesize.rephrase import CONTINUE, PIT, writes_pairs
from mlx_suite.synthesize.rounds import ChainItem, split_chain
from mlx_suite.synthesize.sources import SourceText
from mlx_suite.synthesize.writer import Outcome, Writer, read_outcome

RAW = "raw"
TOO_LONG, NOTHING_VALID = "too long for the context", "nothing valid was written"
"""Reasons why a text is kept raw, beside those of `sources` and `Writer.refusal`."""


@dataclass(frozen=True, kw_only=True)
class CorpusDocument:
    """A text to pretrain on."""

    text: str
    form: str
    """What it is: `raw`, or a form of `rephrase.FORMS`."""
    sources: tuple[str, ...]
    """Keys of the texts in it, or that it was written from."""

    def record(self) -> dict[str, Any]:
        return {"text": self.text, "form": self.form, "sources": list(self.sources)}


@dataclass(frozen=True, kw_only=True)
class AssembledShard:
    """What was made of a shard in one repeat."""

    documents: list[CorpusDocument]
    records: list[dict[str, Any]]
    """One for each text."""


@dataclass(frozen=True, kw_only=True)
class WrittenShard:
    """The texts of a shard with what was written from them, one task for each form."""

    tasks: Sequence[Task]
    sources: Sequence[SourceText]
    completions: Completions

    @property
    def repeat(self) -> int:
        return self.tasks[0].repeat

    @property
    def converted(self) -> list[SourceText]:
        """The texts from which something was to be written."""
        return [source for source in self.sources if not source.kept_raw]

    def found_no_room(self, source: SourceText) -> bool:
        """Whether no prompt with this text fitted into the context."""
        return all(_found_no_room(self.completions[task.form, source.key]) for task in self.tasks)


Outcomes = dict[tuple[str, str], Outcome]
"""By form and key of the text."""


@dataclass(kw_only=True)
class Assembler:
    """Puts shards together; they have to come in the order of repeats and shards."""

    writer: Writer
    seed: int
    truth: Truth = field(default_factory=dict)
    dedupe: bool = False
    """Whether questions may not repeat those of other texts."""
    grows: bool = False
    """Whether texts are written from more than once, so that repetitions are to be expected."""

    def __post_init__(self) -> None:
        self.ledger, self.quality = Ledger(), Quality()
        self.kept_raw: Counter[str] = Counter()
        """Texts, or parts of them, from which nothing was written, or nothing accepted, by reason."""
        self.converted = self.parts = self.split = self.unusable_options = 0
        self._questions = RepetitionFilter(everywhere=self.dedupe)
        self._rewrites: dict[str, RepetitionFilter] = {}
        self._chains = 0

    def add(self, shard: WrittenShard) -> AssembledShard:
        """Put the next shard together."""
        outcomes = {
            (task.form, source.key): self._outcome(shard.completions[task.form, source.key], source)
            for task in shard.tasks
            for source in shard.converted
        }
        raw = {source.key: _kept_raw(source, shard, outcomes) for source in shard.sources}
        documents = self._documents(shard, outcomes)
        if shard.repeat == 0:
            self._count(shard.sources, raw)
            records = [_first_record(source, shard, outcomes, raw[source.key]) for source in shard.sources]
        else:
            records = [record for source in shard.converted if (record := _later_record(source, shard, outcomes))]
        return AssembledShard(documents=documents, records=records)

    # ---- what is accepted

    def _outcome(self, completion: Completion, source: SourceText) -> Outcome:
        outcome = read_outcome(self.writer, source.text, completion.text, completion.reason, completion.form)
        if _found_no_room(completion):
            outcome = Outcome(dropped=Counter({TOO_LONG: 1}))
        elif writes_pairs(completion.form):
            self.quality.add_pieces(outcome)
            outcome = self._new_pairs(outcome, source)
        elif outcome.rewrite:
            outcome = self._new_rewrite(outcome, source, completion.form)
        self.ledger.add(completion, outcome.accepted, outcome.dropped)
        return outcome

    def _new_pairs(self, outcome: Outcome, source: SourceText) -> Outcome:
        pairs, passage = [], self.truth.get(source.text)
        dropped = Counter(outcome.dropped)
        for pair in outcome.pairs:
            if (self.dedupe or self.grows) and not self._questions.is_new(pair.question, source.key):
                dropped[REPEATED_QUESTION] += 1
                continue
            pairs.append(pair)
            self.quality.add_pair(pair, source.text, passage)
        return replace(outcome, pairs=tuple(pairs), dropped=dropped)

    def _new_rewrite(self, outcome: Outcome, source: SourceText, form: str) -> Outcome:
        earlier = self._rewrites.setdefault(form, RepetitionFilter(exactly=True))
        if self.grows and not earlier.is_new(outcome.rewrite, source.key):
            return Outcome(dropped=Counter({REPEATED_TEXT: 1}))
        if form != CONTINUE:  # which need not repeat the facts of its text
            self.quality.add_rewrite(form, outcome.rewrite, self.truth.get(source.text))
        return outcome

    def _count(self, sources: Sequence[SourceText], raw: dict[str, str]) -> None:
        self.kept_raw.update(raw[source.key] for source in sources if raw[source.key])
        self.converted += sum(not raw[source.key] for source in sources)
        self.parts += len(sources)
        self.split += sum(source.parts > 1 and source.part == 0 for source in sources)

    # ---- documents

    def _documents(self, shard: WrittenShard, outcomes: Outcomes) -> list[CorpusDocument]:
        """The shard's documents in the order of their first texts.

        Every text that is not blank is in exactly one document of the first repeat: with its pairs, or raw.
        """
        order = {source.key: place for place, source in enumerate(shard.sources)}
        documents: list[CorpusDocument] = []
        for task in shard.tasks:
            make = self._chain_documents if writes_pairs(task.form) else _rewrite_documents
            documents += make(task, shard, outcomes)
        if shard.repeat == 0:
            held = {key for each in documents if writes_pairs(each.form) for key in each.sources}
            documents += _raw_documents([source for source in shard.sources if source.key not in held])
        # A raw text stands before what was written from it; sorting is stable.
        return sorted(documents, key=lambda each: (order[each.sources[0]], each.form != RAW))

    def _chain_documents(self, task: Task, shard: WrittenShard, outcomes: Outcomes) -> Iterator[CorpusDocument]:
        for chain in task.chains(shard.sources):
            items = [
                ChainItem(
                    value=source,
                    shots=shard.completions[task.form, source.key].shots,
                    is_empty=not outcomes[task.form, source.key].pairs,
                )
                for source in chain
            ]
            for texts in split_chain(items):
                if outcomes[task.form, texts[0].key].pairs:
                    yield self._laid_out(texts, task.form, outcomes)

    def _laid_out(self, texts: Sequence[SourceText], form: str, outcomes: Outcomes) -> CorpusDocument:
        examples = [Example(text=source.text, pairs=outcomes[form, source.key].pairs) for source in texts]
        laid_out = lay_out(examples, seed=self.seed, number=self._chains, inverted=1.0 if form == PIT else INVERTED)
        self._chains += 1
        self.unusable_options += laid_out.dropped.total()
        return CorpusDocument(text=laid_out.text, form=form, sources=tuple(source.key for source in texts))


def _raw_documents(sources: Sequence[SourceText]) -> Iterator[CorpusDocument]:
    """Raw texts that are not blank; parts that follow one another are joined again."""
    for _, group in groupby(enumerate(sources), key=lambda each: (each[1].number, each[1].part - each[0])):
        parts = [source for _, source in group]
        text = "".join(part.text for part in parts)
        if text.strip():
            yield CorpusDocument(text=text, form=RAW, sources=tuple(part.key for part in parts))


def _rewrite_documents(task: Task, shard: WrittenShard, outcomes: Outcomes) -> Iterator[CorpusDocument]:
    for source in shard.converted:
        if rewrite := outcomes[task.form, source.key].rewrite:
            yield CorpusDocument(text=rewrite, form=task.form, sources=(source.key,))


def _found_no_room(completion: Completion) -> bool:
    return completion.reason == NO_ROOM and not completion.written


def _kept_raw(source: SourceText, shard: WrittenShard, outcomes: Outcomes) -> str:
    """Why a text is kept raw; empty if something was accepted."""
    if source.kept_raw:
        return source.kept_raw
    if any(not outcomes[task.form, source.key].is_empty for task in shard.tasks):
        return ""
    return TOO_LONG if shard.found_no_room(source) else NOTHING_VALID


# ---- records


def _first_record(source: SourceText, shard: WrittenShard, outcomes: Outcomes, raw: str) -> dict[str, Any]:
    """A text and what was written from it."""
    head = {"source": source.key, "place": source.place, "text": source.text, **({"kept_raw": raw} if raw else {})}
    return {**head, "written": [] if source.kept_raw else _written(source, shard, outcomes)}


def _later_record(source: SourceText, shard: WrittenShard, outcomes: Outcomes) -> dict[str, Any] | None:
    """What was accepted when a text was read again; None if nothing was."""
    written = [each for each in _written(source, shard, outcomes) if each.get("pairs") or each.get("rewrite")]
    return {"source": source.key, "repeat": shard.repeat, "written": written} if written else None


def _written(source: SourceText, shard: WrittenShard, outcomes: Outcomes) -> list[dict[str, Any]]:
    return [
        _written_record(task.form, shard.completions[task.form, source.key], outcomes[task.form, source.key])
        for task in shard.tasks
    ]


def _written_record(form: str, completion: Completion, outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = {"form": form, "shots": completion.shots}
    if writes_pairs(form):
        record["pairs"] = [_pair_record(pair) for pair in outcome.pairs]
    elif outcome.rewrite:
        record["rewrite"] = outcome.rewrite
    if outcome.dropped:
        record["dropped"] = dict(sorted(outcome.dropped.items()))
    return record


def _pair_record(pair: Pair) -> dict[str, Any]:
    return {name: value for name, value in asdict(pair).items() if value}
