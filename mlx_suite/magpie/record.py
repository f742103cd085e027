"""A row as one line of JSON, the same whenever and wherever it is made.

`accepted.jsonl`, one object per line in the order of `index`:

    {"id": "5d0c9f2e-000012",      from the folder's fingerprint and the index
     "index": 12,                  number of the row, from 0; rejected rows have the numbers between
     "seed": 214748364512,         of this row alone: it can be generated again without the others
     "messages": [{"role": "user", "content": "…"},
                  {"role": "assistant", "content": "…"}],   the run's own system text, if there is one, comes first
     "raw_instruction": "…",       where the sanitiser has changed it: what the model wrote
     "steer": {"category": "Math"},                 where it was steered; the messages do not show it
     "sampling": {"temperature": 1.0, "top_p": 1.0},
     "instruction_reason": "stop", "instruction_stop": "<|eot_id|>", "instruction_tokens": 14,
     "answer_reason": "stop", "answer_stop": "<|eot_id|>", "answer_tokens": 41,
     "tags": {"category": "Math", …, "answer_quality": "good"},
     "confidence": {"category": 0.93, …},           of each tag, its probability among the labels
     "nearest": {"id": "5d0c9f2e-000003", "cosine": 0.83},   the accepted row before it that is most like it
     "model": "tiny-llama3",
     "fingerprint": "5d0c9f2e81b04c7a"}      of model, header and settings: see manifest.json

A reason is `stop`, `limit` or `context`; a stop is null unless the reason is `stop`. Token counts leave the stop
token out; those of a conversation are the sums of its turns, and its reasons those of the last.

`rejected.jsonl` has the same fields and `rejection`, one of `reasons.REASONS`, and `stage`. A row has what its reason
needed to be found and nothing that came later: no answer if it was rejected at the screen, no tags if its text was
enough. `duplicate_of` names the accepted row that it repeats.
"""

from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.reasons import stage_of
from mlx_suite.magpie.decide import Verdict
from mlx_suite.magpie.draft import Draft, Ending, Tags
from mlx_suite.magpie.row import Plan, row_seed

Record = dict[str, Any]

_COSINE_DECIMALS = 3
_TAGGED = ("near_meaning", "low_quality", "unsafe", "off_quota_category", "off_quota_difficulty", "off_quota_language")
"""Reasons at the screen for which the model was asked."""


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Turns the rows of one folder into records."""

    plan: Plan
    fingerprint: str

    def id_of(self, index: int) -> str:
        """The id of a row."""
        return f"{self.fingerprint[:8]}-{index:06}"

    def record(self, draft: Draft, verdict: Verdict) -> Record:
        """The record of a decided row."""
        record = self._record(draft, verdict)
        if verdict.reason is not None:
            record |= {"rejection": verdict.reason, "stage": stage_of(verdict.reason)}
        if verdict.twin is not None:
            record["duplicate_of"] = self.id_of(verdict.twin)
        return record

    def _record(self, draft: Draft, verdict: Verdict) -> Record:
        # What a program had paid for before its end was known must not show: it depends on what was finished first.
        stage = None if verdict.reason is None else stage_of(verdict.reason)
        answered = stage not in ("ask", "screen")
        record: Record = {
            "id": self.id_of(draft.index),
            "index": draft.index,
            "seed": row_seed(self.plan.settings.seed, draft.index),
            "messages": self._messages(draft, answered, whole=stage is None),
        }
        if draft.raw != draft.instruction:
            record["raw_instruction"] = draft.raw
        if draft.steer:
            record["steer"] = dict(draft.steer)
        record["sampling"] = {"temperature": draft.sampling.temperature, "top_p": draft.sampling.top_p}
        turns = draft.turns if stage is None else ()
        record |= self._ending("instruction", [draft.asked, *(turn.asked for turn in turns)])
        answers = [draft.answered, *(turn.answered for turn in turns)]
        record |= self._ending("answer", answers if answered else [None])
        tags: dict[str, Any] = {}
        if answered or verdict.reason in _TAGGED:
            tags |= draft.tags or {}
        if stage in (None, "grade"):
            tags |= draft.answer_tags or {}
        record |= _tags(tags)
        if verdict.nearest is not None:
            twin, cosine = verdict.nearest
            record["nearest"] = {"id": self.id_of(twin), "cosine": round(cosine, _COSINE_DECIMALS)}
        return record | {"model": self.plan.name, "fingerprint": self.fingerprint}

    def _messages(self, draft: Draft, answered: bool, whole: bool) -> list[dict[str, str]]:
        system = self.plan.settings.system
        said = [] if system is None else [("system", system)]
        said.append(("user", draft.instruction))
        if answered:
            said.append(("assistant", draft.answer))
        for turn in draft.turns if whole else ():
            said += [("user", turn.instruction), ("assistant", turn.answer)]
        return [{"role": role, "content": content} for role, content in said]

    def _ending(self, part: str, endings: list[Ending | None]) -> Record:
        last = endings[-1]
        stop = None if last is None else last.stop
        return {
            f"{part}_reason": None if last is None else last.reason,
            f"{part}_stop": None if stop is None else self.plan.tokenizer.token_of(stop),
            f"{part}_tokens": None if last is None else sum(each.tokens for each in endings if each is not None),
        }


def _tags(tags: Tags) -> Record:
    if not tags:
        return {}
    return {
        "tags": {name: tag.label for name, tag in tags.items()},
        "confidence": {name: tag.confidence for name, tag in tags.items()},
    }
