"""A dataset read from files: training, validation and test examples, a report on each file, and every problem."""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mlx_suite.data.example import Example, content
from mlx_suite.data.read.formats import (
    FORMATS,
    Format,
    column_hint,
    detect,
    read_example,
    renamed,
    unknown_format,
    unread_keys,
)
from mlx_suite.data.read.records import Problem, Record, refusal
from mlx_suite.data.read.sources import TEST, TRAIN, UNUSED, VALID, DataFile, find_files, read_records
from mlx_suite.runtime.errors import UserError, nearest_name
from mlx_suite.runtime.files import write_atomically

NOT_READ = "not read"
UNKNOWN = "unknown"
PARTS = (TEST, VALID, TRAIN)
"""Parts in order of preference for evaluation. Training rows say little about a model."""
FEWEST = 20
"""Smallest dataset from which validation examples are taken; a smaller one can spare none."""
MOST = 2000
"""Maximum number of validation examples taken: more slow down every evaluation and barely reduce its noise."""

Examples = tuple[Example, ...]
Problems = tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What was read from one file."""

    name: str
    format: str
    """Format given or detected; `unknown` if no row has the keys of any format; `not read` if another file is named as
    the training file and this one's name does not say what it is for."""
    rows: int
    """Examples read."""
    bad: int
    """Rows with at least one problem."""
    part: str = TRAIN
    """Purpose of the examples: `train`, `valid` or `test`."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """Examples in which a key has a value that is not read, by key, the most frequent first."""
    left_out: int = 0
    """Rows that say themselves that they are not to be trained."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples in the order of their files and lines."""

    train: Examples
    valid: Examples = ()
    """Empty if the source has no validation examples."""
    test: Examples = ()
    files: tuple[FileReport, ...] = ()
    problems: Problems = ()
    """Rows that were skipped; always empty without `skip_bad`."""
    left_out: Problems = ()
    """Rows that say themselves that they are not to be trained, with the reason."""


def read_dataset(
    source: str | Path,
    *,
    format: str | None = None,
    skip_bad: bool = False,
    valid: str | Path | None = None,
    split: str = "",
    columns: Mapping[str, str] = MappingProxyType({}),
) -> Dataset:
    """Read a file, a folder, or, if there is no such path, the Hugging Face dataset
    `owner/repo[@revision][:configuration]`.

    In a folder, file names give the purpose: `train…`, `valid…`, `validation…`, `val…`, `dev…`, `test…`; if there is a
    training file, files with other names are not read. In a folder written by `mlx-suite magpie`, `accepted.jsonl` is
    read. If no name gives a purpose, every data file is for training. Validation examples from `valid` replace those
    of the source. `split` names the split to train on. `format` is one of FORMATS; without it, each file's format is
    detected from all of its rows.
    `columns` maps names that formats know to those of the files.

    Raises UserError that lists every problem of every file; with `skip_bad`, only if no training example is left.
    """
    chosen = None if format is None else _named_format(format)
    files = find_files(source, split)
    if valid is not None:
        files = (*(file for file in files if file.part != VALID), *_as_validation(find_files(valid)))
    examples: dict[str, list[Example]] = {TRAIN: [], VALID: [], TEST: []}
    reports: list[FileReport] = []
    problems: list[Problem] = []
    left_out: list[Problem] = []
    for file in files:
        if file.part == UNUSED:
            reports.append(FileReport(name=file.name, format=NOT_READ, rows=0, bad=0, part=UNUSED))
            continue
        report, read, wrong = _read_file(file, chosen, columns)
        examples[file.part] += read
        reports.append(report)
        problems += [problem for problem in wrong if not problem.by_design]
        left_out += [problem for problem in wrong if problem.by_design]
    if left_out and not problems and not examples[TRAIN]:
        raise refusal(left_out, str(source), all_lost=True)
    if problems and (not skip_bad or not examples[TRAIN]):
        raise refusal(problems, str(source), all_lost=not examples[TRAIN])
    return Dataset(
        train=tuple(examples[TRAIN]),
        valid=tuple(examples[VALID]),
        test=tuple(examples[TEST]),
        files=tuple(reports),
        problems=tuple(problems),
        left_out=tuple(left_out),
    )


