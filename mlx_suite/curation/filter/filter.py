"""Filter a dataset into a new folder.

The folder has three files: `accepted.jsonl`, the kept rows; `rejected.jsonl`, the dropped rows, each with `rejection`,
the stage `filter` and, for duplicates, `duplicate_of` (`contaminated_by` for evaluation data), and those
that cannot be read, as `original`; and `filter.json`, the settings and the number of rows dropped by each step.
`finetune`, exports and reports read it like the folder of a run.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import (
    EMBEDDINGS_FILE,
    FILTER_FILE,
    REJECTED_FILE,
    Collection,
    check_output,
    json_line,
    read_collection,
    read_embeddings,
    write_embeddings,
)
from mlx_suite.curation.filter.conditions import RowTest, bind, parse_condition
from mlx_suite.curation.filter.fields import UnknownField, find_field
from mlx_suite.curation.filter.selection import (
    Dropped,
    Step,
    keep_confident,
    keep_first_of_copies,
    keep_first_of_similar_meanings,
    keep_first_of_similar_texts,
    keep_longest,
    keep_longest_of_halves,
    keep_passing,
    keep_per_label,
    keep_sample,
    keep_uncontaminated,
)
from mlx_suite.curation.filter.settings import FilterSettings, Preset, preset_named
from mlx_suite.curation.provenance import RunFacts, run_facts
from mlx_suite.curation.rows import Record
from mlx_suite.curation.set_aside import SetAside, set_aside_facts
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import staged_folder

KIND = "mlx-suite magpie filter"
STAGE = "filter"


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Result of one step."""

    step: str
    left: int
    """Rows left after the step."""
    dropped: Mapping[str, int]
    """Dropped rows by reason, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """Result of a filter."""

    source: str
    read: int
    results: tuple[StepResult, ...]
    kept: tuple[int, ...]
    """Indices of the kept rows, ascending, among those that could be read."""
    drops: Mapping[int, Dropped]
    set_aside: tuple[SetAside, ...] = ()
    """Rows that cannot be read."""

    def as_dict(self) -> dict[str, Any]:
        """JSON object."""
        steps = [{"step": result.step, "left": result.left, "dropped": dict(result.dropped)} for result in self.results]
        return {
            "source": self.source,
            "read": self.read,
            "set_aside": set_aside_facts(self.set_aside),
            "kept": len(self.kept),
            "steps": steps,
        }


def filter_dataset(
    source: str | Path,
    settings: FilterSettings,
    out: Path,
    *,
    force: bool = False,
    strict: bool = False,
    split: str = "",
) -> Filtered:
    """Read a dataset (its `split`, if named), filter it and write the folder `out` atomically.

    Rows that cannot be read are rejected with the reason, unless `strict`. Raises UserError for data that cannot be
    read, conditions that do not fit the rows, an `out` that may not be replaced, and if no row would be left.
    """
    check_output(out, _is_ours, source, force=force)
    collection = read_collection(source, strict=strict, split=split)
    filtered = choose(collection, settings)
    if not filtered.kept:
        raise UserError(
            "No row is left",
            where=str(source),
            fix="loosen the conditions",
            details=[f"{result.step}: {result.left:,} left" for result in filtered.results],
        )
    write_filtered(collection, filtered, settings, out)
    return filtered


def choose(collection: Collection, settings: FilterSettings) -> Filtered:
    """Filter without writing anything. Raises UserError for conditions that do not fit the rows."""
    left = list(range(len(collection.rows)))
    drops: dict[int, Dropped] = {}
    results = []
    if collection.set_aside:
        unread = Counter(row.reasons[0] for row in collection.set_aside)
        results.append(StepResult(step="readable", left=len(left), dropped=dict(unread.most_common())))
    for step in _steps(collection, settings):
        dropped = step.drop(left)
        drops |= dropped
        left = [number for number in left if number not in dropped]
        reasons = Counter(each.reason for each in dropped.values())
        results.append(StepResult(step=step.name, left=len(left), dropped=dict(reasons.most_common())))
    return Filtered(
        source=collection.name,
        read=collection.total,
        set_aside=collection.set_aside,
        results=tuple(results),
        kept=tuple(left),
        drops=drops,
    )


def write_filtered(collection: Collection, filtered: Filtered, settings: FilterSettings, out: Path) -> None:
    """Write the folder atomically."""
    rows = collection.rows
    vectors = read_embeddings(collection)
    facts = run_facts(collection)
    with staged_folder(out) as folder:
        (folder / ACCEPTED_FILE).write_bytes(b"".join(json_line(rows[number]) for number in filtered.kept))
        rejected = (_rejected(rows, number, filtered.drops[number]) for number in sorted(filtered.drops))
        unread = (
            {**row.as_row(), "messages": [], "rejection": row.reasons[0], "stage": STAGE} for row in filtered.set_aside
        )
        (folder / REJECTED_FILE).write_bytes(b"".join(map(json_line, (*rejected, *unread))))
        (folder / FILTER_FILE).write_text(_description(filtered, settings, facts), encoding="utf-8")
        if vectors is not None:
            write_embeddings(folder / EMBEDDINGS_FILE, vectors[list(filtered.kept)])


def _steps(collection: Collection, settings: FilterSettings) -> list[Step]:
    """The steps in order: conditions, duplicates, limits on the number of rows."""
    rows = collection.rows
    preset = preset_named(settings.preset) if settings.preset else Preset(longest=None)
    lines = (*preset.conditions(settings.tau1, settings.tau2), *settings.where)
    tests = bind([parse_condition(line) for line in (*lines, *preset.halves)], rows)
    halves = tests[len(lines) :]
    tests = tests[: len(lines)]
    steps = [keep_passing(test, rows) for test in tests]
    if settings.confidence is not None:
        steps.append(keep_confident(settings.confidence, _tags_with_confidence(tests, rows), rows))
    if settings.decontaminate:
        steps.append(keep_uncontaminated(settings.decontaminate, rows))
    if settings.preset or settings.keep_first:
        steps.append(keep_first_of_copies(rows))
    if settings.keep_first in ("lexical", "cosine"):
        steps.append(_keep_first(collection, settings))
    steps += _limits(rows, settings, preset, halves)
    if not steps:
        raise UserError(
            "No condition was given",
            where="magpie filter",
            fix="give --where 'input_quality >= good', --longest 1000 or another one",
        )
    return steps


def _limits(rows: Sequence[Record], settings: FilterSettings, preset: Preset, halves: Sequence[RowTest]) -> list[Step]:
    try:
        steps = [keep_per_label(find_field(name, rows), count, settings.seed, rows) for name, count in settings.quotas]
    except UnknownField as error:
        raise UserError(f"The rows lack a field: {error}", where="--per", fix="use another field, or add it") from error
    longest = settings.longest if settings.longest is not None else preset.longest
    if longest is not None and halves:
        steps.append(keep_longest_of_halves(longest, halves, rows))
    elif longest is not None:
        steps.append(keep_longest(longest, rows))
    if settings.sample is not None:
        steps.append(keep_sample(settings.sample, settings.seed, rows))
    return steps


def _keep_first(collection: Collection, settings: FilterSettings) -> Step:
    if settings.keep_first == "lexical":
        return keep_first_of_similar_texts(settings.threshold, collection.rows)
    vectors = read_embeddings(collection)
    if vectors is None:
        raise UserError(
            f"These rows have no embeddings: there is no {EMBEDDINGS_FILE} next to {ACCEPTED_FILE}",
            where="--keep-first cosine",
            fix="use the folder of a run with embeddings, or --keep-first lexical",
        )
    assert settings.threshold is not None, "checked by the settings"
    return keep_first_of_similar_meanings(vectors, settings.threshold)


def _tags_with_confidence(tests: Sequence[RowTest], rows: Sequence[Record]) -> list[str]:
    """Tags used in conditions for which some row has a confidence."""
    known = {tag for row in rows for tag in row.get("confidence", ())}
    if not known:
        raise UserError(
            "No row has a confidence",
            where="--confidence",
            fix="add it with `mlx-suite magpie tag`",
        )
    return list(dict.fromkeys(test.field.name for test in tests if test.field.name in known))


def _rejected(rows: Sequence[Record], number: int, dropped: Dropped) -> Record:
    twin = {} if dropped.twin is None else {"duplicate_of": rows[dropped.twin].get("id", dropped.twin)}
    place = {} if dropped.place is None else {"contaminated_by": dropped.place}
    return {**rows[number], "rejection": dropped.reason, "stage": STAGE, **twin, **place}


def _description(filtered: Filtered, settings: FilterSettings, facts: RunFacts) -> str:
    content = {"kind": KIND, **filtered.as_dict(), "settings": asdict(settings), "made_by": facts.as_dict()}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _is_ours(folder: Path) -> bool:
    return (folder / FILTER_FILE).is_file()
