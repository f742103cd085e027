"""Preference pairs: sample several responses to each instruction and keep a better and a worse one (`pairing`).

The output folder:

    accepted.jsonl   one pair per line, in the order of the data:
                     {"id": "5d0c9f2e-000012", "row": 12, "messages": [… up to the instruction],
                      "chosen": "…", "rejected": "…", "margin": 1.37,      at equal length, in the score's unit
                      "chosen_score": 3.61, "rejected_score": 2.02,
                      "answer_scores": [3.61, null, 2.02, 3.1, 3.61],      of all responses; null for incomplete ones
                      "scored_by": "grade tiny-llama3", "model": "tiny-llama3"}
    refused.jsonl    rows without a pair: id, row, messages, "reason" (`pairing.REFUSALS`) and all responses
    answers.jsonl    all responses, appended as they finish; the next run resumes from it
    settings.json    everything the responses depend on
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import Collection, write_rows
from mlx_suite.curation.rows import Record
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.engine import Sampling
from mlx_suite.magpie.author import Author
from mlx_suite.magpie.pairs.answers import Answer, AnswerSampler, Grader, make_grader, read_answers, write_answers
from mlx_suite.magpie.pairs.pairing import Paired, PreferencePair, pair_answers
from mlx_suite.magpie.pairs.scorers import MARGINS, Scorer
from mlx_suite.magpie.pairs.settings import PairSettings
from mlx_suite.magpie.stage import data_digest, id_of, open_stage, prompt_of
from mlx_suite.magpie.truth import Verdicts, verdicts_on
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal
from mlx_suite.text import Message

KIND = "mlx-suite magpie pairs"
REFUSED_FILE, ANSWERS_FILE = "refused.jsonl", "answers.jsonl"

SCORED = 1024
"""Responses scored at a time: a whole dataset's tokens are never in memory at once."""
OnProgress = Callable[[int, int], None]
"""Called with the number of responses sampled so far and in all."""