def chosen_part(dataset: Dataset, part: str | None, source: str | Path) -> tuple[str, tuple[Example, ...]]:
    """Name and examples of `part`, by default the first of PARTS with any rows.

    Raises UserError if it is empty.
    """
    rows = {TEST: dataset.test, VALID: dataset.valid, TRAIN: dataset.train}
    name = part or next((name for name in PARTS if rows[name]), TRAIN)
    if not rows[name]:
        available = ", ".join(name for name in PARTS if rows[name])
        raise UserError(
            f"The dataset has no {name} part", where=str(source), fix=f"use --part with one of: {available}"
        )
    return name, rows[name]


def write_report(problems: Sequence[Problem], path: Path) -> None:
    """Write problems as JSON lines: {"place": "train.jsonl:12", "problem": "…"}."""
    lines = (json.dumps({"place": one.place, "problem": one.what}, ensure_ascii=False) + "\n" for one in problems)
    write_atomically(path, "".join(lines))


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 in hexadecimal of all examples in order, to detect a changed dataset. File names do not affect it."""
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.valid, dataset.test):
        digest.update(f"{len(part)}\n".encode())
        for example in part:
            trained = "".join("1" if message.trained else "0" for message in example.messages)
            digest.update(f"{content(example)} {trained}\n".encode())
    return digest.hexdigest()


def split(examples: Sequence[Example], share: float, seed: int, most: int = MOST) -> tuple[Examples, Examples]:
    """Training and validation examples, each in the original order; about `share` of all for validation.

    The split depends only on the seed and the texts, so most examples keep their side when others are added. Exact
    duplicates stay on one side.
    """
    assert 0 <= share < 1, share
    groups: dict[bytes, list[int]] = {}
    for place, example in enumerate(examples):
        groups.setdefault(hashlib.sha256(f"{seed} {content(example)}".encode()).digest(), []).append(place)
    if len(examples) < FEWEST or share == 0 or len(groups) == 1:
        return tuple(examples), ()
    target = min(most, max(1, round(share * len(examples))))
    drawn: set[int] = set()
    for _, group in sorted(groups.items()):
        if len(drawn) + len(group) <= target:
            drawn.update(group)
    if not drawn:
        smallest = min(groups.values(), key=len)
        drawn.update(smallest)
    train = tuple(example for place, example in enumerate(examples) if place not in drawn)
    valid = tuple(example for place, example in enumerate(examples) if place in drawn)
    return train, valid


def _named_format(name: str) -> Format:
    if name in FORMATS:
        return FORMATS[name]
    raise UserError(f"there is no format {name!r}", where="--format", fix=nearest_name(name, FORMATS))


def _as_validation(files: Sequence[DataFile]) -> list[DataFile]:
    """The validation files; if there are none, the training files, used for validation."""
    own = [file for file in files if file.part == VALID] or [file for file in files if file.part == TRAIN]
    return [DataFile(path=file.path, name=file.name, part=VALID) for file in own]


def _read_file(
    file: DataFile, chosen: Format | None, columns: Mapping[str, str]
) -> tuple[FileReport, list[Example], list[Problem]]:
    """Read every row of a file as an example or as its problems."""
    records = deque(renamed(record, columns) for record in read_records(file.path, file.name))
    form = chosen or detect(records)
    examples: list[Example] = []
    problems: list[Problem] = []
    bad = left_out = 0
    unread: Counter[str] = Counter()
    if not records:
        problems.append(Problem(file.name, "the file has no rows"))
    elif form is None and any(isinstance(record, Record) for record in records):
        problems.append(Problem(file.name, unknown_format(records) + column_hint(records)))
    while records:
        # Records are released as they are read, so that a large file is not in memory twice.
        record = records.popleft()
        if isinstance(record, Problem):
            problems.append(record)
            bad += 1
        elif form is None:
            bad += 1
        else:
            result = read_example(record, form)
            if isinstance(result, Example):
                examples.append(result)
                unread.update(unread_keys(record, form, result))
            else:
                problems += result
                by_design = all(problem.by_design for problem in result)
                bad, left_out = bad + (not by_design), left_out + by_design
    report = FileReport(
        name=file.name,
        format=form.name if form else UNKNOWN,
        rows=len(examples),
        bad=bad,
        part=file.part,
        unread=dict(sorted(unread.items(), key=lambda item: (-item[1], item[0]))),
        left_out=left_out,
    )
    return report, examples, problems
