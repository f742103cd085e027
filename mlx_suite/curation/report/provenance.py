"""Where rows come from: the model, the settings, the versions, the checksums, and the command that makes them again."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.report.source import Source, object_in

LONGEST = 300
"""Characters of a value that are shown."""
_NOT_SHOWN = frozenset("kind command judged_by quotas work counts seconds files steps rows.questions".split())
"""What stands elsewhere on the page, twice in the manifest, or is long."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is known of a run."""

    models: tuple[str, ...]
    """All that rows name."""
    facts: tuple[tuple[str, str], ...]
    """The manifest, one value a line, with dots between the keys of objects within objects."""
    checksum: str | None
    """SHA-256 of the accepted rows as they are now."""
    is_unchanged: bool | None
    """Whether the manifest has the same checksum; None where it has none."""
    command: str | None
    """Makes these rows again."""


def provenance_of(source: Source) -> Provenance:
    """Gather it from the manifest and the rows."""
    checksum = None
    if source.accepted_file is not None:
        checksum = hashlib.sha256(source.accepted_file.read_bytes()).hexdigest()
    noted = _noted_checksum(source)
    return Provenance(
        models=tuple(sorted({str(row["model"]) for row in source.rows if row.get("model")})),
        facts=tuple(_flat(_without_settings(source.manifest))),
        checksum=checksum,
        is_unchanged=None if noted is None or checksum is None else noted == checksum,
        command=command_of(source.manifest, source.name),
    )


def command_of(manifest: Mapping[str, Any], name: str) -> str | None:
    """The command that a manifest stores, with the folder `name` as its output; None without one."""
    command = manifest.get("command")
    return shlex.join([*shlex.split(command), "--out", name]) if isinstance(command, str) else None


def _without_settings(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest without what stands in its settings a second time."""
    rows, settings = object_in(manifest, "rows"), object_in(manifest, "settings")
    others = {key: value for key, value in rows.items() if key not in settings}
    return {**manifest, "rows": others} if others else manifest


def _noted_checksum(source: Source) -> str | None:
    if source.accepted_file is None:
        return None
    found = object_in(source.manifest, "files").get(source.accepted_file.name)
    return found.removeprefix("sha256").strip(" :") if isinstance(found, str) else None


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            whole = f"{key}.{name}" if key else str(name)
            if whole not in _NOT_SHOWN:
                yield from _flat(inner, whole)
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    yield key, text if len(text) <= LONGEST else text[:LONGEST] + " …"
