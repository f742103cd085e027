"""Rows of a run on disk: drafts as the model wrote them, and the records made from drafts and decisions.

`drafts.jsonl` is the log: one line per finished row, appended immediately, so a kill loses only the rows in flight.
Everything else can be rebuilt from it without the model.

    {"index": 12, "steer": {"category": "Math"}, "temperature": 1.0, "top_p": 1.0,
     "raw": "…", "instruction": "…" and "removed": […] if the sanitiser changed it, "asked": ["stop", 3, 14],
     "tags": {"category": ["Math", 0.93], …}, "embedding": "base64 of float16",
     "answer": "…", "answered": ["stop", 3, 41], "turns": […], "answer_tags": {…}, "sum": "5d0c9f2e"}

`asked` and `answered` say how the instruction and the response ended: reason, stop token id, number of tokens. A row
that was generated again (a limit was raised, or a skipped response turned out to be needed) has two lines; the last
one counts. `sum` is a checksum of the rest of the line.

`accepted.jsonl` has one line per accepted row, in the order of `index`:

    {"id": "5d0c9f2e-000012",      from the folder's fingerprint and the index
     "index": 12,                  row number from 0, counting rejected rows
     "seed": 214748364512,         this row's own, so it can be generated again without the others
     "messages": [{"role": "user", "content": "…"},
                  {"role": "assistant", "content": "…"}],   preceded by the run's system prompt, if it has one;
                                   with "reasoning_content" if the model reasoned before its response
     "raw_instruction": "…",       before sanitising, if that changed it
     "steer": {"category": "Math"},                 what the row was steered to; the messages do not show it
     "sampling": {"temperature": 1.0, "top_p": 1.0},
     "instruction_reason": "stop", "instruction_stop": "<|eot_id|>", "instruction_tokens": 14,
     "answer_reason": "stop", "answer_stop": "<|eot_id|>", "answer_tokens": 41,
     "tags": {"category": "Math", …, "answer_quality": "good"},
     "confidence": {"category": 0.93, …},           probability of each tag among its labels
     "nearest": {"id": "5d0c9f2e-000003", "cosine": 0.83},   the most similar accepted row before it
     "model": "tiny-llama3",
     "fingerprint": "5d0c9f2e81b04c7a"}      of model, header and settings: see manifest.json

A reason is `stop`, `limit` or `context`; the stop is null unless the reason is `stop`. Token counts exclude the stop
token. For a conversation they are sums over its turns, and the reasons are the last turn's.

`rejected.jsonl` has the same fields plus `rejection`, one of `reasons.REASONS`, and `stage`. A rejected row contains
what was needed to reject it and nothing later: no response if it was rejected when screened, no tags if the text
was reason enough. `duplicate_of` is the id of the accepted row that it repeats.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.dataset import DRAFTS_FILE
from mlx_suite.curation.reasons import stage_of
from mlx_suite.curation.tags.tagging import Tag
from mlx_suite.engine import Written
from mlx_suite.engine.program import Reason
from mlx_suite.magpie.plan import RowPlan, row_seed
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.magpie.steering import Steer
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import read_journal

DRAFTS_GLOB = "drafts*.jsonl"
"""Draft files of all workers of a run."""

Record = dict[str, Any]
Tags = Mapping[str, Tag]

_COSINE_DECIMALS = 3
_NEEDS_TAGS = (
    "near_meaning",
    "low_quality",
    "unsafe",
    "off_quota_category",
    "off_quota_difficulty",
    "off_quota_language",
)
"""Screening reasons that need queries to the model."""


# ---- drafts


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a sampled text ended."""

    reason: Reason
    stop: int | None
    """Stop token id; None unless the reason is `stop`."""
    tokens: int
    """Number of tokens without the stop token."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """An instruction after the first response, and its response."""

    instruction: str
    raw: str
    """The instruction before sanitising."""
    instruction_end: Ending
    response: str
    response_end: Ending
    reasoning: str = ""
    """What the model thought before the response."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A row as the model wrote it, not yet decided. Parts after a certain rejection are missing."""

    index: int
    """Row number, from 0."""
    raw: str
    """The instruction as sampled, without surrounding whitespace, which chat templates strip as well."""
    instruction: str
    """The instruction in the conversation: sanitised."""
    instruction_end: Ending
    removed: tuple[str, ...] = ()
    """Names of the sanitiser rules that changed it."""
    steer: Steer = ()
    sampling: SamplingSetting = field(default_factory=lambda: SamplingSetting(temperature=1.0))
    tags: Tags | None = None
    """Tags of the instruction: None if not queried, empty if the context had no room for the query."""
    embedding: npt.NDArray[np.float32] | None = None
    """Unit vector (d,), rounded to float16 as it is stored."""
    response: str = ""
    reasoning: str = ""
    """What the model thought before the response."""
    response_end: Ending | None = None
    """None if no response was generated."""
    turns: tuple[Exchange, ...] = ()
    turns_ended: str | None = None
    """Why there are fewer turns than requested."""
    response_tags: Tags | None = None
    """Tags of the first response: None if not queried, empty if the context had no room for the query."""

    @property
    def sampled_tokens(self) -> int:
        """Number of tokens sampled, stop tokens excluded."""
        turns = (end for turn in self.turns for end in (turn.instruction_end, turn.response_end))
        return sum(end.tokens for end in (self.instruction_end, self.response_end, *turns) if end is not None)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Acceptance or rejection of a row."""

    reason: str | None = None
    """Why the row is rejected; None if it is accepted."""
    duplicate_of: int | None = None
    """Number of the accepted row that it repeats."""
    nearest: tuple[int, float] | None = None
    """For an accepted row: number and cosine similarity of the nearest accepted row before it."""


def ending_of(written: Written) -> Ending:
    """How a `Sample` ended."""
    return Ending(reason=written.reason, stop=written.stop_token, tokens=len(written.tokens))


# ---- drafts.jsonl


def drafts_name(rank: int) -> str:
    """Name of a worker's draft file."""
    return f"drafts-{rank}.jsonl" if rank else DRAFTS_FILE


