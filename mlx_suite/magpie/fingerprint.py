"""What the rows of a folder depend on, so that a folder is continued only by what began it.

`settings.json` keeps it beside the rows:

    {"kind": "mlx-suite magpie", "fingerprint": "5d0c9f2e81b04c7a",
     "rows": {…},       what the fingerprint is made of: weights, header, stop tokens, row settings
     "settings": {…},   everything that was set, `count` and `batch` too
     "versions": {…},   of the programs that began the folder
     "created": "2026-11-22T23:45:33+00:00"}
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.settings import ROW_SETTINGS
from mlx_suite.modeling.digest import weights_digest
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Tokenizer

KIND = "mlx-suite magpie"
SETTINGS_FILE = "settings.json"
PROGRAM = 1
"""Raised whenever the same settings begin to give other rows."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Everything that decides the text of a folder's rows."""

    rows: Mapping[str, Any]

    @property
    def value(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.rows, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of(model: Any, plan: Plan) -> Fingerprint:
    """The fingerprint of what `model` would write by `plan`."""
    pre_query, settings = plan.pre_query, asdict(plan.settings)
    return Fingerprint(
        rows={
            "program": PROGRAM,
            "weights": weights_digest(model),
            "header": _shown(plan.tokenizer, *pre_query.header_ids),
            "answer_header": _shown(plan.tokenizer, plan.user_end, *pre_query.to_assistant_ids),
            "stop_ids": sorted({*pre_query.user_stop_ids, *pre_query.assistant_stop_ids, *plan.answer_ends}),
            **{name: settings[name] for name in ROW_SETTINGS},
        }
    )


def check_settings(folder: Path, plan: Plan, fingerprint: Fingerprint) -> dict[str, Any] | None:
    """What the folder's settings.json holds; None if there is none.

    Raises UserError that names each changed setting, or says that the folder belongs to something else.
    """
    path = folder / SETTINGS_FILE
    if not path.exists():
        return None
    stored = _read(path)
    changes = _changes(stored, plan, fingerprint)
    if changes:
        raise UserError(
            "The folder was begun with other settings",
            where=str(folder),
            fix="choose another folder with --out, or go on with the settings the folder was begun with",
            details=changes,
        )
    return stored


def store_settings(folder: Path, plan: Plan, fingerprint: Fingerprint, stored: Mapping[str, Any] | None) -> None:
    """Write settings.json, unless what is `stored` there says the same."""
    settings = asdict(plan.settings)
    if stored is not None and stored.get("settings") == settings:
        return
    content = {
        "kind": KIND,
        "fingerprint": fingerprint.value,
        "rows": fingerprint.rows,
        "settings": settings,
        "versions": _versions() if stored is None else stored.get("versions"),
        "created": datetime.now(UTC).isoformat(timespec="seconds") if stored is None else stored.get("created"),
    }
    write_atomically(folder / SETTINGS_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{SETTINGS_FILE} cannot be read: {error}",
            where=str(path),
            fix="mend the file, or choose another folder with --out",
        ) from error
    if not isinstance(stored, dict) or stored.get("kind") != KIND or not isinstance(stored.get("rows"), dict):
        raise UserError(
            f"The folder holds a {SETTINGS_FILE} of something else",
            where=str(path),
            fix="choose another folder with --out",
        )
    return stored


def _changes(stored: Mapping[str, Any], plan: Plan, fingerprint: Fingerprint) -> list[str]:
    """One line per setting that differs from the folder's."""
    before, now = stored["rows"], fingerprint.rows
    changed = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if "system" in changed:  # it stands in the header
        changed = [name for name in changed if name not in {"header", "answer_header"}]
    return [_change(name, stored, plan, now) for name in changed]


def _change(name: str, stored: Mapping[str, Any], plan: Plan, now: Mapping[str, Any]) -> str:
    before = stored["rows"].get(name)
    if name == "program":
        return "the program: another version of mlx-suite, which writes other rows"
    if name != "weights":
        return f"{name}: {_short(before)} in the folder, {_short(now.get(name))} now"
    settings = stored.get("settings")
    names = (
        settings.get("model_name") if isinstance(settings, dict) else None,
        plan.settings.model_name,
    )
    was, is_now = (f"{name or 'a model'} ({digest})" for name, digest in zip(names, (before, now[name]), strict=True))
    return f"weights: {was} in the folder, {is_now} now"


def _short(value: object) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:60]} … {text[-30:]}"


def _shown(tokenizer: Tokenizer, *ids: int) -> str:
    return tokenizer.decode(ids, skip_special=False)


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("mlx-suite", "mlx")}
    return {**packages, "python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
