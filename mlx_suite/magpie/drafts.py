"""The log of a run: `drafts.jsonl`, everything the model wrote, in the order in which rows were finished.

One line per draft, appended as soon as the row has ended, so a kill costs only the rows that were under way. The rows
of accepted.jsonl and rejected.jsonl are made of these lines and nothing else; whoever changes what is accepted needs
no model.

    {"index": 12, "steer": {"category": "Math"}, "temperature": 1.0, "top_p": 1.0,
     "raw": "…", "instruction": "…" and "removed": […] where the sanitiser changed it, "asked": ["stop", 3, 14],
     "tags": {"category": ["Math", 0.93], …}, "embedding": "base64 of half precision",
     "answer": "…", "answered": ["stop", 3, 41], "turns": […], "answer_tags": {…}, "sum": "5d0c9f2e"}

An ending is its reason, the id of the stop token, and the number of tokens. A row may stand here twice, when it was
made again because a limit was raised or because an answer had been left out: the last line counts. `sum` is a checksum
of the line without it.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.dataset import DRAFTS_FILE
from mlx_suite.curation.tags.tagging import Tag
from mlx_suite.magpie.draft import Draft, Ending, Exchange, Tags
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import read_journal

DRAFTS_FILES = "drafts*.jsonl"
"""Its own, and those of the other processes of a run."""


def drafts_name(rank: int) -> str:
    """The file of one of the processes that fill a folder together; the first has number 0."""
    return f"drafts-{rank}.jsonl" if rank else DRAFTS_FILE


def draft_line(draft: Draft) -> dict[str, Any]:
    """A draft as an object of JSON."""
    line: dict[str, Any] = {"index": draft.index}
    if draft.steer:
        line["steer"] = dict(draft.steer)
    line |= {"temperature": draft.sampling.temperature, "top_p": draft.sampling.top_p, "raw": draft.raw}
    if draft.instruction != draft.raw:
        line |= {"instruction": draft.instruction, "removed": list(draft.removed)}
    line["asked"] = _ending_line(draft.asked)
    if draft.tags is not None:
        line["tags"] = _tags_line(draft.tags)
    if draft.embedding is not None:
        line["embedding"] = base64.b64encode(draft.embedding.astype("<f2").tobytes()).decode()
    if draft.answered is not None:
        line |= {"answer": draft.answer, "answered": _ending_line(draft.answered)}
    if draft.turns:
        line["turns"] = [_exchange_line(turn) for turn in draft.turns]
    if draft.ended is not None:
        line["ended"] = draft.ended
    if draft.answer_tags is not None:
        line["answer_tags"] = _tags_line(draft.answer_tags)
    return line | {"sum": checksum(line)}


def draft_of(line: Mapping[str, Any]) -> Draft:
    """The draft of a line. KeyError, TypeError or ValueError where it is none."""
    answered, embedding = line.get("answered"), line.get("embedding")
    return Draft(
        index=int(line["index"]),
        raw=line["raw"],
        instruction=line.get("instruction", line["raw"]),
        asked=_ending(line["asked"]),
        removed=tuple(line.get("removed", ())),
        steer=tuple(line.get("steer", {}).items()),
        sampling=SamplingSetting(temperature=float(line["temperature"]), top_p=float(line["top_p"])),
        tags=_tags(line.get("tags")),
        embedding=None if embedding is None else halves(np.frombuffer(base64.b64decode(embedding), "<f2")),
        answer=line.get("answer", ""),
        answered=None if answered is None else _ending(answered),
        turns=tuple(map(_exchange, line.get("turns", ()))),
        ended=line.get("ended"),
        answer_tags=_tags(line.get("answer_tags")),
    )


def read_drafts(folder: Path) -> dict[int, Draft]:
    """The drafts of a folder by their numbers, the last of each.

    Raises UserError with `file:line` for a line that is broken, or not as it was written.
    """
    drafts: dict[int, Draft] = {}
    for path in sorted(folder.glob(DRAFTS_FILES)):
        drafts |= {draft.index: draft for draft in _read(path)}
    return drafts


def draft_at(path: Path, number: int, line: Mapping[str, Any]) -> Draft:
    """The draft of a file's line. Raises UserError for one that is broken, or not as it was written."""
    try:
        if line.get("sum") == checksum(line):
            return draft_of(line)
        problem = "is not as it was written: its checksum says something else"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        problem = "is no draft of this program"
    raise UserError(
        f"Line {number} {problem}",
        where=f"{path}:{number}",
        fix="take that line out; its row is made again",
    )


def halves(vector: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """A vector rounded to half precision, so that what is read back is what was judged."""
    return vector.astype(np.float16).astype(np.float32)


def checksum(line: Mapping[str, Any]) -> str:
    """8 hexadecimal digits of all but `sum`."""
    content = {key: value for key, value in line.items() if key != "sum"}
    # A lone surrogate is written as an escape, with or without the others.
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()


def _read(path: Path) -> Iterator[Draft]:
    for number, line in enumerate(read_journal(path), start=1):
        yield draft_at(path, number, line)


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
    return line | {
        "asked": _ending_line(turn.asked),
        "answer": turn.answer,
        "answered": _ending_line(turn.answered),
    }


def _exchange(line: Any) -> Exchange:
    return Exchange(
        instruction=line.get("instruction", line["raw"]),
        raw=line["raw"],
        asked=_ending(line["asked"]),
        answer=line["answer"],
        answered=_ending(line["answered"]),
    )
