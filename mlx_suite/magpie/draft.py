"""A row as the model wrote it, before anyone has judged it as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.tags.tagging import Tag
from mlx_suite.engine import Written
from mlx_suite.engine.program import Reason
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.magpie.steering import Steer

Tags = Mapping[str, Tag]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a text ended."""

    reason: Reason
    stop: int | None
    """The stop token; None unless the reason is `stop`."""
    tokens: int
    """Without the stop token."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A question behind the first answer, and its answer."""

    instruction: str
    raw: str
    """As the model wrote it, before it was cleaned."""
    asked: Ending
    answer: str
    answered: Ending


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What there is of a row. A program that knew the row would be rejected has left out what comes later."""

    index: int
    """The row's number, from 0."""
    raw: str
    """The instruction as the model wrote it, without the whitespace around it, which the template trims as well."""
    instruction: str
    """As it stands in the conversation: cleaned."""
    asked: Ending
    removed: tuple[str, ...] = ()
    """Rules of the sanitiser that have changed it."""
    steer: Steer = ()
    sampling: SamplingSetting = field(default_factory=lambda: SamplingSetting(temperature=1.0))
    tags: Tags | None = None
    """About the instruction. None where it was not asked, empty where the context had no room to ask."""
    embedding: npt.NDArray[np.float32] | None = None
    """Unit vector (d,), rounded to half precision as it is stored."""
    answer: str = ""
    answered: Ending | None = None
    """None where the model was not asked to answer."""
    turns: tuple[Exchange, ...] = ()
    ended: str | None = None
    """Why there are fewer turns than wanted."""
    answer_tags: Tags | None = None
    """About the first answer; None and empty as above."""

    @property
    def written(self) -> int:
        """Tokens the model wrote, stop tokens not counted."""
        endings = [self.asked, self.answered, *(each for turn in self.turns for each in (turn.asked, turn.answered))]
        return sum(ending.tokens for ending in endings if ending is not None)


def ending_of(written: Written) -> Ending:
    """What is kept of how a text ended."""
    return Ending(reason=written.reason, stop=written.stop_token, tokens=len(written.tokens))
