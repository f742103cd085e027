"""`manifest.json` of a run folder: how its rows were made and judged, and the state of the run.

{"kind": "mlx-suite magpie", "fingerprint": "5d0c9f2e81b04c7a",
 "rows": {…},       what the fingerprint hashes: weights, headers, stop tokens, questions, row settings
 "settings": {…},   all settings
 "command": "mlx-suite magpie …",   regenerates these rows, given an --out; null if the model has no name
 "judged_by": {…},  limits and policy that both row files agree with; null while they are being rewritten
 "quotas": {"category": {"Math": 60, …}},       rows required
 "versions": {…}, "created": "…",               of the programs that started the folder, and when
 "date": "26 Jul 2024",                         in the rows' chat template, if it states one
 "work": [{"began": "…", "seconds": 61.2, …}],  one per session, killed ones excepted
 "counts": {…}, "seconds": {"ask": …, …},       when the folder was last closed
 "files": {"accepted.jsonl": "sha256 …"}}
"""

import hashlib
import json
import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.curation.dataset import MANIFEST_FILE
from mlx_suite.data.read.sources import find_files
from mlx_suite.magpie.plan import RowPlan
from mlx_suite.magpie.settings import LIMITS, POLICY, ROW_SETTINGS, MagpieSettings
from mlx_suite.magpie.steering import make_quotas
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sha256_of, write_atomically
from mlx_suite.runtime.resume import as_json, change, refuse_other, stored_facts

KIND = "mlx-suite magpie"
PROGRAM = 3
"""Incremented whenever the same settings start to give other rows."""
Content = Mapping[str, Any]

_RENEWED = ("kind", "fingerprint", "rows", "settings", "command", "judged_by", "quotas", "date")
"""Keys that every run overwrites; the others are kept."""
_SINGULAR_FLAGS = {"quotas": "quota", "topics": "topic", "personas": "persona"}
"""Repeatable settings whose flag is singular."""


# ---- the fingerprint


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Everything that determines the text of a folder's rows, except the limits, which may be raised."""

    rows: Mapping[str, Any]
    """JSON values by name."""

    @property
    def value(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.rows, sort_keys=True).encode()).hexdigest()[:16]

    def changes(self, stored: Content, plan: RowPlan) -> list[str]:
        """One line for each difference from a stored manifest."""
        rows = stored["rows"]
        changed = [name for name in {**self.rows, **rows} if rows.get(name) != self.rows.get(name)]
        if "system" in changed:  # it is part of the header
            changed = [name for name in changed if name not in {"header", "answer_header"}]
        return [self._change(name, stored, plan) for name in changed]

    def _change(self, name: str, stored: Content, plan: RowPlan) -> str:
        before, now = stored["rows"].get(name), self.rows.get(name)
        if name == "program":
            return "the program: another version of mlx-suite, which generates other rows"
        if name != "weights":
            return change(name, before, now)
        settings = stored.get("settings")
        stored_name = settings.get("model_name") if isinstance(settings, dict) else None
        before, now = (
            f"{model or 'a model'} ({digest})"
            for model, digest in ((stored_name, before), (plan.settings.model_name, now))
        )
        return f"weights: was {before}, now {now}"


def fingerprint_of(model: Any, plan: RowPlan) -> Fingerprint:
    """The fingerprint of the rows that `model` would generate."""
    pre_query, settings = plan.pre_query, asdict(plan.settings)
    stop_ids = {*pre_query.user_stop_ids, *pre_query.assistant_stop_ids, *plan.response_ends}
    rows = {
        "program": PROGRAM,
        "weights": weights_digest(model),
        "header": plan.tokenizer.decode(pre_query.header_ids, skip_special=False),
        "answer_header": plan.tokenizer.decode((plan.user_end, *pre_query.to_assistant_ids), skip_special=False),
        "stop_ids": sorted(stop_ids),
        "questions": None if plan.questions is None else asdict(plan.questions),
        **{name: settings[name] for name in ROW_SETTINGS},
    }
    return Fingerprint(rows=as_json(rows))


