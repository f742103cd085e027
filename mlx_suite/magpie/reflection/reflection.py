"""Reflection: a model rewrites instructions and responses, and a rewrite that is not clearly better is not kept.

A rewrite replaces the old text only if it is complete, different, and preferred in both orders by a judge that passed
its sanity check (`judging`). A new instruction comes with a new response. Everything else stays as it was.

The output folder:

    accepted.jsonl   all rows in the order of the data. `messages` holds the rewritten text, `reflection` the outcome of
                     each part, {"instruction": "both"}, and `before` the old messages. Tags and scores of a replaced
                     text are removed.
    refused.jsonl    rewrites that were not kept: id, row, part, "reason" (`outcomes.REASONS`), the new text, the
                     criticism, and the log odds of the new text in first and second position; rows that cannot be
                     read, as `original` with the reason `unreadable`
    rewrites.jsonl   all rewrites, appended as they finish; the next run resumes from it
    verdicts.jsonl   all judgements, likewise
    settings.json    everything the rewrites depend on

Writer and judge are loaded one after the other, so memory has to hold only one of two models.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from mlx_suite.curation.dataset import Collection, write_rows
from mlx_suite.curation.rows import Record
from mlx_suite.curation.set_aside import UNREADABLE
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.engine import Sampling
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.evaluate.prompts import conversation_text
from mlx_suite.magpie.reflection.judging import (
    PASS_SHARE,
    Preference,
    RewriteComparison,
    instruction_checks,
    judge_rewrites,
    passed_share,
    response_checks,
)
from mlx_suite.magpie.reflection.outcomes import (
    KEPT,
    ReflectedRow,
    Reflection,
    ReflectSummary,
    reflected_record,
    reflection_of,
    refused_record,
    row_of,
    settled,
    truth_of,
)
from mlx_suite.magpie.reflection.rewriting import Part, Rewrite, Rewriter, Work
from mlx_suite.magpie.reflection.settings import ReflectSettings
from mlx_suite.magpie.stage import data_digest
from mlx_suite.runtime.journal import Journal, read_lines
from mlx_suite.runtime.stage import open_stage

KIND = "mlx-suite magpie reflect"
REFUSED_FILE = "refused.jsonl"
REWRITES_FILE, VERDICTS_FILE = "rewrites.jsonl", "verdicts.jsonl"

PARTS: Mapping[str, tuple[Part, ...]] = {
    "instruction": ("instruction",),
    "answer": ("answer",),
    "both": ("instruction", "answer"),
}
"""Parts to rewrite, in order."""
OnProgress = Callable[[str, int, int], None]
"""Called with the current step (`write instruction`, `judge answer`, …), the number of rows done and in all."""
Opener = Callable[[], ChatModel]
T = TypeVar("T", Rewrite, Preference)


def reflect(
    data: Collection,
    open_writer: Opener,
    settings: ReflectSettings,
    folder: Path,
    open_judge: Opener | None = None,
    on_progress: OnProgress = lambda step, done, total: None,
) -> ReflectSummary:
    """Write the rows of `data` to `folder`, some replaced by better rewrites, or resume there.

    Args:
        open_writer: Loads the model that writes. Called again if a separate judge has replaced it in memory.
        open_judge: Loads the model that judges; by default the writer judges its own texts.

    Raises UserError for a folder that is not ours or was started with other settings, and for a template that does not
    show its turns.
    """
    records = data.rows[: settings.limit]
    models = _Models(open_writer, open_judge)
    writer, judge = models.writer().name, ""
    sampling = {"temperature": settings.temperature, "seed": settings.seed, **settings.limits}
    facts = {**models.writer().facts(), "data": data_digest(data.rows), **sampling}
    rows = [row_of(record) for record in records]
    reflections: list[Reflection] = []
    refused: list[Record] = []
    with open_stage(folder, KIND, facts):
        for part in PARTS[settings.what]:
            rewrites = _rewrite(folder, models.writer(), part, rows, settings, on_progress)
            judge = models.judge().name
            checks = _judge(folder, models.judge(), f"try {part}", _checks(part, rows), on_progress)
            trial = passed_share(checks.values())
            comparisons = [_comparison(part, rows[n], each) for n, each in rewrites.items() if not each.problem]
            preferences = _judge(folder, models.judge(), f"judge {part}", comparisons, on_progress)
            trusted, before = trial is not None and trial >= PASS_SHARE, rows
            rows = [settled(row, part, rewrites.get(n), preferences.get(n), trusted) for n, row in enumerate(rows)]
            reflections.append(reflection_of(part, before, rows, preferences, trial))
            refused += [
                refused_record(records[n], n, part, row.outcomes[part], rewrites.get(n), preferences.get(n))
                for n, row in enumerate(rows)
                if row.outcomes[part] != KEPT
            ]
        write_rows(folder / ACCEPTED_FILE, (reflected_record(*each) for each in zip(records, rows, strict=True)))
        unread = ({**row.as_row(), "reason": UNREADABLE} for row in data.set_aside)
        write_rows(folder / REFUSED_FILE, chain(refused, unread))
    return ReflectSummary(
        folder=folder,
        rows=len(rows),
        writer=writer,
        judge=judge,
        parts=tuple(reflections),
        before=truth_of([row_of(record) for record in records]),
        after=truth_of(rows),
    )


class _Models:
    """Writer and judge. If they are two models, only the one in use is in memory."""

    def __init__(self, open_writer: Opener, open_judge: Opener | None) -> None:
        self._openers = {"writer": open_writer, "judge": open_judge or open_writer}
        self._role = "both" if open_judge is None else ""
        self._loaded: ChatModel | None = open_writer() if open_judge is None else None

    def writer(self) -> ChatModel:
        return self._open("writer")

    def judge(self) -> ChatModel:
        return self._open("judge")

    def _open(self, role: str) -> ChatModel:
        if self._role != "both" and (self._role != role or self._loaded is None):
            self._loaded = None  # freed before the other is loaded
            self._loaded, self._role = self._openers[role](), role
        assert self._loaded is not None
        return self._loaded


def _rewrite(
    folder: Path,
    writer: ChatModel,
    part: Part,
    rows: Sequence[ReflectedRow],
    settings: ReflectSettings,
    on_progress: OnProgress,
) -> dict[int, Rewrite]:
    """The rewrite of each row that has the part and an instruction."""
    rewriter = Rewriter(
        chat=writer,
        part=part,
        sampling=Sampling(temperature=settings.temperature),
        limits=settings.limits,
        seed=settings.seed,
    )
    works = {
        number: Work(row=number, question=row.question, answer=row.answer or "")
        for number, row in enumerate(rows)
        if row.question and (row.answer is not None or part == "instruction")
    }
    return _resumed(
        folder / REWRITES_FILE,
        Rewrite,
        {number: _key(part, number, work.question, work.answer) for number, work in works.items()},
        lambda waiting: rewriter.rewrite(works[number] for number in waiting),
        {"part": part},
        partial(on_progress, f"write {part}"),
    )


def _checks(part: Part, rows: Sequence[ReflectedRow]) -> list[RewriteComparison]:
    """The judge's sanity check."""
    if part == "instruction":
        return instruction_checks([row.instruction for row in rows if row.question])
    return response_checks(
        [(conversation_text(row.question), row.answer) for row in rows if row.question and row.answer]
    )


