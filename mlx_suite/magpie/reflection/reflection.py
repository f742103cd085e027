"""Reflection: a model writes instructions and answers anew, and what is not clearly better does not come in.

A new text takes the place of the old one only if it is whole, different, and preferred from both places (`judging`).
A new instruction comes with a new answer. Everything else stays as it was, and so does everything where the judge
fails its `trial`.

The folder that is filled:

    accepted.jsonl   all rows in the order of the data. What was written anew is in `messages`; `reflection` says what
                     became of each part, {"instruction": "both"}, and `before` keeps the old messages. Tags and scores
                     of a text that is gone are gone with it.
    refused.jsonl    what was not kept: id, row, part, "reason" (`reflected.REASONS`), the new text, the criticism, and
                     the log odds for the new text where it stood first and second
    rewrites.jsonl   everything that was written; the next run goes on behind it
    verdicts.jsonl   everything that was judged
    settings.json    what it was begun with

Writer and judge are opened one after the other, so that two models need not fit into the memory together.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from mlx_suite.curation.collection import Collection, Record, write_rows
from mlx_suite.engine import Sampling
from mlx_suite.magpie.author import Author
from mlx_suite.magpie.reflection.judging import Contest, Verdict, judge_contests
from mlx_suite.magpie.reflection.reflect_settings import ReflectSettings
from mlx_suite.magpie.reflection.reflected import (
    KEPT,
    Current,
    Outcome,
    Reflected,
    current_of,
    outcome_of,
    reflected_record,
    refused_record,
    settled,
    truth_of,
)
from mlx_suite.magpie.reflection.rewriting import Part, Rewrite, Rewriter, Work
from mlx_suite.magpie.reflection.trial import PASSED, answer_trial, instruction_trial, passed_share
from mlx_suite.magpie.stage import data_digest, open_stage
from mlx_suite.runtime.journal import Journal, read_lines
from mlx_suite.text import Message

KIND = "mlx-suite magpie reflect"
ROWS_FILE, REFUSED_FILE = "accepted.jsonl", "refused.jsonl"
REWRITES_FILE, VERDICTS_FILE = "rewrites.jsonl", "verdicts.jsonl"

PARTS: Mapping[str, tuple[Part, ...]] = {
    "instruction": ("instruction",),
    "answer": ("answer",),
    "both": ("instruction", "answer"),
}
"""What is looked at, in this order."""
Tell = Callable[[str, int, int], None]
"""Called with what is done (`write instruction`, `judge answer`, …), how many are, and of how many."""
Opener = Callable[[], Author]
T = TypeVar("T", Rewrite, Verdict)


def reflect(
    data: Collection,
    open_writer: Opener,
    settings: ReflectSettings,
    folder: Path,
    open_judge: Opener | None = None,
    tell: Tell = lambda what, done, total: None,
) -> Reflected:
    """Fill `folder` with the rows of `data`, better ones in place of some, or go on filling it.

    Args:
        open_writer: Gives the model that writes. Called again where the judge is another model.
        open_judge: Gives the model that judges; without it the writer judges itself.

    Raises UserError where the folder is another's or was begun with other settings, or where a template does not show
    its turns.
    """
    records = data.rows[: settings.limit]
    models = _Models(open_writer, open_judge)
    writer, judge = models.writer().name, ""
    facts = {**models.writer().facts(), "data": data_digest(data.rows), **_written_by(settings)}
    rows = [current_of(record) for record in records]
    outcomes: list[Outcome] = []
    refused: list[Record] = []
    with open_stage(folder, KIND, facts):
        for part in PARTS[settings.what]:
            rewrites = _rewrite(folder, models.writer(), part, rows, settings, tell)
            judge = models.judge().name
            trial = passed_share(_judge(folder, models.judge(), f"try {part}", _trial(part, rows), tell).values())
            contests = _contests(part, rows, rewrites)
            verdicts = _judge(folder, models.judge(), f"judge {part}", contests, tell)
            trusted, before = trial is not None and trial >= PASSED, rows
            rows = [settled(row, part, rewrites.get(n), verdicts.get(n), trusted) for n, row in enumerate(rows)]
            outcomes.append(outcome_of(part, before, rows, verdicts, trial))
            refused += [
                refused_record(records[n], n, part, row.outcomes[part], rewrites.get(n), verdicts.get(n))
                for n, row in enumerate(rows)
                if row.outcomes[part] != KEPT
            ]
        write_rows(folder / ROWS_FILE, (reflected_record(*each) for each in zip(records, rows, strict=True)))
        write_rows(folder / REFUSED_FILE, refused)
    return Reflected(
        folder=folder,
        rows=len(rows),
        writer=writer,
        judge=judge,
        parts=tuple(outcomes),
        before=truth_of([current_of(record) for record in records]),
        after=truth_of(rows),
    )


class _Models:
    """Writer and judge; where they are two models, only the one in use is in the memory."""

    def __init__(self, open_writer: Opener, open_judge: Opener | None) -> None:
        self._openers = {"writer": open_writer, "judge": open_judge or open_writer}
        self._role = "both" if open_judge is None else ""
        self._held: Author | None = open_writer() if open_judge is None else None

    def writer(self) -> Author:
        return self._open("writer")

    def judge(self) -> Author:
        return self._open("judge")

    def _open(self, role: str) -> Author:
        if self._role != "both" and (self._role != role or self._held is None):
            self._held = None  # before the other comes in
            self._held, self._role = self._openers[role](), role
        assert self._held is not None
        return self._held


def _written_by(settings: ReflectSettings) -> dict[str, Any]:
    return {"temperature": settings.temperature, "seed": settings.seed, **settings.limits}


def _rewrite(
    folder: Path, writer: Author, part: Part, rows: Sequence[Current], settings: ReflectSettings, tell: Tell
) -> dict[int, Rewrite]:
    """The new text of each row that has what it takes."""
    rewriter = Rewriter(
        author=writer,
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
    path = folder / REWRITES_FILE
    keys = {number: _key(part, number, work.question, work.answer) for number, work in works.items()}
    with Journal(path) as journal:
        known = _known(path, Rewrite)
        waiting = [works[number] for number, key in keys.items() if key not in known]
        done, what = len(works) - len(waiting), f"write {part}"
        tell(what, done, len(works))
        for rewrite in rewriter.rewrite(waiting):
            done += 1
            journal.append({"key": keys[rewrite.row], "part": part, **asdict(rewrite)})
            known[keys[rewrite.row]] = rewrite
            tell(what, done, len(works))
    return {number: known[key] for number, key in keys.items()}


def _contests(part: Part, rows: Sequence[Current], rewrites: Mapping[int, Rewrite]) -> list[Contest]:
    """What is to be judged: each new text that can be used."""
    return [_contest(part, rows[number], each) for number, each in rewrites.items() if not each.problem]


def _trial(part: Part, rows: Sequence[Current]) -> list[Contest]:
    """What tells whether the judge can judge."""
    if part == "instruction":
        return instruction_trial([row.instruction for row in rows if row.question])
    return answer_trial([(_told(row.question), row.answer) for row in rows if row.question and row.answer])


def _judge(folder: Path, judge: Author, what: str, contests: Sequence[Contest], tell: Tell) -> dict[int, Verdict]:
    """The verdict on each contest, by its row."""
    digest = json.dumps(judge.facts(), sort_keys=True)
    keys = {each.row: _key(digest, each.row, each.question, each.old, each.new) for each in contests}
    path = folder / VERDICTS_FILE
    with Journal(path) as journal:
        known = _known(path, Verdict)
        waiting = [each for each in contests if keys[each.row] not in known]
        done = len(contests) - len(waiting)
        tell(what, done, len(contests))
        for verdict in judge_contests(judge, waiting):
            done += 1
            journal.append({"key": keys[verdict.row], "what": what, "judge": judge.name, **asdict(verdict)})
            known[keys[verdict.row]] = verdict
            tell(what, done, len(contests))
    return {row: known[key] for row, key in keys.items()}


def _known(path: Path, kind: type[T]) -> dict[str, T]:
    """What a journal holds, by its keys. Raises UserError with `file:line` for a line that is none of ours."""
    names = [field.name for field in fields(kind)]

    def read(record: Mapping[str, Any]) -> tuple[str, T]:
        return record["key"], kind(**{name: record[name] for name in names})

    return dict(read_lines(path, read))


def _contest(part: Part, row: Current, rewrite: Rewrite) -> Contest:
    old = row.instruction if part == "instruction" else row.answer or ""
    question = None if part == "instruction" else _told(row.question)
    return Contest(row=rewrite.row, old=old, new=rewrite.text, question=question)


def _told(question: Sequence[Message]) -> str:
    """What was asked: the text alone if one thing was asked, else every turn with its speaker."""
    if len(question) == 1:
        return question[0].content
    return "\n\n".join(f"[{turn.role}] {turn.content}" for turn in question)


def _key(*parts: Any) -> str:
    """12 hexadecimal digits of texts."""
    plain = [[[turn.role, turn.content] for turn in part] if isinstance(part, tuple) else part for part in parts]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]
