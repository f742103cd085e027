"""Settings as YAML: read from a recipe, and written to the run folder with the origin of every value."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from mlx_suite.finetune.settings import FinetuneSettings, settings_from
from mlx_suite.runtime.errors import UserError

NAME = "config.yaml"


def read_config(path: Path | str) -> dict[str, Any]:
    """Settings from a YAML file, with names and types checked.

    Raises UserError for a file that is missing, is not YAML, or has unknown settings.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("The configuration cannot be read", where=str(path), fix="check the path") from error
    except UnicodeDecodeError as error:
        raise UserError("The configuration is not UTF-8 text", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise UserError(
            f"The configuration is not YAML: {what}", where=f"{path}{line}", fix="correct this line"
        ) from error
    if not isinstance(values, dict):
        raise UserError(
            "The configuration is not a mapping of settings", where=str(path), fix="write lines like model: tiny-llama3"
        )
    return settings_from(values, str(path))


def write_config(settings: FinetuneSettings, origin: Mapping[str, str]) -> str:
    """All settings as YAML, each with its origin in a comment."""
    lines = ["# mlx-suite finetune --config config.yaml --out FOLDER repeats this run."]
    for name, value in asdict(settings).items():
        lines.append(f"{f'{name}: {_on_one_line(value)}':<40}  # {origin.get(name, 'default')}")
    return "\n".join(lines) + "\n"


def _on_one_line(value: Any) -> str:
    """A value as YAML on one line, with newlines escaped."""
    plain = list(value) if isinstance(value, tuple) else value
    texts = plain if isinstance(plain, list) else [plain]
    quoted = '"' if any(isinstance(text, str) and not text.isprintable() for text in texts) else None
    # Inside a list, a value is written without the document end marker.
    inside = yaml.safe_dump(
        [plain], default_flow_style=True, default_style=quoted, allow_unicode=True, width=float("inf")
    )
    return inside.rstrip("\n")[1:-1]
