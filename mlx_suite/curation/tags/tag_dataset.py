"""Tag and score the rows of any dataset, into a file that survives kill -9.

One row is one program: the conversation is fed up to the instruction's stop token, questions about the instruction are
queried on a fork of the KV cache, the rest is fed, and questions about the response are queried. Every token of a row
is fed once.

Results are stored under a hash of the row's text, so adding or moving rows does not recompute the others. Models are
loaded one after the other, so memory holds one at a time.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.adapters.lora import adapted_layers
from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.curation.dataset import write_rows
from mlx_suite.curation.rows import Record
from mlx_suite.curation.tags.scores import (
    Measurements,
    ScoredConversation,
    base_log_probs,
    measured_rewards,
    own_log_probs,
)
from mlx_suite.curation.tags.settings import TagSettings
from mlx_suite.curation.tags.tag_file import TagFile, TagResults, key_of
from mlx_suite.curation.tags.tagging import Tagger, ask_row, make_tagger, only
from mlx_suite.data.questions import Questions
from mlx_suite.engine import Engine, EngineStats, Program, Request
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.modeling.reward_model import RewardModel
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal, read_lines
from mlx_suite.text import Tokenizer

CHUNK = 32
"""Rows scored per batch, the most that a kill loses."""
OnProgress = Callable[[str, int, int], None]
"""Called with the current part, the number of rows done and the total."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """Loaders of the models, each called when its pass begins."""

    main: Callable[[], ChatModel]
    """The model that tags, and whose log-probabilities give scores."""
    base: Callable[[], tuple[Any, Tokenizer]] | None = None
    """The base model that `main` was tuned from."""
    reward: Callable[[], tuple[RewardModel, ChatModel]] | None = None


@dataclass(frozen=True, kw_only=True)
class TagRun:
    """Result of a run."""

    rows: tuple[Record, ...]
    """Rows as written to the file."""
    reused: int
    """Number of rows that an earlier run had finished."""
    stats: EngineStats
    """Token counts of the tagging pass."""
    seconds: Mapping[str, float]
    """Duration of each part that had work to do, including the loading of all models but the first."""


def tag_rows(
    rows: Sequence[Record],
    models: Models,
    questions: Questions,
    settings: TagSettings,
    out: Path,
    on_progress: OnProgress = lambda part, done, total: None,
) -> TagRun:
    """Write `rows` to `out` with `tags`, `confidence` and `scores`, or resume an interrupted run.

    All other fields stay, as do existing tags and scores that are not requested here. A row that the template rejects
    or that exceeds the context is written with the reason in `untagged`. The file is byte-identical however often the
    run was interrupted (in fp32).

    Raises UserError if the file was started with another model or other settings or is not ours, and for unsuitable
    questions, templates and vocabularies.
    """
    asked = only(questions, settings.only) if settings.only and not settings.asks_nothing else questions
    chat = models.main()
    tagger = make_tagger(chat.tokenizer, chat.own_template, asked, embed=False)
    file = TagFile(out=out, facts=_facts(chat, asked, settings))
    file.check()
    results = TagResults(settings=settings, names=[question.name for question in asked.questions])
    passes = _Passes(models=models, settings=settings, chat=chat, tagger=tagger)
    del chat  # `passes` frees its model before the next one is loaded
    row_of = {key_of(row): row for row in rows}
    with Journal(file.unfinished) as journal:
        file.begin()
        for _ in chain(file.finished_rows(results.add_finished), read_lines(file.unfinished, results.add_line)):
            pass
        reused = results.complete(map(key_of, rows))
        for part in settings.parts:
            waiting = results.lacking(part, row_of)
            done = len(row_of) - len(waiting)
            on_progress(part, done, len(row_of))
            for line in passes.lines(part, {key: row_of[key] for key in waiting}):
                journal.append(line)
                results.add_line(line)
                done += 1
                on_progress(part, done, len(row_of))
        tagged = tuple(map(results.row, rows))
        write_rows(out, tagged)
        file.unfinished.unlink(missing_ok=True)
    return TagRun(rows=tagged, reused=reused, stats=passes.stats, seconds=passes.seconds)


def _facts(chat: ChatModel, questions: Questions, settings: TagSettings) -> dict[str, Any]:
    """Everything tags and scores depend on except the rows, since rows may be added."""
    return {
        "weights": weights_digest(chat.model),
        "adapter_scale": sorted({float(layer.scale) for layer in adapted_layers(chat.model).values()}),
        "template": _digest(chat.own_template.source),
        "questions": None if settings.asks_nothing else _digest(json.dumps(asdict(questions), sort_keys=True)),
        "asked": [] if settings.asks_nothing else [question.name for question in questions.questions],
        "scores": sorted(settings.scores),
        "base": settings.base,
        "reward_model": settings.reward_model,
        "names": {"model": chat.name},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(kw_only=True)
class _Passes:
    """Runs each part over many rows and yields lines for the journal."""

    models: Models
    settings: TagSettings
    chat: ChatModel
    """The main model; after its passes it only encodes."""
    tagger: Tagger
    stats: EngineStats = field(default_factory=EngineStats)
    seconds: dict[str, float] = field(default_factory=dict)

    def lines(self, part: str, rows: Mapping[str, Record]) -> Iterator[Record]:
        if not rows:
            return
        started = time.perf_counter()
        lines = self._tags(rows) if part == "tags" else self._measurements(rows, self._measure(part))
        for line in lines:
            yield {**line, "part": part}
        self.seconds[part] = time.perf_counter() - started

    def _tags(self, rows: Mapping[str, Record]) -> Iterator[Record]:
        # Nothing is sampled, so one slot runs all programs in sequence.
        engine = Engine(self.chat.model, slots=1, context=self.chat.context)
        self.stats = engine.stats
        for done in engine.run(Request(program=self._program(key, row)) for key, row in rows.items()):
            yield done.result

    def _program(self, key: str, row: Record) -> Program:
        encoded = self.chat.encode(row["messages"])
        if isinstance(encoded, str):
            return {"key": key, "untagged": encoded}
        answers = yield from ask_row(encoded, [self.tagger])
        if answers is None:
            return {"key": key, "untagged": "too_long"}
        [tags] = answers
        return {
            "key": key,
            "tags": {name: tag.label for name, tag in tags.items()},
            "confidence": {name: tag.confidence for name, tag in tags.items()},
        }

    def _measurements(
        self, rows: Mapping[str, Record], measure: Callable[[Sequence[ScoredConversation]], list[Measurements]]
    ) -> Iterator[Record]:
        keys = list(rows)
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            conversations = {key: each for key in chunk if (each := self._conversation(rows[key])) is not None}
            measured = dict(zip(conversations, measure(list(conversations.values())), strict=True))
            yield from ({"key": key, "figures": measured.get(key, {})} for key in chunk)

    def _conversation(self, row: Record) -> ScoredConversation | None:
        """Encode a row for scoring; None if it has no response or exceeds the context."""
        encoded = self.chat.encode(row["messages"])
        if isinstance(encoded, str) or encoded.response is None or len(encoded.ids) > self.chat.context:
            return None
        other = row.get("base_output")
        return ScoredConversation(
            messages=row["messages"], encoded=encoded, base_output=other if isinstance(other, str) else None
        )

    def _measure(self, part: str) -> Callable[[Sequence[ScoredConversation]], list[Measurements]]:
        if part == "own":
            return lambda rows: own_log_probs(self.chat.model, self.chat.tokenizer, rows, bare=self.settings.bare)
        self.chat = replace(self.chat, model=None, max_context=self.chat.context)
        mx.clear_cache()
        if part == "base":
            assert self.models.base is not None, "no base model"
            base, tokenizer = self.models.base()
            _check_vocabulary(self.chat.tokenizer, tokenizer)
            return lambda rows: base_log_probs(base, tokenizer, rows)
        assert self.models.reward is not None, "no reward model"
        judge, chat = self.models.reward()
        return lambda rows: measured_rewards(judge, chat, rows)


def _check_vocabulary(ours: Tokenizer, theirs: Tokenizer) -> None:
    """Raises UserError unless equal ids mean equal text. Special tokens may differ in name."""
    special = ours.special_ids | theirs.special_ids
    ids = (index for index in range(max(ours.vocab_size, theirs.vocab_size)) if index not in special)
    differing = next((index for index in ids if ours.token_of(index) != theirs.token_of(index)), None)
    if differing is not None:
        pair = ours.token_of(differing), theirs.token_of(differing)
        raise UserError(
            f"The base model has a different vocabulary: token {differing} is {pair[0]!r} here and {pair[1]!r} there",
            where=theirs.origin,
            fix="give the base model that this one was tuned from",
        )