def _judge(
    folder: Path, judge: ChatModel, step: str, comparisons: Sequence[RewriteComparison], on_progress: OnProgress
) -> dict[int, Preference]:
    """The preference in each comparison, by row."""
    digest = json.dumps(judge.facts(), sort_keys=True)
    by_row = {each.row: each for each in comparisons}
    return _resumed(
        folder / VERDICTS_FILE,
        Preference,
        {row: _key(digest, row, each.question, each.old, each.new) for row, each in by_row.items()},
        lambda waiting: judge_rewrites(judge, [by_row[row] for row in waiting]),
        {"what": step, "judge": judge.name},
        partial(on_progress, step),
    )


def _resumed(
    path: Path,
    kind: type[T],
    keys: Mapping[int, str],
    generate: Callable[[Sequence[int]], Iterable[T]],
    head: Record,
    on_progress: Callable[[int, int], None],
) -> dict[int, T]:
    """Results by row: those in the journal, and the missing ones as `generate` yields them, appended to it."""
    with Journal(path) as journal:
        known = _known(path, kind)
        waiting = [row for row, key in keys.items() if key not in known]
        reused = len(keys) - len(waiting)
        on_progress(reused, len(keys))
        for done, result in enumerate(generate(waiting), start=reused + 1):
            journal.append({"key": keys[result.row], **head, **asdict(result)})
            known[keys[result.row]] = result
            on_progress(done, len(keys))
    return {row: known[key] for row, key in keys.items()}


def _known(path: Path, kind: type[T]) -> dict[str, T]:
    """A journal's entries by key. Raises UserError with `file:line` for a malformed line."""
    names = [field.name for field in fields(kind)]

    def read(record: Mapping[str, Any]) -> tuple[str, T]:
        return record["key"], kind(**{name: record[name] for name in names})

    return dict(read_lines(path, read))


def _comparison(part: Part, row: ReflectedRow, rewrite: Rewrite) -> RewriteComparison:
    old = row.instruction if part == "instruction" else row.answer or ""
    question = None if part == "instruction" else conversation_text(row.question)
    return RewriteComparison(row=rewrite.row, old=old, new=rewrite.text, question=question)


def _key(*parts: Any) -> str:
    """Hash of texts and messages, 12 hexadecimal digits."""
    plain = [[[turn.role, turn.content] for turn in part] if isinstance(part, tuple) else part for part in parts]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]
