"""What the rows of a folder are made of, so that a folder is continued only by what began it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.settings import ROW_SETTINGS
from mlx_suite.text import Tokenizer

PROGRAM = 2
"""Raised whenever the same settings begin to give other rows."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Everything that decides the text of a folder's rows, but for the limits, which may be raised."""

    rows: Mapping[str, Any]
    """Names and values of JSON."""

    @property
    def value(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.rows, sort_keys=True).encode()).hexdigest()[:16]

    def changes(self, stored: Mapping[str, Any], plan: Plan) -> list[str]:
        """One line for each thing that differs from what a manifest has stored."""
        rows = stored["rows"]
        changed = [name for name in {**self.rows, **rows} if rows.get(name) != self.rows.get(name)]
        if "system" in changed:  # it stands in the header
            changed = [name for name in changed if name not in {"header", "answer_header"}]
        return [self._change(name, stored, plan) for name in changed]

    def _change(self, name: str, stored: Mapping[str, Any], plan: Plan) -> str:
        before, now = stored["rows"].get(name), self.rows.get(name)
        if name == "program":
            return "the program: another version of mlx-suite, which writes other rows"
        if name != "weights":
            return f"{name}: {short(before)} in the folder, {short(now)} now"
        settings = stored.get("settings")
        was = settings.get("model_name") if isinstance(settings, dict) else None
        names = (was, before), (plan.settings.model_name, now)
        said = [f"{name or 'a model'} ({digest})" for name, digest in names]
        return f"weights: {said[0]} in the folder, {said[1]} now"


def fingerprint_of(model: Any, plan: Plan) -> Fingerprint:
    """The fingerprint of what `model` would write by `plan`."""
    pre_query, settings = plan.pre_query, asdict(plan.settings)
    rows = {
        "program": PROGRAM,
        "weights": weights_digest(model),
        "header": _shown(plan.tokenizer, *pre_query.header_ids),
        "answer_header": _shown(plan.tokenizer, plan.user_end, *pre_query.to_assistant_ids),
        "stop_ids": sorted({*pre_query.user_stop_ids, *pre_query.assistant_stop_ids, *plan.answer_ends}),
        "questions": None if plan.questions is None else asdict(plan.questions),
        **{name: settings[name] for name in ROW_SETTINGS},
    }
    return Fingerprint(rows=json.loads(json.dumps(rows)))  # tuples as lists, as they will be read


def short(value: object) -> str:
    """A value for a line of text."""
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:60]} … {text[-30:]}"


def _shown(tokenizer: Tokenizer, *ids: int) -> str:
    return tokenizer.decode(ids, skip_special=False)