# ---- the manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None if it has none. Raises UserError if it belongs to another program."""
    path = folder / MANIFEST_FILE
    if not path.exists():
        return None
    stored = stored_facts(path, KIND)
    if not isinstance(stored.get("rows"), dict):
        raise UserError(
            f"{MANIFEST_FILE} does not say how the rows were made",
            where=str(path),
            fix="restore the file, or choose another folder with --out",
        )
    return stored


def check_manifest(folder: Path, stored: Content, plan: RowPlan, fingerprint: Fingerprint) -> None:
    """Raise UserError listing every change that would invalidate the folder's rows."""
    refuse_other(fingerprint.changes(stored, plan) + _lowered_limits(stored, plan), folder)


def judged_by(plan: RowPlan) -> dict[str, Any]:
    """Everything that decides which rows are accepted once they are generated."""
    settings = asdict(plan.settings)
    policy = {name: settings[name] for name in (*LIMITS, *POLICY)}
    # Shares depend on the count. For evaluation data the contents matter, not the names.
    policy |= {"count": plan.settings.count if plan.settings.shares else None}
    policy |= {"evaluation": [_evaluation_digest(source) for source in plan.settings.decontaminate]}
    result: dict[str, Any] = as_json(policy)
    return result


def new_manifest(plan: RowPlan, fingerprint: Fingerprint, stored: Content | None) -> dict[str, Any]:
    """The manifest of a run that starts, or that resumes the `stored` one."""
    content = dict(stored) if stored is not None else {"versions": _versions(), "created": now(), "work": []}
    quotas = make_quotas(plan.settings.shares, plan.settings.count)
    return {
        "kind": KIND,
        "fingerprint": fingerprint.value,
        "rows": fingerprint.rows,
        "settings": as_json(asdict(plan.settings)),
        "command": command_of(plan.settings),
        "judged_by": judged_by(plan),
        "quotas": {quota.dimension: dict(quota.rows) for quota in quotas},
        "date": plan.template.variables.get("date_string"),
        **{key: value for key, value in content.items() if key not in _RENEWED},
    }


def store_manifest(folder: Path, content: Content, stored: Content | None) -> None:
    """Write the manifest unless it equals what is `stored`."""
    if stored != content:
        write_atomically(folder / MANIFEST_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def command_of(settings: MagpieSettings) -> str | None:
    """The command that regenerates a run's rows, without its --out; None for a model without a name."""
    if settings.model_name is None:
        return None
    words = ["mlx-suite", "magpie", "run", settings.model_name]
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
        return [word for each in value for word in (f"--{_SINGULAR_FLAGS.get(name, flag)}", str(each))]
    return [f"--{flag}", str(value)]


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def now() -> str:
    """The current time as manifests store it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _evaluation_digest(source: str) -> str | None:
    """SHA-256 of a file; for a folder or a hub dataset, over the digests of all its files."""
    if Path(source).expanduser().is_file():
        return file_digest(Path(source).expanduser())
    try:
        digests = [f"{file.name} {file_digest(file.path)}\n" for file in find_files(source)]
    except UserError:
        return None  # reported when the data is read
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _lowered_limits(stored: Content, plan: RowPlan) -> list[str]:
    """Limit changes that are refused: lower ones, and all in conversations, which do not record a truncated turn."""
    settings = stored.get("settings")
    changes = []
    for name in LIMITS:
        before, after = settings.get(name) if isinstance(settings, dict) else None, getattr(plan.settings, name)
        is_fixed = plan.settings.turns > 1
        if isinstance(before, int) and (after != before if is_fixed else after < before):
            rule = "it cannot change with --turns" if is_fixed else "it can be raised, not lowered"
            changes.append(f"{change(name, before, after)}; {rule}")
    return changes


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("mlx-suite", "mlx")}
    return {**packages, "python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
