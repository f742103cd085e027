"""How a dataset came about, so far as its folder tells: the model, the settings, what was lost on the way.

A run's folder has a manifest and its rejected rows. A filtered one has `filter.json`, which carries the facts of what
it was made from, so that they outlive any number of filters.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlx_suite.curation.collection import Collection
from mlx_suite.runtime.journal import read_journal

MANIFESTS = ("manifest.json", "settings.json")
FILTER_FILE = "filter.json"
REJECTED = "rejected.jsonl"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known; empty where nothing is."""

    models: tuple[str, ...] = ()
    """Names of the models that wrote the rows, the most frequent first."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the run."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the programs."""
    created: str = ""
    """When the run was begun, in ISO 8601."""
    asked: int = 0
    """Rows begun by the run; 0 where there was none."""
    rejections: Mapping[str, int] = field(default_factory=dict)
    """Rows the run did not accept, by reason, the most frequent first."""
    filters: tuple[Mapping[str, Any], ...] = ()
    """Funnels of the filters behind it, the earliest first."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run_facts(collection: Collection) -> RunFacts:
    """The facts in a collection's folder, and in its rows."""
    models = _models(collection.rows)
    folder = collection.folder
    if folder is None:
        return RunFacts(models=models)
    filtered = _object(folder / FILTER_FILE)
    if filtered:
        return _before_filter(filtered, models)
    manifest = next(filter(None, map(_object, (folder / name for name in MANIFESTS))), {})
    rejections = _rejections(folder / REJECTED)
    return RunFacts(
        models=models,
        settings=_mapping(manifest.get("settings")),
        versions=_mapping(manifest.get("versions")),
        created=str(manifest.get("created") or ""),
        asked=len(collection.rows) + sum(rejections.values()) if manifest else 0,
        rejections=rejections,
    )


def _before_filter(filtered: Mapping[str, Any], models: tuple[str, ...]) -> RunFacts:
    facts = _mapping(filtered.get("made_by"))
    earlier = facts.get("filters")
    funnel = {key: filtered.get(key) for key in ("source", "read", "kept", "steps")}
    return RunFacts(
        models=models,
        settings=_mapping(facts.get("settings")),
        versions=_mapping(facts.get("versions")),
        created=str(facts.get("created") or ""),
        asked=int(facts.get("asked") or 0),
        rejections=_mapping(facts.get("rejections")),
        filters=(*(earlier if isinstance(earlier, list) else ()), funnel),
    )


def _models(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    names = Counter(row["model"] for row in rows if isinstance(row.get("model"), str))
    return tuple(name for name, _ in names.most_common())


def _rejections(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    return dict(Counter(str(row.get("rejection")) for row in read_journal(path)).most_common())


def _object(path: Path) -> dict[str, Any]:
    """What a file holds; empty where it is not there, or says nothing of use: the facts are an extra."""
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
