"""`manifest.json` of a run's folder: how its rows were made, by what they were judged, and what it has come to.

{"kind": "mlx-suite magpie", "fingerprint": "5d0c9f2e81b04c7a",
 "rows": {…},       what the fingerprint is made of: weights, header, stop tokens, questions, row settings
 "settings": {…},   everything that was set
 "command": "mlx-suite magpie …",   makes these rows again, given an --out; null where the model has no name
 "judged_by": {…},  limits and policy that both files of rows agree with; null while they are rewritten
 "quotas": {"category": {"Math": 60, …}},       rows wanted
 "versions": {…}, "created": "…",               of the programs that began the folder, and when
 "work": [{"began": "…", "seconds": 61.2, …}],  one for each time somebody worked on it, kills left out
 "counts": {…}, "seconds": {"ask": …, …},       when it was last left
 "files": {"accepted.jsonl": "sha256 …"}}
"""

import hashlib
import json
import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import MANIFEST_FILE
from mlx_suite.data.read.sources import find_files
from mlx_suite.magpie.fingerprint import Fingerprint, short
from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.settings import LIMITS, POLICY, MagpieSettings
from mlx_suite.magpie.steering import make_quotas
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sha256_of, write_atomically

KIND = "mlx-suite magpie"
_REPEATED_FLAGS = {"quotas": "quota", "topics": "topic", "personas": "persona"}
"""Flags that may be repeated are named in the singular."""
Content = Mapping[str, Any]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What a folder's manifest holds; None if there is none. Raises UserError for one of something else."""
    path = folder / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{MANIFEST_FILE} cannot be read: {error}",
            where=str(path),
            fix="mend the file, or choose another folder with --out",
        ) from error
    if not isinstance(stored, dict) or stored.get("kind") != KIND or not isinstance(stored.get("rows"), dict):
        raise UserError(
            f"The folder holds a {MANIFEST_FILE} of something else",
            where=str(path),
            fix="choose another folder with --out",
        )
    return stored


def check_manifest(folder: Path, stored: Content, plan: Plan, fingerprint: Fingerprint) -> None:
    """Raises UserError that names every change under which the folder's rows cannot be kept."""
    changes = fingerprint.changes(stored, plan) + _lowered(stored, plan)
    if changes:
        raise UserError(
            "The folder was begun with other settings",
            where=str(folder),
            fix="choose another folder with --out, or go on with the settings the folder was begun with",
            details=changes,
        )


def judged_by(plan: Plan) -> dict[str, Any]:
    """All that decides which rows are kept, once they are written."""
    settings = asdict(plan.settings)
    kept = {name: settings[name] for name in (*LIMITS, *POLICY)}
    # Shares are of the rows wanted; of the evaluation data the contents count, not the names.
    kept |= {"count": plan.settings.count if plan.settings.shares else None}
    kept |= {"evaluation": [_evaluation_digest(source) for source in plan.settings.decontaminate]}
    return json.loads(json.dumps(kept))


def begun(plan: Plan, fingerprint: Fingerprint, stored: Content | None) -> dict[str, Any]:
    """The manifest of a run that begins, or that goes on with what is `stored`."""
    content = dict(stored) if stored is not None else {"versions": _versions(), "created": now(), "work": []}
    quotas = make_quotas(plan.settings.shares, plan.settings.count)
    return {
        "kind": KIND,
        "fingerprint": fingerprint.value,
        "rows": fingerprint.rows,
        "settings": json.loads(json.dumps(asdict(plan.settings))),
        "command": command_of(plan.settings),
        "judged_by": judged_by(plan),
        "quotas": {quota.dimension: dict(quota.rows) for quota in quotas},
        **{key: value for key, value in content.items() if key not in _OWN},
    }


_OWN = ("kind", "fingerprint", "rows", "settings", "command", "judged_by", "quotas")


def command_of(settings: MagpieSettings) -> str | None:
    """The command that makes a run's rows again, but for its --out; None for a model without a name."""
    if settings.model_name is None:
        return None
    words = ["mlx-suite", "magpie", settings.model_name]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name != "model_name" and value is not None and value != field.default:
            words += _flag(field.name, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, tuple):
        return [word for each in value for word in (f"--{_REPEATED_FLAGS.get(name, flag)}", str(each))]
    return [f"--{flag}", str(value)]


def store_manifest(folder: Path, content: Content, stored: Content | None) -> None:
    """Write the manifest, unless what is `stored` there says the same."""
    if stored != content:
        write_atomically(folder / MANIFEST_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file; None where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def _evaluation_digest(source: str) -> str | None:
    """SHA-256 of a file's content; of a folder or a dataset of the hub, of the digests of all its files."""
    if Path(source).expanduser().is_file():
        return file_digest(Path(source).expanduser())
    try:
        digests = [f"{file.name} {file_digest(file.path)}\n" for file in find_files(source)]
    except UserError:
        return None  # who reads the data says what is wrong
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def now() -> str:
    """The time as manifests give it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lowered(stored: Content, plan: Plan) -> list[str]:
    """Limits may only rise; in conversations they stay, since nobody can tell which turn one has ended."""
    settings = stored.get("settings")
    changes = []
    for name in LIMITS:
        before, after = settings.get(name) if isinstance(settings, dict) else None, getattr(plan.settings, name)
        fixed = plan.settings.turns > 1
        if isinstance(before, int) and (after != before if fixed else after < before):
            rule = "in conversations it stays" if fixed else "it can be raised, not lowered"
            changes.append(f"{name}: {short(before)} in the folder, {short(after)} now; {rule}")
    return changes


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("mlx-suite", "mlx")}
    return {**packages, "python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
