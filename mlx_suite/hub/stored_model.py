"""A model in another program's store, as Ollama's and LM Studio's are read."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_suite.runtime.errors import UserError

SHOWN_LICENCE = 40
"""Characters of a licence's title that are shown."""


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A model that Ollama or LM Studio downloaded; None for facts that the store does not state."""

    name: str
    """What a user types: `ollama:gemma3:270m`, `lmstudio:publisher/repo`."""
    store: str
    """`ollama` or `lmstudio`."""
    source: str
    """Where the store has it from: a registry's or the hub's address."""
    file: Path
    """The GGUF file (the first part of a split one), or the folder of an MLX model."""
    size_bytes: int
    model_type: str | None
    """Name of the architecture, such as `gemma3`."""
    quantization: str | None
    """Such as `Q4_K_M`."""
    license: str | None
    """Title of the licence."""
    template: str | None = None
    """Ollama's template, in Go's template language, not Jinja."""
    system: str | None = None
    """Ollama's default system prompt."""
    problem: str | None = None
    """Why the model cannot be used, such as a missing blob; None if it can."""
    fix: str = ""
    """What to do about `problem`."""


def usable(model: StoredModel) -> StoredModel:
    """Return `model`. Raises UserError if it has a problem."""
    if model.problem is not None:
        raise UserError(f"{model.name} cannot be used: {model.problem}", where=str(model.file), fix=model.fix)
    return model


def not_in_store(name: str, known: Sequence[str], where: Path, details: Sequence[str] = ()) -> UserError:
    """The error for a name that a store does not hold, with at most three close ones."""
    names = {known_name.lower(): known_name for known_name in known}
    near = [names[key] for key in difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)]
    if near:
        fix = f"did you mean {' or '.join(near)}?"
    elif known:
        fix = "choose one from `mlx-suite models list`"
    else:
        fix = "download it with that program first; this store holds no models"
    return UserError(f"there is no model {name!r}", where=str(where), fix=fix, details=details)


def licence_title(text: str) -> str | None:
    """First line of a licence's text, shortened; the version follows if it is on a line of its own."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    title = lines[0].strip("#* ")
    if len(lines) > 1 and lines[1].lower().startswith("version "):
        title += f" {lines[1].split(',')[0][len('version ') :]}"
    return title if len(title) <= SHOWN_LICENCE else title[: SHOWN_LICENCE - 1].rstrip() + "…"
