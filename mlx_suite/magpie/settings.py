"""What a user decides about a run."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlx_suite.runtime.errors import UserError

if TYPE_CHECKING:
    from mlx_suite.engine import Sampling

ROW_SETTINGS = (
    "seed",
    "system",
    "temperature",
    "top_p",
    "max_instruction",
    "answer_temperature",
    "answer_top_p",
    "max_answer",
)
"""The fields on which the text of a row depends. The others may change while a folder is being filled."""


@dataclass(frozen=True, kw_only=True)
class MagpieSettings:
    """Settings of one folder of rows. The docstrings of the fields are the help of the command line."""

    count: int
    """Rows to end with, each with another instruction. A larger number continues a folder."""
    seed: int = 0
    """Any whole number; another one gives other rows."""
    batch: int = 16
    """Rows generated side by side: more is faster until memory is full. The rows stay the same."""
    system: str | None = None
    """System text that steers what is asked; a first exchange where the template knows no system role. None by
    default: in the paper a general one lowered quality."""
    temperature: float = 1.0
    """Temperature of instructions. 1 is what the model learned; higher is more varied and less sensible."""
    top_p: float = 1.0
    """Instructions are made of the most probable tokens that reach this probability together."""
    max_instruction: int = 512
    """Longest instruction. A longer one is rejected, not cut: most of those never end."""
    answer_temperature: float = 0.0
    """Temperature of answers. 0 takes the most probable token: an answer should be right, not varied."""
    answer_top_p: float = 1.0
    """Answers are made of the most probable tokens that reach this probability together."""
    max_answer: int = 2048
    """Longest answer. A longer one is rejected, not cut."""
    patience: int = 400
    """Rejected rows in a row before the run gives up: then the model has nothing new to ask."""
    model_name: str | None = None
    """The model's name in every record; the name of its folder without one."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every wrong value."""
        problems = [
            f"{name} is {value!r}: {wanted}"
            for names, good, wanted in _RULES
            for name, value in ((name, getattr(self, name)) for name in names)
            if not good(value)
        ]
        if problems:
            raise UserError(
                "A setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong",
                where="the settings of Magpie",
                fix="mlx-suite magpie --help says what each one means",
                details=problems,
            )

    @property
    def asking(self) -> "Sampling":
        """How instructions are drawn."""
        return _sampling(self.temperature, self.top_p)

    @property
    def answering(self) -> "Sampling":
        """How answers are drawn."""
        return _sampling(self.answer_temperature, self.answer_top_p)


def _sampling(temperature: float, top_p: float) -> "Sampling":
    from mlx_suite.engine import Sampling  # brings MLX, which settings do without

    return Sampling(temperature=temperature, top_p=top_p)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _counts(value: Any) -> bool:
    return _whole(value) and value >= 1


def _temperature(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value <= 1


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value.strip()))


_RULES = (
    (("count", "batch", "max_instruction", "max_answer", "patience"), _counts, "a whole number from 1 up"),
    (("seed",), _whole, "a whole number"),
    (("temperature", "answer_temperature"), _temperature, "a number from 0 up"),
    (("top_p", "answer_top_p"), _share, "above 0 and at most 1"),
    (("system", "model_name"), _text, "some text, or leave it out"),
)