def read_drafts(folder: Path) -> dict[int, Draft]:
    """Read a folder's drafts by row number; the last draft of a row counts.

    Raises UserError with `file:line` for a broken line or one whose checksum is wrong.
    """
    drafts: dict[int, Draft] = {}
    for path in sorted(folder.glob(DRAFTS_GLOB)):
        lines = enumerate(read_journal(path), start=1)
        drafts |= {draft.index: draft for draft in (draft_at(path, number, line) for number, line in lines)}
    return drafts


def draft_at(path: Path, number: int, line: Mapping[str, Any]) -> Draft:
    """The draft in a line of a file. Raises UserError for a broken line or one whose checksum is wrong."""
    try:
        if line.get("sum") == checksum(line):
            return draft_of(line)
        problem = "has been changed: its checksum does not match"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        problem = "is not a draft"
    raise UserError(
        f"Line {number} {problem}",
        where=f"{path}:{number}",
        fix="delete that line; its row will be generated again",
    )


def draft_line(draft: Draft) -> dict[str, Any]:
    """A draft as a JSON object."""
    line: dict[str, Any] = {"index": draft.index}
    if draft.steer:
        line["steer"] = dict(draft.steer)
    line |= {"temperature": draft.sampling.temperature, "top_p": draft.sampling.top_p, "raw": draft.raw}
    if draft.instruction != draft.raw:
        line |= {"instruction": draft.instruction, "removed": list(draft.removed)}
    line["asked"] = _ending_line(draft.instruction_end)
    if draft.tags is not None:
        line["tags"] = _tags_line(draft.tags)
    if draft.embedding is not None:
        line["embedding"] = base64.b64encode(draft.embedding.astype("<f2").tobytes()).decode()
    if draft.response_end is not None:
        line |= {"answer": draft.response, "answered": _ending_line(draft.response_end)}
    if draft.reasoning:
        line["thought"] = draft.reasoning
    if draft.turns:
        line["turns"] = [_exchange_line(turn) for turn in draft.turns]
    if draft.turns_ended is not None:
        line["ended"] = draft.turns_ended
    if draft.response_tags is not None:
        line["answer_tags"] = _tags_line(draft.response_tags)
    return line | {"sum": checksum(line)}


def draft_of(line: Mapping[str, Any]) -> Draft:
    """The draft in a JSON object. Raises KeyError, TypeError or ValueError if it is not one."""
    response_end, embedding = line.get("answered"), line.get("embedding")
    return Draft(
        index=int(line["index"]),
        raw=line["raw"],
        instruction=line.get("instruction", line["raw"]),
        instruction_end=_ending(line["asked"]),
        removed=tuple(line.get("removed", ())),
        steer=tuple(line.get("steer", {}).items()),
        sampling=SamplingSetting(temperature=float(line["temperature"]), top_p=float(line["top_p"])),
        tags=_tags(line.get("tags")),
        embedding=None if embedding is None else np.frombuffer(base64.b64decode(embedding), "<f2").astype(np.float32),
        response=line.get("answer", ""),
        reasoning=line.get("thought", ""),
        response_end=None if response_end is None else _ending(response_end),
        turns=tuple(map(_exchange, line.get("turns", ()))),
        turns_ended=line.get("ended"),
        response_tags=_tags(line.get("answer_tags")),
    )


def checksum(line: Mapping[str, Any]) -> str:
    """8 hexadecimal digits over everything but `sum`."""
    content = {key: value for key, value in line.items() if key != "sum"}
    # ASCII escapes, so that a lone surrogate hashes the same whether or not the file had to escape it.
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()


