"""Configurations and splits of a dataset repository: which files belong together.

A repository of the hub may hold several datasets, its configurations, such as `main` and `socratic` of one set of
questions. Its card, README.md, lists them; without a card, they are folders that each have training files. Within one
configuration, files such as `train_sft-00000-of-00003.parquet` name their split.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from mlx_suite.runtime.errors import UserError, nearest_name

CARD = "README.md"
_FRONT_MATTER = re.compile(r"---\r?\n(.*?)\r?\n---\s*(?:\n|$)", re.DOTALL)
_SHARD = re.compile(r"(?P<split>\w[\w.]*)-\d{5}-of-\d{5}\b")
"""File name that the hub's `datasets` library writes for a part of a split."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One dataset of a repository."""

    name: str
    splits: Mapping[str, str]
    """The split of each file by its name; empty text if neither the card nor the file name says."""
    is_default: bool = False


def split_configuration(source: str, is_name: bool) -> tuple[str, str]:
    """Split `SOURCE:CONFIG` if SOURCE is a folder, or if `is_name`; the configuration is empty if there is none."""
    base, colon, name = source.rpartition(":")
    if colon and name and "/" not in name and (is_name or Path(base).expanduser().is_dir()):
        return base, name
    return source, ""


def files_of(folder: Path, names: Sequence[str], wanted: str, source: str, trains: Collection[str]) -> dict[str, str]:
    """The split of each file of the configuration `wanted`, or of the only one.

    Args:
        names: Data files, relative to the folder.
        wanted: Name of a configuration; empty to choose none.
        trains: Those of `names` that are training files by their own name.

    Raises UserError that lists the configurations if there are several and none is chosen, or if there is none of
    this name.
    """
    # Of the chosen one alone, only its own files may have been downloaded.
    found = _of_card(folder, names) or _of_folders(names, trains, least=1 if wanted else 2)
    by_name = {each.name: each for each in found}
    if wanted:
        if wanted not in by_name:
            raise UserError(
                f"The dataset has no configuration {wanted!r}",
                where=source,
                fix=nearest_name(wanted, by_name) if by_name else "leave out :CONFIG; the dataset has one only",
            )
        return dict(by_name[wanted].splits)
    default = next((each for each in found if each.is_default or each.name == "default"), None)
    if len(found) > 1 and default is None:
        choices = " or ".join(f"{source}:{name}" for name in list(by_name)[:4])
        raise UserError(
            f"The dataset has {len(found)} configurations, which are different datasets: {', '.join(by_name)}",
            where=source,
            fix=f"choose one: {choices}",
        )
    chosen = default or next(iter(found), None)
    return {name: _split_of(name) for name in names} if chosen is None else dict(chosen.splits)


def check_one_split(splits: Collection[str], source: str) -> None:
    """Raise UserError that lists the splits if training files come from several."""
    names = sorted({split for split in splits if split})
    if len(names) > 1:
        raise UserError(
            f"The dataset has {len(names)} splits to train on: {', '.join(names)}",
            where=source,
            fix=f"choose one: --split {names[0]}",
        )


def _split_of(name: str) -> str:
    match = _SHARD.match(Path(name).name)
    return match["split"] if match else ""


def _of_card(folder: Path, names: Sequence[str]) -> list[Configuration]:
    """The configurations that the card lists and that have files."""
    configurations = []
    for entry in _listed(folder / CARD):
        name, data_files = entry.get("config_name"), entry.get("data_files")
        splits: dict[str, str] = {}
        for split, pattern in _patterns(data_files):
            splits |= {each: split or _split_of(each) for each in names if fnmatch(each, pattern)}
        if isinstance(name, str) and splits:
            configurations.append(Configuration(name=name, splits=splits, is_default=entry.get("default") is True))
    return configurations


def _listed(card: Path) -> list[dict[str, Any]]:
    """The entries of `configs` in a card's front matter; none if it has no valid one."""
    try:
        match = _FRONT_MATTER.match(card.read_text(encoding="utf-8"))
        content = yaml.safe_load(match[1]) if match else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return []
    listed = content.get("configs") if isinstance(content, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _patterns(data_files: Any) -> list[tuple[str, str]]:
    """(split, pattern) pairs of `data_files`: a pattern, a list of patterns, or a list of {split, path}."""
    entries = data_files if isinstance(data_files, list) else [data_files]
    pairs = []
    for entry in entries:
        split, paths = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("", entry)
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str):
                pairs.append((split if isinstance(split, str) else "", path.removeprefix("./")))
    return pairs


def _of_folders(names: Sequence[str], trains: Collection[str], least: int) -> list[Configuration]:
    """Folders at the top that each have a training file of their own; none unless there are at least `least`."""
    top = {name: Path(name).parts[0] for name in names if len(Path(name).parts) > 1}
    folders = sorted({top[name] for name in trains if name in top})
    if len(folders) < least:
        return []
    return [
        Configuration(name=folder, splits={name: _split_of(name) for name in names if top.get(name) == folder})
        for folder in folders
    ]
