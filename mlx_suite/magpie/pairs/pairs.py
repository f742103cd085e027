"""Preference pairs: sample several responses to each instruction and keep a better and a worse one (`pairing`).

The output folder:

    accepted.jsonl   one pair per line, in the order of the data:
                     {"id": "5d0c9f2e-000012", "row": 12, "messages": [… up to the instruction],
                      "chosen": "…", "rejected": "…", "margin": 1.37,      at equal length, in the score's unit
                      "chosen_score": 3.61, "rejected_score": 2.02,
                      "answer_scores": [3.61, null, 2.02, 3.1, 3.61],      of all responses; null for incomplete ones
                      "scored_by": "grade tiny-llama3", "model": "tiny-llama3"}
    refused.jsonl    rows without a pair: id, row, messages, "reason" (`pairing.REFUSALS`) and all responses;
                     rows that cannot be read, as `original` with the reason `unreadable`
    answers.jsonl    all responses, appended as they finish; the next run resumes from it
    settings.json    everything the responses depend on
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import Collection, write_rows
from mlx_suite.curation.rows import Record
from mlx_suite.curation.set_aside import UNREADABLE
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.engine import Sampling
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.evaluate.microworld import Truth, check_responses
from mlx_suite.magpie.pairs.answers import Answer, AnswerSampler, make_grader, read_answers, write_answers
from mlx_suite.magpie.pairs.pairing import PreferencePair, Scores, pair_answers
from mlx_suite.magpie.pairs.scorers import MARGINS, Scorer
from mlx_suite.magpie.pairs.settings import PairSettings
from mlx_suite.magpie.stage import data_digest, id_of, prompt_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal
from mlx_suite.runtime.stage import open_stage
from mlx_suite.text import Message

KIND = "mlx-suite magpie pairs"
REFUSED_FILE, ANSWERS_FILE = "refused.jsonl", "answers.jsonl"

SCORED = 1024
"""Responses scored per call, so that a dataset's tokens are never all in memory."""
OnProgress = Callable[[int, int], None]
"""Called with the number of responses sampled so far and in all."""


@dataclass(frozen=True, kw_only=True)
class PairSummary:
    """Summary of a folder of preference pairs."""

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
    truth: tuple[Truth, Truth] | None
    """The microworld checker's counts for chosen and rejected responses; None for other data."""

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        fields = {**asdict(self), "folder": str(self.folder), "file": str(self.folder / ACCEPTED_FILE)}
        sides = {} if self.truth is None else {"chosen": self.truth[0], "rejected": self.truth[1]}
        return {**fields, "truth": {side: asdict(each) for side, each in sides.items()} or None}


