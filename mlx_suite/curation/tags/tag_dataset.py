"""Tags and scores for the rows of any dataset, written to a file that survives kill -9.

One row is one program: the conversation is given up to the instruction's stop token, questions about the instruction
are asked aside, the rest is given, questions about the answer are asked aside. Every token of a row is fed once.

What is known of a row is kept by what the row says: rows that are added to the data, or change their places, cost only
themselves. Models come one after the other, so memory has to hold one at a time.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.adapters.lora import adapted_layers
from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.checkpoints.reward_model import RewardModel
from mlx_suite.curation.dataset import write_rows
from mlx_suite.curation.rows import Record
from mlx_suite.curation.tags.ask import ask_row
from mlx_suite.curation.tags.findings import Findings, key_of
from mlx_suite.curation.tags.scores import (
    Measurements,
    ScoredConversation,
    base_log_probs,
    measured_rewards,
    own_log_probs,
)
from mlx_suite.curation.tags.settings import TagSettings
from mlx_suite.curation.tags.tag_file import TagFile
from mlx_suite.curation.tags.tagging import Tagger, make_tagger, only
from mlx_suite.data.questions import Questions
from mlx_suite.engine import Counts, Engine, Program, Request
from mlx_suite.engine.chat_model import Speaker
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal, read_lines
from mlx_suite.text import Tokenizer

CHUNK = 32
"""Rows whose scores are computed at a time, and lost by a kill."""
Tell = Callable[[str, int, int], None]
"""Called with the part that is being done, how many rows of it are done and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """Ways to load what is needed, each called when its turn comes."""

    main: Callable[[], tuple[Any, Speaker]]
    """Gives the tags, and scores by its log-probabilities."""
    base: Callable[[], tuple[Any, Tokenizer]] | None = None
    """The model that it was tuned from."""
    reward: Callable[[], tuple[RewardModel, Speaker]] | None = None


@dataclass(frozen=True, kw_only=True)
class TagRun:
    """What a run has made."""

    rows: tuple[Record, ...]
    """As they stand in the file."""
    reused: int
    """Rows of which everything was known already."""
    counts: Counts
    """Tokens fed for tags."""
    seconds: Mapping[str, float]
    """Of each part that there was something to do for, loading included for all models but the first."""


def tag_rows(
    rows: Sequence[Record],
    models: Models,
    questions: Questions,
    settings: TagSettings,
    out: Path,
    tell: Tell = lambda part, done, total: None,
) -> TagRun:
    """Write `rows` to `out` with `tags`, `confidence` and `scores`, or go on with it.

    Other fields stay; a tag or score that a row has already stays unless it is asked for here. A row that cannot be
    put to the model is written with the reason in `untagged`. The file is the same bytes however often the run was
    interrupted (in fp32).

    Raises UserError where the file was begun with another model or other settings, or is not ours, and for questions,
    templates and vocabularies that do not fit.
    """
    asked = only(questions, settings.only) if settings.only and not settings.asks_nothing else questions
    model, speaker = models.main()
    tagger = make_tagger(speaker.tokenizer, speaker.template, asked, embed=False)
    file = TagFile(out=out, facts=_facts(model, speaker, asked, settings))
    file.check()
    findings = Findings(settings=settings, names=[question.name for question in asked.questions])
    passes = _Passes(models=models, settings=settings, speaker=speaker, tagger=tagger, model=model)
    del model  # so that it can make room for the next
    row_of = {key_of(row): row for row in rows}
    with Journal(file.unfinished) as journal:
        file.begin()
        for _ in chain(file.finished_rows(findings.recall), read_lines(file.unfinished, findings.take)):
            pass
        reused = findings.complete(map(key_of, rows))
        for part in settings.parts:
            waiting = findings.lacking(part, row_of)
            done = len(row_of) - len(waiting)
            tell(part, done, len(row_of))
            for line in passes.lines(part, {key: row_of[key] for key in waiting}):
                journal.append(line)
                findings.take(line)
                done += 1
                tell(part, done, len(row_of))
        tagged = tuple(map(findings.row, rows))
        write_rows(out, tagged)
        file.unfinished.unlink(missing_ok=True)
    return TagRun(rows=tagged, reused=reused, counts=passes.counts, seconds=passes.seconds)


