"""Settings of a response that a person chooses on the page, as they are stored with a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mlx_suite.engine import Sampling


class SamplingSettings(BaseModel):
    """How responses of a conversation are sampled, and how long they may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    min_p: float = Field(default=0.05, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=0.5, le=2)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    """None: as many as the context has room for."""
    seed: int | None = Field(default=None, ge=0, lt=1 << 63)
    """None: a new one for every response."""

    def sampling(self) -> Sampling:
        """The engine's form."""
        return Sampling(**self.model_dump(exclude={"max_tokens", "seed"}))

    def changed(self) -> dict[str, Any]:
        """The values that differ from the defaults."""
        return self.model_dump(exclude_defaults=True)


def stored_settings(stored: Any) -> SamplingSettings:
    """The settings in a conversation's `sampling`; a value that is invalid, as an import may have, is ignored."""
    if not isinstance(stored, Mapping):
        return SamplingSettings()
    known = {name: stored[name] for name in SamplingSettings.model_fields if name in stored}
    try:
        return SamplingSettings.model_validate(known)
    except ValueError:
        valid = {}
        for name, value in known.items():
            try:
                SamplingSettings.model_validate({name: value})
            except ValueError:
                continue
            valid[name] = value
        return SamplingSettings.model_validate(valid)