def make_pairs(
    data: Collection,
    chat: ChatModel,
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
        scorer: Scores the responses; by default the model grades its own responses.

    Raises UserError for a folder that is not ours or was started with other settings, for a template that does not show
    its turns, and if there is no scorer and the checkpoint's questions ask nothing about responses.
    """
    rows = data.rows[: settings.limit]
    grader = make_grader(chat)
    if scorer is None and grader is None:
        raise UserError(
            "The checkpoint cannot grade responses: its questions ask nothing about them",
            where=str(chat.folder or chat.name),
            fix="choose another score: --by likelihood, or --by reward --judge MODEL",
        )
    sampling = Sampling(temperature=settings.temperature, top_p=settings.top_p)
    sampler = AnswerSampler(
        chat=chat,
        sampling=sampling,
        limit=settings.max_answer,
        seed=settings.seed,
        grader=grader if scorer is None else None,
    )
    facts = {
        **chat.facts(),
        "data": data_digest(data.rows),
        "sampling": asdict(sampling),
        "seed": settings.seed,
        "grade": None if grader is None else asdict(grader.question),
    }
    with open_stage(folder, KIND, facts):
        prompts = [prompt_of(row) for row in rows]
        with Journal(folder / ANSWERS_FILE) as journal:
            _write(sampler, prompts, settings.answers, journal, on_progress)
            known = read_answers(journal.path, sampler)
        answers = {
            row: [known[row, number] for number in range(settings.answers)]
            for row in range(len(rows))
            if (row, 0) in known
        }
        scores = _grades(answers) if scorer is None else _scores(scorer, prompts, answers)
        kind, scored_by = ("grade", chat.name) if scorer is None else (scorer.kind, scorer.name)
        margin = MARGINS[kind] if settings.margin is None else settings.margin
        paired = pair_answers(answers, scores, margin)
        refused = {**paired.refused, **{row: "template" for row in range(len(rows)) if row not in answers}}
        scored = _ScoredRows(rows=rows, prompts=prompts, answers=answers, scores=scores)
        head = {"scored_by": f"{kind} {scored_by}".rstrip(), "model": chat.name}
        write_rows(folder / ACCEPTED_FILE, ({**scored.pair_record(pair), **head} for pair in paired.pairs))
        unread = ({**row.as_row(), "reason": UNREADABLE} for row in data.set_aside)
        write_rows(
            folder / REFUSED_FILE, chain((scored.refused_record(*each) for each in sorted(refused.items())), unread)
        )
    chosen, rejected = scored.truth(paired.pairs)
    written = [answer for each in answers.values() for answer in each]
    return PairSummary(
        folder=folder,
        rows=len(rows),
        answers=len(written),
        flaws=_counts(answer.flaw for answer in written if answer.flaw is not None),
        pairs=len(paired.pairs),
        refused=_counts(refused.values()),
        kind=kind,
        scored_by=head["scored_by"],
        margin=margin,
        explained=paired.fit.explained,
        letters=(
            _mean([pair.chosen.characters for pair in paired.pairs]),
            _mean([pair.rejected.characters for pair in paired.pairs]),
        ),
        longer=sum(pair.log_length_ratio > 0 for pair in paired.pairs),
        truth=None if chosen is None or rejected is None else (chosen, rejected),
    )


def _write(
    sampler: AnswerSampler, prompts: Sequence[Sequence[Message]], count: int, journal: Journal, on_progress: OnProgress
) -> None:
    total = count * len(prompts)
    known = read_answers(journal.path, sampler)
    finished = sum((row, number) in known for row in range(len(prompts)) for number in range(count))
    on_progress(finished, total)
    for done, _ in enumerate(write_answers(sampler, prompts, count, journal), start=finished + 1):
        on_progress(done, total)


def _grades(answers: Mapping[int, Sequence[Answer]]) -> Scores:
    return {(answer.row, answer.number): answer.grade for each in answers.values() for answer in each}


def _scores(scorer: Scorer, prompts: Sequence[Sequence[Message]], answers: Mapping[int, Sequence[Answer]]) -> Scores:
    complete = [answer for each in answers.values() for answer in each if answer.flaw is None]
    scores: dict[tuple[int, int], float | None] = {}
    for start in range(0, len(complete), SCORED):
        chunk = complete[start : start + SCORED]
        values = scorer.score(
            [[*_messages(prompts[answer.row]), {"role": "assistant", "content": answer.text}] for answer in chunk]
        )
        scores.update(zip(((answer.row, answer.number) for answer in chunk), values, strict=True))
    return scores


@dataclass(frozen=True, kw_only=True)
class _ScoredRows:
    """The data's rows with their responses and scores."""

    rows: Sequence[Record]
    prompts: Sequence[Sequence[Message]]
    answers: Mapping[int, Sequence[Answer]]
    """Responses by row; none for rows that the template refuses."""
    scores: Scores

    def pair_record(self, pair: PreferencePair) -> Record:
        tags = self.rows[pair.row].get("tags") or {}
        tags = {name: label for name, label in tags.items() if name != "answer_quality"}
        return {
            **self._head(pair.row),
            "chosen": pair.chosen.answer.text,
            "rejected": pair.rejected.answer.text,
            "margin": round(pair.margin, 4),
            "chosen_score": round(pair.chosen.score, 4),
            "rejected_score": round(pair.rejected.score, 4),
            "answer_scores": [self._score(answer) for answer in self.answers[pair.row]],
            **({"tags": tags} if tags else {}),
        }

    def refused_record(self, row: int, reason: str) -> Record:
        answers = [
            {"text": answer.text, "flaw": answer.flaw, "score": self._score(answer)}
            for answer in self.answers.get(row, ())
        ]
        return {**self._head(row), "reason": reason, "answers": answers}

    def truth(self, pairs: Sequence[PreferencePair]) -> tuple[Truth | None, Truth | None]:
        """The microworld checker's counts for the chosen responses and for the rejected ones."""
        chosen = check_responses([(self.prompts[pair.row], pair.chosen.answer.text) for pair in pairs])
        return chosen, check_responses([(self.prompts[pair.row], pair.rejected.answer.text) for pair in pairs])

    def _head(self, row: int) -> Record:
        return {"id": id_of(self.rows[row], row), "row": row, "messages": _messages(self.prompts[row])}

    def _score(self, answer: Answer) -> float | None:
        score = self.scores.get((answer.row, answer.number))
        return None if score is None else round(score, 4)


def _messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _counts(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons).most_common())


def _mean(lengths: Sequence[int]) -> float:
    return sum(lengths) / max(len(lengths), 1)