def _facts(model: Any, speaker: Speaker, questions: Questions, settings: TagSettings) -> dict[str, Any]:
    """What tags and scores depend on. Not the rows: some may be added."""
    return {
        "weights": weights_digest(model),
        "adapter_scale": sorted({float(layer.scale) for layer in adapted_layers(model).values()}),
        "template": _digest(speaker.template.source),
        "questions": None if settings.asks_nothing else _digest(json.dumps(asdict(questions), sort_keys=True)),
        "asked": [] if settings.asks_nothing else [question.name for question in questions.questions],
        "scores": sorted(settings.scores),
        "base": settings.base,
        "reward_model": settings.reward_model,
        "names": {"model": speaker.name},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(kw_only=True)
class _Passes:
    """Each part for many rows; gives lines for the journal."""

    models: Models
    settings: TagSettings
    speaker: Speaker
    tagger: Tagger
    model: Any
    """None once its turn is over."""
    counts: Counts = field(default_factory=Counts)
    seconds: dict[str, float] = field(default_factory=dict)

    def lines(self, part: str, rows: Mapping[str, Record]) -> Iterator[Record]:
        if not rows:
            return
        started = time.perf_counter()
        found = self._tags(rows) if part == "tags" else self._figures(rows, self._measure(part))
        for line in found:
            yield {**line, "part": part}
        self.seconds[part] = time.perf_counter() - started

    def _tags(self, rows: Mapping[str, Record]) -> Iterator[Record]:
        # Nothing is sampled, so programs run one behind the other, and one slot serves them all.
        engine = Engine(self.model, slots=1, context=self.speaker.context)
        self.counts = engine.counts
        for done in engine.run(Request(program=self._program(key, row)) for key, row in rows.items()):
            yield done.result

    def _program(self, key: str, row: Record) -> Program:
        spoken = self.speaker.speak(row["messages"])
        if isinstance(spoken, str):
            return {"key": key, "untagged": spoken}
        found = yield from ask_row(spoken, [self.tagger])
        if found is None:
            return {"key": key, "untagged": "too_long"}
        [tags] = found
        return {
            "key": key,
            "tags": {name: tag.label for name, tag in tags.items()},
            "confidence": {name: tag.confidence for name, tag in tags.items()},
        }

    def _figures(
        self, rows: Mapping[str, Record], measure: Callable[[Sequence[ScoredConversation]], list[Measurements]]
    ) -> Iterator[Record]:
        keys = list(rows)
        for start in range(0, len(keys), CHUNK):
            some = keys[start : start + CHUNK]
            talks = {key: talk for key in some if (talk := self._talk(rows[key])) is not None}
            figures = dict(zip(talks, measure(list(talks.values())), strict=True))
            yield from ({"key": key, "figures": figures.get(key, {})} for key in some)

    def _talk(self, row: Record) -> ScoredConversation | None:
        """None where there is no answer to score, or no room for it."""
        spoken = self.speaker.speak(row["messages"])
        if isinstance(spoken, str) or spoken.answer is None or len(spoken.ids) > self.speaker.context:
            return None
        other = row.get("base_output")
        return ScoredConversation(
            messages=row["messages"], spoken=spoken, base_output=other if isinstance(other, str) else None
        )

    def _measure(self, part: str) -> Callable[[Sequence[ScoredConversation]], list[Measurements]]:
        if part == "own":
            return lambda talks: own_log_probs(self.model, self.speaker.tokenizer, talks, bare=self.settings.bare)
        self.model = None
        mx.clear_cache()
        if part == "base":
            assert self.models.base is not None, "a base model is wanted"
            base, tokenizer = self.models.base()
            _check_vocabulary(self.speaker.tokenizer, tokenizer)
            return lambda talks: base_log_probs(base, tokenizer, talks)
        assert self.models.reward is not None, "a reward model is wanted"
        judge, speaker = self.models.reward()
        return lambda talks: measured_rewards(judge, speaker, talks)


def _check_vocabulary(ours: Tokenizer, theirs: Tokenizer) -> None:
    """Raises UserError unless the same ids mean the same text. Special tokens may be called otherwise."""
    special = ours.special_ids | theirs.special_ids
    ids = (index for index in range(max(ours.vocab_size, theirs.vocab_size)) if index not in special)
    differing = next((index for index in ids if ours.token_of(index) != theirs.token_of(index)), None)
    if differing is not None:
        pair = ours.token_of(differing), theirs.token_of(differing)
        raise UserError(
            f"The base model has another vocabulary: token {differing} is {pair[0]!r} here and {pair[1]!r} there",
            where=theirs.origin,
            fix="name the model that this one was tuned from",
        )