@dataclass(frozen=True, kw_only=True)
class PairSummary:
    """Summary of a folder of pairs."""

    folder: Path
    rows: int
    answers: int
    """Number of responses to these rows, complete or not."""
    flaws: Mapping[str, int]
    """Number of incomplete responses by flaw."""
    pairs: int
    refused: Mapping[str, int]
    """Number of rows without a pair, by reason."""
    kind: str
    """Kind of score, one of `scorers.MARGINS`."""
    scored_by: str
    """Kind of score and scoring model."""
    margin: float
    explained: float | None
    """Share of the scores' variance within instructions that the responses' lengths explain."""
    letters: tuple[float, float]
    """Mean number of characters of the chosen responses and of the rejected ones."""
    longer: int
    """Number of pairs whose chosen response is the longer one."""
    truth: tuple[Verdicts, Verdicts] | None
    """The microworld checker's counts for chosen and rejected responses; None for other data."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = {**asdict(self), "folder": str(self.folder), "file": str(self.folder / ACCEPTED_FILE)}
        sides = {} if self.truth is None else {"chosen": self.truth[0], "rejected": self.truth[1]}
        return {**fields, "truth": {side: asdict(each) for side, each in sides.items()} or None}


def make_pairs(
    data: Collection,
    author: Author,
    settings: PairSettings,
    folder: Path,
    scorer: Scorer | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> PairSummary:
    """Write preference pairs to `folder`, or resume there.

    The pairs depend only on data, model and settings, not on interruptions (in float32). The same folder can be run
    again with another margin, scorer, limit of rows or tokens, or number of responses: finished responses are reused.
    Grading happens while sampling, so responses without a grade are sampled again where grades are needed.

    Args:
        scorer: Scores the responses; by default the model grades its own.

    Raises UserError for a folder that is not ours or was begun with other settings, for a template that does not show
    its turns, and if there is no scorer and the checkpoint's questions ask nothing about responses.
    """
    rows = data.rows[: settings.limit]
    grader = make_grader(author)
    if scorer is None and grader is None:
        raise UserError(
            "The checkpoint cannot grade responses: its questions ask nothing about them",
            where=str(author.folder or author.name),
            fix="choose another score: --by likelihood, or --by reward --judge MODEL",
        )
    sampling = Sampling(temperature=settings.temperature, top_p=settings.top_p)
    sampler = AnswerSampler(
        author=author,
        sampling=sampling,
        limit=settings.max_answer,
        seed=settings.seed,
        grader=grader if scorer is None else None,
    )
    facts = _facts(data, sampler, grader)
    with open_stage(folder, KIND, facts):
        prompts = [prompt_of(row) for row in rows]
        with Journal(folder / ANSWERS_FILE) as journal:
            _write(sampler, prompts, settings.answers, journal, on_progress)
            answers = read_answers(journal.path, sampler)
        accepted = [row for row in range(len(rows)) if (row, 0) in answers]
        written = {row: [answers[row, number] for number in range(settings.answers)] for row in accepted}
        scores = _grades(written) if scorer is None else _scores(scorer, prompts, written)
        kind, scored_by = ("grade", author.name) if scorer is None else (scorer.kind, scorer.name)
        margin = MARGINS[kind] if settings.margin is None else settings.margin
        paired = pair_answers(written, scores, margin)
        refused = {**paired.refused, **{row: "template" for row in range(len(rows)) if row not in written}}
        head = {"scored_by": f"{kind} {scored_by}".rstrip(), "model": author.name}
        _store(folder, rows, prompts, written, scores, paired.pairs, refused, head)
    return _summary(folder, len(rows), written, paired, refused, prompts, (kind, scored_by), margin)


def _facts(data: Collection, sampler: AnswerSampler, grader: Grader | None) -> dict[str, Any]:
    return {
        **sampler.author.facts(),
        "data": data_digest(data.rows),
        "sampling": asdict(sampler.sampling),
        "seed": sampler.seed,
        "grade": None if grader is None else asdict(grader.question),
    }


def _write(
    sampler: AnswerSampler, prompts: Sequence[Sequence[Message]], count: int, journal: Journal, on_progress: OnProgress
) -> None:
    total = count * len(prompts)
    known = read_answers(journal.path, sampler)
    finished = sum((row, number) in known for row in range(len(prompts)) for number in range(count))
    on_progress(finished, total)
    for done, _ in enumerate(write_answers(sampler, prompts, count, journal), start=finished + 1):
        on_progress(done, total)


def _grades(written: Mapping[int, Sequence[Answer]]) -> dict[tuple[int, int], float | None]:
    return {(answer.row, answer.number): answer.grade for each in written.values() for answer in each}


def _scores(
    scorer: Scorer, prompts: Sequence[Sequence[Message]], written: Mapping[int, Sequence[Answer]]
) -> dict[tuple[int, int], float | None]:
    whole = [answer for each in written.values() for answer in each if answer.flaw is None]
    scores: dict[tuple[int, int], float | None] = {}
    for start in range(0, len(whole), SCORED):
        chunk = whole[start : start + SCORED]
        values = scorer.score(
            [[*_turns(prompts[answer.row]), {"role": "assistant", "content": answer.text}] for answer in chunk]
        )
        scores.update(zip(((answer.row, answer.number) for answer in chunk), values, strict=True))
    return scores


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _store(
    folder: Path,
    rows: Sequence[Record],
    prompts: Sequence[Sequence[Message]],
    written: Mapping[int, Sequence[Answer]],
    scores: Mapping[tuple[int, int], float | None],
    pairs: Sequence[PreferencePair],
    refused: Mapping[int, str],
    head: Mapping[str, Any],
) -> None:
    """Write both files, each atomically."""
    accepted = (
        _pair_record(rows[pair.row], pair, prompts[pair.row], scores, written[pair.row], head) for pair in pairs
    )
    others = (
        _refused_record(rows[row], row, prompts[row], reason, scores, written.get(row, ()))
        for row, reason in sorted(refused.items())
    )
    write_rows(folder / ACCEPTED_FILE, accepted)
    write_rows(folder / REFUSED_FILE, others)


def _pair_record(
    record: Record,
    pair: PreferencePair,
    prompt: Sequence[Message],
    scores: Mapping[tuple[int, int], float | None],
    answers: Sequence[Answer],
    head: Mapping[str, Any],
) -> Record:
    tags = {name: label for name, label in (record.get("tags") or {}).items() if name != "answer_quality"}
    return {
        "id": id_of(record, pair.row),
        "row": pair.row,
        "messages": _turns(prompt),
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
    prompt: Sequence[Message],
    reason: str,
    scores: Mapping[tuple[int, int], float | None],
    answers: Sequence[Answer],
) -> Record:
    return {
        "id": id_of(record, row),
        "row": row,
        "messages": _turns(prompt),
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
    prompts: Sequence[Sequence[Message]],
    scored_by: tuple[str, str],
    margin: float,
) -> PairSummary:
    pairs, count = paired.pairs, max(len(paired.pairs), 1)
    sides = [
        [(prompts[pair.row], getattr(pair, side).answer.text) for pair in pairs] for side in ("chosen", "rejected")
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
        longer=sum(pair.log_length_ratio > 0 for pair in pairs),
        truth=None if chosen is None or rejected is None else (chosen, rejected),
    )
