"""A dataset read whole: examples to train, validate and test on, what each file was taken for, and what is wrong."""

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import FORMATS, Format, detect, read_example, unknown_format
from mlx_suite.data.read.problems import Problem, refusal
from mlx_suite.data.read.records import Record, read_records
from mlx_suite.data.read.sources import TEST, TRAIN, UNUSED, VALID, DataFile, find_files
from mlx_suite.data.split import content
from mlx_suite.runtime.errors import UserError, nearest_name
from mlx_suite.runtime.files import write_atomically

NOT_READ = "not read"
UNKNOWN = "unknown"
PARTS = (TEST, VALID, TRAIN)
"""Parts in order of preference for evaluation. Training rows say little about a model."""
Problems = tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What became of one file."""

    name: str
    format: str
    """As it was given or found; `unknown` if no row has the keys of any; `not read` for what lies beside a training
    file without saying what it is for."""
    rows: int
    """Examples read from it."""
    bad: int
    """Rows left out, each for one problem or more."""
    part: str = TRAIN
    """What the examples are for: `train`, `valid` or `test`."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples in the order of their files and lines."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...] = ()
    """Empty if the source sets none aside."""
    test: tuple[Example, ...] = ()
    files: tuple[FileReport, ...] = ()
    problems: Problems = ()
    """Rows that were left out; there are none without `skip_bad`."""


def read_dataset(
    source: str | Path, *, format: str | None = None, skip_bad: bool = False, valid: str | Path | None = None
) -> Dataset:
    """Read a file, a folder, or a dataset of the hub, `owner/repo[@revision]`, where no such path exists.

    In a folder, names tell what a file is for: `train…`, `valid…`, `validation…`, `val…`, `dev…`, `test…`; beside a
    training file others are not read. Of a folder that `mlx-suite magpie` has filled, `accepted.jsonl` is read. Where
    no name tells, every data file is for training. `valid` names validation examples that take the place of those of
    the source. `format` is one of FORMATS; without it each file's own is found from all of its rows.

    Raises UserError that lists every problem of every file, or, with `skip_bad`, only if nothing is left to train on.
    """
    chosen = None if format is None else _named_format(format)
    files = find_files(source)
    if valid is not None:
        files = (*(file for file in files if file.part != VALID), *_as_validation(find_files(valid)))
    examples: dict[str, list[Example]] = {TRAIN: [], VALID: [], TEST: []}
    reports: list[FileReport] = []
    problems: list[Problem] = []
    for file in files:
        if file.part == UNUSED:
            reports.append(FileReport(name=file.name, format=NOT_READ, rows=0, bad=0, part=UNUSED))
            continue
        report, found, wrong = _read_file(file, chosen)
        examples[file.part] += found
        reports.append(report)
        problems += wrong
    if problems and (not skip_bad or not examples[TRAIN]):
        raise refusal(problems, str(source), all_lost=not examples[TRAIN])
    return Dataset(
        train=tuple(examples[TRAIN]),
        valid=tuple(examples[VALID]),
        test=tuple(examples[TEST]),
        files=tuple(reports),
        problems=tuple(problems),
    )


def chosen_part(dataset: Dataset, part: str | None, source: str | Path) -> tuple[str, tuple[Example, ...]]:
    """Name and examples of `part`, by default the first of PARTS with any rows.

    Raises UserError if it is empty.
    """
    rows = {TEST: dataset.test, VALID: dataset.valid, TRAIN: dataset.train}
    name = part or next((name for name in PARTS if rows[name]), TRAIN)
    if not rows[name]:
        there = ", ".join(name for name in PARTS if rows[name])
        raise UserError(f"The dataset has no {name} part", where=str(source), fix=f"use --part with one of: {there}")
    return name, rows[name]


def write_report(problems: Sequence[Problem], path: Path) -> None:
    """Write what was left out as JSON lines: {"place": "train.jsonl:12", "problem": "…"}."""
    lines = (json.dumps({"place": one.place, "problem": one.what}, ensure_ascii=False) + "\n" for one in problems)
    write_atomically(path, "".join(lines))


def fingerprint(dataset: Dataset) -> str:
    """64 hexadecimal digits from every example's content in order, to notice a dataset that has changed.

    Where the examples stood does not count: the same ones in another file give the same.
    """
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.valid, dataset.test):
        digest.update(f"{len(part)}\n".encode())
        for example in part:
            trained = "".join("1" if message.trained else "0" for message in example.messages)
            digest.update(f"{content(example)} {trained}\n".encode())
    return digest.hexdigest()


def _named_format(name: str) -> Format:
    if name in FORMATS:
        return FORMATS[name]
    raise UserError(f"there is no format {name!r}", where="--format", fix=nearest_name(name, FORMATS))


def _as_validation(files: Sequence[DataFile]) -> list[DataFile]:
    """The validation files among them; if none is named so, the others."""
    own = [file for file in files if file.part == VALID] or [file for file in files if file.part == TRAIN]
    return [DataFile(path=file.path, name=file.name, part=VALID) for file in own]


def _read_file(file: DataFile, chosen: Format | None) -> tuple[FileReport, list[Example], list[Problem]]:
    """Every row of a file as an example, or as the problems it has."""
    records = deque(read_records(file.path, file.name))
    form = chosen or detect(records)
    examples: list[Example] = []
    problems: list[Problem] = []
    bad = 0
    if not records:
        problems.append(Problem(file.name, "the file holds no rows"))
    elif form is None and any(isinstance(record, Record) for record in records):
        problems.append(Problem(file.name, unknown_format(records)))
    while records:
        # Each is let go once it is read, so that a large file is not held twice.
        record = records.popleft()
        if isinstance(record, Problem):
            problems.append(record)
            bad += 1
        elif form is None:
            bad += 1
        else:
            found = read_example(record, form)
            if isinstance(found, Example):
                examples.append(found)
            else:
                problems += found
                bad += 1
    name = form.name if form else UNKNOWN
    return FileReport(name=file.name, format=name, rows=len(examples), bad=bad, part=file.part), examples, problems
