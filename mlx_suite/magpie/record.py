"""A row as one line of JSON, the same whenever and wherever it is made.

`accepted.jsonl`, one object per line in the order of `index`:

    {"id": "5d0c9f2e-000012",      from the folder's fingerprint and the index
     "index": 12,                  number of the row, from 0; rejected rows have the numbers between
     "seed": 214748364512,         of this row alone: it can be generated again without the others
     "messages": [{"role": "user", "content": "…"},
                  {"role": "assistant", "content": "…"}],   a system text, if there is one, comes first
     "instruction_reason": "stop", "instruction_stop": "<|eot_id|>", "instruction_tokens": 14,
     "answer_reason": "stop", "answer_stop": "<|eot_id|>", "answer_tokens": 41,
     "model": "tiny-llama3",
     "fingerprint": "5d0c9f2e81b04c7a"}      of model, header and settings: see settings.json

A reason is `stop`, `limit` or `context`; a stop is null unless the reason is `stop`. Token counts leave the stop
token out.

`rejected.jsonl` has the same fields and `rejection`, one of `screen.REASONS`. An instruction that was not worth an
answer has no assistant message, and null for what the answer would have; of a duplicate nothing but the instruction
is kept, and `duplicate_of` names the accepted row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.engine import Written
from mlx_suite.magpie.row import Draft, Plan, row_seed
from mlx_suite.magpie.screen import DUPLICATE

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Turns the rows of one folder into records."""

    plan: Plan
    fingerprint: str

    def id_of(self, index: int) -> str:
        """The id of a row."""
        return f"{self.fingerprint[:8]}-{index:06}"

    def accepted(self, draft: Draft) -> Record:
        """The record of an accepted row."""
        return self._record(draft, draft.answered)

    def rejected(self, draft: Draft, reason: str, duplicate_of: str | None = None) -> Record:
        """The record of a row rejected for `reason`."""
        # A duplicate is found before or after its answer, as it happens; the record must not depend on that.
        record = self._record(draft, None if reason == DUPLICATE else draft.answered)
        record["rejection"] = reason
        if duplicate_of is not None:
            record["duplicate_of"] = duplicate_of
        return record

    def _record(self, draft: Draft, answered: Written | None) -> Record:
        settings = self.plan.settings
        messages = [] if settings.system is None else [("system", settings.system)]
        messages.append(("user", draft.instruction))
        if answered is not None:
            messages.append(("assistant", draft.answer))
        return {
            "id": self.id_of(draft.index),
            "index": draft.index,
            "seed": row_seed(settings.seed, draft.index),
            "messages": [{"role": role, "content": content} for role, content in messages],
            **self._ending("instruction", draft.asked),
            **self._ending("answer", answered),
            "model": settings.model_name or Path(self.plan.tokenizer.origin).name,
            "fingerprint": self.fingerprint,
        }

    def _ending(self, part: str, written: Written | None) -> Record:
        stop = None if written is None else written.stop_token
        return {
            f"{part}_reason": None if written is None else written.reason,
            f"{part}_stop": None if stop is None else self.plan.tokenizer.token_of(stop),
            f"{part}_tokens": None if written is None else len(written.tokens),
        }


def instruction_of(record: Record) -> str:
    """The user's turn of a record. KeyError or TypeError where the object is no record."""
    return next(str(message["content"]) for message in record["messages"] if message["role"] == "user")


def answer_of(record: Record) -> str:
    """The assistant's turn of an accepted record."""
    return str(record["messages"][-1]["content"])
