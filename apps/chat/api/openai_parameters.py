"""Parameters that OpenAI's three generating endpoints share, and how they become the engine's."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlx_suite.engine import Sampling
from mlx_suite.serving.service import ServedModel

from .errors import ParameterError

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_ALTERNATIVES = 20
MAX_TOKENS = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
"""A number of tokens."""
Penalty = Annotated[float, Field(ge=-2, le=2)]
JsonObject = dict[str, Any]


class Body(BaseModel):
    """An object in a request. Wrong types are refused; null is the same as absent; unknown fields change nothing."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: each for name, each in value.items() if each is not None}
        return value

    def refuse(self, parameters: Mapping[str, str]) -> None:
        """Raises ParameterError if the object has a field that would change the response but is not supported.

        Args:
            parameters: What to do instead, by field. Empty values and False ask for nothing.
        """
        for name, fix in parameters.items():
            if (self.model_extra or {}).get(name):
                raise ParameterError(name, f"{name} is not supported", fix)


class SamplingParameters(Body):
    """How tokens are sampled. `top_k`, `min_p` and `repetition_penalty` are named as in vLLM and Hugging Face."""

    model: Annotated[str, Field(max_length=512)] = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, le=MAX_TOKENS)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = {}
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None

    def sampling(self, served: ServedModel) -> Sampling:
        """The engine's settings. Raises ParameterError."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k, 0),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=_logit_bias(self.logit_bias, served),
        )


class StreamOptions(Body):
    """What a stream reports besides its text."""

    include_usage: bool = False
    """Whether a last chunk reports the number of tokens."""


def stop_texts(stop: str | list[str]) -> tuple[str, ...]:
    """The stop texts of a request. Raises ParameterError."""
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in texts:
        raise ParameterError("stop", "a stop text is empty", "leave it out")
    if len(texts) > MAX_STOPS:
        raise ParameterError("stop", f"{len(texts)} stop texts are too many", f"send at most {MAX_STOPS}")
    return texts


def check_ids(ids: Iterable[int], served: ServedModel, param: str) -> None:
    """Raises ParameterError for a token id outside the model's vocabulary."""
    size = served.chat.tokenizer.vocab_size
    for index in ids:
        if not 0 <= index < size:
            raise ParameterError(param, f"{param} has the token id {index}, but the vocabulary ends at {size - 1}")


def _logit_bias(values: Mapping[str, float], served: ServedModel) -> tuple[tuple[int, float], ...]:
    for name in values:
        if not (name.isascii() and name.removeprefix("-").isdigit() and len(name) <= 12):
            raise ParameterError("logit_bias", f"logit_bias has the key {name[:40]!r}, which is not a token id")
    pairs = tuple((int(name), value) for name, value in values.items())
    check_ids((index for index, _ in pairs), served, "logit_bias")
    return pairs
