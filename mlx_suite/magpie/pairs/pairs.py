"""Preference pairs: several answers to each question, of which a better and a worse one are kept (`pairing`).

The folder that is filled:

    accepted.jsonl   one pair per line, in the order of the data:
                     {"id": "5d0c9f2e-000012", "row": 12, "messages": [… up to the question],
                      "chosen": "…", "rejected": "…", "margin": 1.37,      at equal length, in the unit of the score
                      "chosen_score": 3.61, "rejected_score": 2.02,
                      "answer_scores": [3.61, null, 2.02, 3.1, 3.61],      of all answers; null where one is not whole
                      "scored_by": "grade tiny-llama3", "model": "tiny-llama3"}
    refused.jsonl    rows without a pair: id, row, messages, "reason" (`pairing.REFUSALS`) and all answers
    answers.jsonl    every answer as it was written; the next run goes on behind it
    settings.json    what the answers depend on
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.collection import Collection, Record, write_rows
from mlx_suite.engine import Sampling
from mlx_suite.magpie.author import Author
from mlx_suite.magpie.pairs.answers import Answer, Answering, Grader, make_grader, read_answers, write_answers
from mlx_suite.magpie.pairs.pair_scores import MARGINS, Scorer
from mlx_suite.magpie.pairs.pair_settings import PairSettings
from mlx_suite.magpie.pairs.pairing import Pair, Paired, pair_answers
from mlx_suite.magpie.stage import data_digest, id_of, open_stage, question_of
from mlx_suite.magpie.truth import Verdicts, verdicts_on
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal
from mlx_suite.text import Message

KIND = "mlx-suite magpie pairs"
PAIRS_FILE, REFUSED_FILE, ANSWERS_FILE = "accepted.jsonl", "refused.jsonl", "answers.jsonl"

SCORED = 1024
"""Answers that are scored at a time: the tokens of a whole dataset need not be held."""
Tell = Callable[[int, int], None]
"""Called with the texts that are written and those that are wanted."""


@dataclass(frozen=True, kw_only=True)
class PairSummary:
    """What a folder of pairs has come to."""

    folder: Path
    rows: int
    answers: int
    """Answers to these rows, whole or not."""
    flaws: Mapping[str, int]
    """Answers that are not whole, by their flaw."""
    pairs: int
    refused: Mapping[str, int]
    """Rows by reason."""
    kind: str
    """Of the score, one of `pair_scores.MARGINS`."""
    scored_by: str
    """Kind and model."""
    margin: float
    explained: float | None
    """Share of the scores' variance among the answers to a question that their lengths explain."""
    letters: tuple[float, float]
    """Mean length of the chosen answers and of the rejected ones."""
    longer: int
    """Pairs whose chosen answer is the longer one."""
    truth: tuple[Verdicts, Verdicts] | None
    """What the microworld says of the chosen answers and of the rejected ones; None for other data."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {**asdict(self), "folder": str(self.folder), "file": str(self.folder / PAIRS_FILE)}
        sides = {} if self.truth is None else {"chosen": self.truth[0], "rejected": self.truth[1]}
        return {**found, "truth": {side: asdict(each) for side, each in sides.items()} or None}


def make_pairs(
    data: Collection,
    author: Author,
    settings: PairSettings,
    folder: Path,
    scorer: Scorer | None = None,
    tell: Tell = lambda done, total: None,
) -> PairSummary:
    """Fill `folder` with pairs, or go on filling it.

    Which pairs these are depends on data, model and settings alone, not on how often the run was stopped (in float32).
    Another margin, scorer, limit of rows or tokens, or number of answers may be asked for in the same folder: what is
    written stays. Grades are asked for beside the answers, so answers without are written anew where grades are wanted.

    Args:
        scorer: What scores the answers; without one the model's own grade.

    Raises UserError where the folder is another's or was begun with other settings, the template does not show its
    turns, or the checkpoint's questions ask nothing about answers and there is no scorer.
    """
    rows = data.rows[: settings.limit]
    grader = make_grader(author)
    if scorer is None and grader is None:
        raise UserError(
            "This checkpoint's questions ask nothing about answers, so it cannot grade its own",
            where=str(author.folder or author.name),
            fix="score the answers by something else: --by likelihood, or --by reward --judge MODEL",
        )
    sampling = Sampling(temperature=settings.temperature, top_p=settings.top_p)
    answering = Answering(
        author=author,
        sampling=sampling,
        limit=settings.max_answer,
        seed=settings.seed,
        grader=grader if scorer is None else None,
    )
    facts = _facts(data, answering, grader)
    with open_stage(folder, KIND, facts):
        questions = [question_of(row) for row in rows]
        with Journal(folder / ANSWERS_FILE) as journal:
            _write(answering, questions, settings.answers, journal, tell)
            answers = read_answers(journal.path, answering)
        asked = [row for row in range(len(rows)) if (row, 0) in answers]
        written = {row: [answers[row, number] for number in range(settings.answers)] for row in asked}
        scores = _grades(written) if scorer is None else _scores(scorer, questions, written)
        kind, scored_by = ("grade", author.name) if scorer is None else (scorer.kind, scorer.name)
        margin = MARGINS[kind] if settings.margin is None else settings.margin
        paired = pair_answers(written, scores, margin)
        refused = {**paired.refused, **{row: "template" for row in range(len(rows)) if row not in written}}
        head = {"scored_by": f"{kind} {scored_by}".rstrip(), "model": author.name}
        _store(folder, rows, questions, written, scores, paired.pairs, refused, head)
    return _summary(folder, len(rows), written, paired, refused, questions, (kind, scored_by), margin)


def _facts(data: Collection, answering: Answering, grader: Grader | None) -> dict[str, Any]:
    return {
        **answering.author.facts(),
        "data": data_digest(data.rows),
        "sampling": asdict(answering.sampling),
        "seed": answering.seed,
        "grade": None if grader is None else asdict(grader.question),
    }


def _write(
    answering: Answering, questions: Sequence[Sequence[Message]], count: int, journal: Journal, tell: Tell
) -> None:
    total = count * len(questions)
    known = read_answers(journal.path, answering)
    done = sum((row, number) in known for row in range(len(questions)) for number in range(count))
    tell(done, total)
    for _ in write_answers(answering, questions, count, journal):
        done += 1
        tell(done, total)


def _grades(written: Mapping[int, Sequence[Answer]]) -> dict[tuple[int, int], float | None]:
    return {(answer.row, answer.number): answer.grade for each in written.values() for answer in each}


def _scores(
    scorer: Scorer, questions: Sequence[Sequence[Message]], written: Mapping[int, Sequence[Answer]]
) -> dict[tuple[int, int], float | None]:
    whole = [answer for each in written.values() for answer in each if answer.flaw is None]
    scores: dict[tuple[int, int], float | None] = {}
    for start in range(0, len(whole), SCORED):
        some = whole[start : start + SCORED]
        found = scorer.score(
            [[*_turns(questions[answer.row]), {"role": "assistant", "content": answer.text}] for answer in some]
        )
        scores.update(zip(((answer.row, answer.number) for answer in some), found, strict=True))
    return scores


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _store(
    folder: Path,
    rows: Sequence[Record],
    questions: Sequence[Sequence[Message]],
    written: Mapping[int, Sequence[Answer]],
    scores: Mapping[tuple[int, int], float | None],
    pairs: Sequence[Pair],
    refused: Mapping[int, str],
    head: Mapping[str, Any],
) -> None:
    """Write both files, each whole or not at all."""
    accepted = (
        _pair_record(rows[pair.row], pair, questions[pair.row], scores, written[pair.row], head) for pair in pairs
    )
    others = (
        _refused_record(rows[row], row, questions[row], reason, scores, written.get(row, ()))
        for row, reason in sorted(refused.items())
    )
    write_rows(folder / PAIRS_FILE, accepted)
    write_rows(folder / REFUSED_FILE, others)


def _pair_record(
    record: Record,
    pair: Pair,
    question: Sequence[Message],
    scores: Mapping[tuple[int, int], float | None],
    answers: Sequence[Answer],
    head: Mapping[str, Any],
) -> Record:
    tags = {name: label for name, label in (record.get("tags") or {}).items() if name != "answer_quality"}
    return {
        "id": id_of(record, pair.row),
        "row": pair.row,
        "messages": _turns(question),
        "chosen": pair.chosen.answer.text,
        "rejected": pair.rejected.answer.text,
        "margin": round(pair.margin, 4),
        "chosen_score": round(pair.chosen.score, 4),
        "rejected_score": round(pair.rejected.score, 4),
        "answer_scores": [_rounded(scores.get((pair.row, answer.number))) for answer in answers],
        **({"tags": tags} if tags else {}),
        **head,
    }


def _refused_record(
    record: Record,
    row: int,
    question: Sequence[Message],
    reason: str,
    scores: Mapping[tuple[int, int], float | None],
    answers: Sequence[Answer],
) -> Record:
    return {
        "id": id_of(record, row),
        "row": row,
        "messages": _turns(question),
        "reason": reason,
        "answers": [
            {"text": answer.text, "flaw": answer.flaw, "score": _rounded(scores.get((row, answer.number)))}
            for answer in answers
        ],
    }


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)


def _summary(
    folder: Path,
    rows: int,
    written: Mapping[int, Sequence[Answer]],
    paired: Paired,
    refused: Mapping[int, str],
    questions: Sequence[Sequence[Message]],
    scored_by: tuple[str, str],
    margin: float,
) -> PairSummary:
    pairs, count = paired.pairs, max(len(paired.pairs), 1)
    sides = [
        [(questions[pair.row], getattr(pair, side).answer.text) for pair in pairs] for side in ("chosen", "rejected")
    ]
    chosen, rejected = (verdicts_on(side) for side in sides)
    answers = [answer for each in written.values() for answer in each]
    return PairSummary(
        folder=folder,
        rows=rows,
        answers=len(answers),
        flaws=dict(Counter(answer.flaw for answer in answers if answer.flaw is not None).most_common()),
        pairs=len(pairs),
        refused=dict(Counter(refused.values()).most_common()),
        kind=scored_by[0],
        scored_by=" ".join(scored_by).rstrip(),
        margin=margin,
        explained=paired.fit.explained,
        letters=(
            sum(pair.chosen.letters for pair in pairs) / count,
            sum(pair.rejected.letters for pair in pairs) / count,
        ),
        longer=sum(pair.longer > 0 for pair in pairs),
        truth=None if chosen is None or rejected is None else (chosen, rejected),
    )