def _ending_line(ending: Ending) -> list[Any]:
    return [ending.reason, ending.stop, ending.tokens]


def _ending(value: Any) -> Ending:
    reason, stop, tokens = value
    return Ending(reason=reason, stop=stop, tokens=tokens)


def _tags_line(tags: Tags) -> dict[str, list[Any]]:
    return {name: [tag.label, tag.confidence] for name, tag in tags.items()}


def _tags(value: Any) -> Tags | None:
    if value is None:
        return None
    return {name: Tag(label=label, confidence=confidence) for name, (label, confidence) in value.items()}


def _exchange_line(turn: Exchange) -> dict[str, Any]:
    line: dict[str, Any] = {"raw": turn.raw}
    if turn.instruction != turn.raw:
        line["instruction"] = turn.instruction
    if turn.reasoning:
        line["thought"] = turn.reasoning
    ends = _ending_line(turn.instruction_end), _ending_line(turn.response_end)
    return line | {"asked": ends[0], "answer": turn.response, "answered": ends[1]}


def _exchange(line: Any) -> Exchange:
    return Exchange(
        instruction=line.get("instruction", line["raw"]),
        raw=line["raw"],
        instruction_end=_ending(line["asked"]),
        response=line["answer"],
        reasoning=line.get("thought", ""),
        response_end=_ending(line["answered"]),
    )


# ---- accepted.jsonl and rejected.jsonl


def _response(part: Draft | Exchange) -> dict[str, str]:
    """An assistant's turn; reasoning has a key of its own."""
    turn = {"role": "assistant", "content": part.response}
    return turn | {"reasoning_content": part.reasoning} if part.reasoning else turn


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Makes the records of one folder."""

    plan: RowPlan
    fingerprint: str

    def id_of(self, index: int) -> str:
        """Id of a row."""
        return f"{self.fingerprint[:8]}-{index:06}"

    def record(self, draft: Draft, decision: Decision) -> Record:
        """The record of a decided row."""
        # How much of a rejected row was generated depends on what finished first, so the record leaves it out.
        stage = None if decision.reason is None else stage_of(decision.reason)
        has_response = stage not in ("ask", "screen")
        record: Record = {
            "id": self.id_of(draft.index),
            "index": draft.index,
            "seed": row_seed(self.plan.settings.seed, draft.index),
            "messages": self._messages(draft, has_response, has_turns=stage is None),
        }
        if draft.raw != draft.instruction:
            record["raw_instruction"] = draft.raw
        if draft.steer:
            record["steer"] = dict(draft.steer)
        record["sampling"] = {"temperature": draft.sampling.temperature, "top_p": draft.sampling.top_p}
        turns = draft.turns if stage is None else ()
        record |= self._ending("instruction", [draft.instruction_end, *(turn.instruction_end for turn in turns)])
        responses = [draft.response_end, *(turn.response_end for turn in turns)]
        record |= self._ending("answer", responses if has_response else [None])
        tags: dict[str, Tag] = {}
        if has_response or decision.reason in _NEEDS_TAGS:
            tags |= draft.tags or {}
        if stage in (None, "grade"):
            tags |= draft.response_tags or {}
        if tags:
            record["tags"] = {name: tag.label for name, tag in tags.items()}
            record["confidence"] = {name: tag.confidence for name, tag in tags.items()}
        if decision.nearest is not None:
            index, cosine = decision.nearest
            record["nearest"] = {"id": self.id_of(index), "cosine": round(cosine, _COSINE_DECIMALS)}
        record |= {"model": self.plan.name, "fingerprint": self.fingerprint}
        if decision.reason is not None:
            record |= {"rejection": decision.reason, "stage": stage}
        if decision.duplicate_of is not None:
            record["duplicate_of"] = self.id_of(decision.duplicate_of)
        return record

    def _messages(self, draft: Draft, has_response: bool, has_turns: bool) -> list[dict[str, str]]:
        system = self.plan.settings.system
        turns = [] if system is None else [{"role": "system", "content": system}]
        turns.append({"role": "user", "content": draft.instruction})
        if has_response:
            turns.append(_response(draft))
        for turn in draft.turns if has_turns else ():
            turns += [{"role": "user", "content": turn.instruction}, _response(turn)]
        return turns

    def _ending(self, part: str, endings: list[Ending | None]) -> Record:
        last = endings[-1]
        stop = None if last is None else last.stop
        return {
            f"{part}_reason": None if last is None else last.reason,
            f"{part}_stop": None if stop is None else self.plan.tokenizer.token_of(stop),
            f"{part}_tokens": None if last is None else sum(each.tokens for each in endings if each is not None),
        }
