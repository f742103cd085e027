"""What a user decides about a run."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlx_suite.data.questions import QUALITIES, TAGGED
from mlx_suite.magpie.mix import Setting, parse_mix, setting_of
from mlx_suite.magpie.shares import Shares, equal_shares, parse_shares
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.size import parse_size

if TYPE_CHECKING:
    from mlx_suite.engine import Sampling

ROW_SETTINGS = (
    "seed",
    "system",
    "temperature",
    "top_p",
    "mix",
    "ban_first",
    "sanitise",
    "tags",
    "embeddings",
    "topics",
    "personas",
    "steer",
    "answer_temperature",
    "answer_top_p",
    "turns",
)
"""What rows are made of: a folder keeps these to its end."""
LIMITS = ("max_instruction", "max_answer")
"""May be raised: rows that had reached one are made again, all others stay."""
POLICY = (
    "quotas",
    "near_duplicate",
    "near_meaning",
    "decontaminate",
    "min_input_quality",
    "min_answer_quality",
    "unsafe",
)
"""Which rows are kept. When one of these changes, all rows are judged again, and only what is missing is made."""
FREE = ("count", "batch", "memory", "patience", "most_asked", "questions", "model_name")
"""Change nothing about a row. Of `questions` the contents count, as a part of what rows are made of."""


@dataclass(frozen=True, kw_only=True)
class MagpieSettings:
    """Settings of one folder of rows. The docstrings of the fields are the help of the command line."""

    count: int
    """Rows to end with, each with another instruction. A larger number continues a folder."""
    seed: int = 0
    """Any whole number; another one gives other rows."""
    batch: int = 16
    """Rows generated side by side: more is faster until memory is full. The rows stay the same."""
    memory: str | None = None
    """Memory that MLX may have in use, as in 8GB; of each process where there are several. The batch is made smaller
    until it fits. By default what the machine has free."""
    system: str | None = None
    """System text that steers what is asked; a first exchange where the template knows no system role. None by
    default: in the paper a general one lowered quality."""
    temperature: float = 1.0
    """Temperature of instructions. 1 is what the model learned; higher is more varied and less sensible."""
    top_p: float = 1.0
    """Instructions are made of the most probable tokens that reach this probability together."""
    mix: str | None = None
    """Several settings in one run in place of temperature and top_p, as temperature/top_p:weight with commas between:
    1.0/1.0:3,1.2/0.995:1."""
    ban_first: tuple[str, ...] = ()
    """Instructions do not begin with this: `#` keeps Llama 3.1 from writing `## Step 1`. May be repeated."""
    max_instruction: int = 512
    """Longest instruction. A longer one is rejected, not cut: most of those never end. May be raised later."""
    sanitise: bool = True
    """Take labels, quotes and pieces of an answer off an instruction; what the model wrote is kept beside it."""
    topics: tuple[str, ...] = ()
    """Ask about this, as many rows of each as of the others. May be repeated."""
    personas: tuple[str, ...] = ()
    """Ask as this person would: "a nurse". May be repeated."""
    quotas: tuple[str, ...] = ()
    """Shares of the rows to end with, as DIMENSION:VALUE=SHARE with commas between, or rows in place of shares:
    category:Math=0.3,Reasoning=0.3. Dimensions are category, difficulty, language, topic and persona. May be
    repeated."""
    steer: bool = True
    """Tell the model what quotas of category, difficulty and language still want. Without it rows are only chosen."""
    tags: bool = True
    """Let the model tag each instruction and each answer, aside, with its confidence."""
    questions: str | None = None
    """File of the questions that tags answer, in place of the checkpoint's own or the built-in ones."""
    embeddings: bool = True
    """Keep what the model makes of each instruction as a vector: for the map, and for `near_meaning`."""
    near_duplicate: float | None = 0.8
    """Reject an instruction as like an earlier one as this, as shares of the pieces of text (Jaccard). 0 turns it
    off."""
    near_meaning: float | None = None
    """Reject an instruction whose vector has this cosine or more with an earlier one's. Off by default: which cosine
    means the same depends on the model."""
    decontaminate: tuple[str, ...] = ()
    """Reject instructions that stand in this file of evaluation data. May be repeated."""
    min_input_quality: str | None = None
    """Reject instructions that the model tags below this: very poor, poor, average, good, excellent. Off by default:
    what a tag is worth depends on the model (`mlx-suite magpie calibrate`), and it can be set later."""
    min_answer_quality: str | None = None
    """Reject answers that the model tags below this. Off by default, as above."""
    unsafe: Literal["reject", "keep"] = "reject"
    """What becomes of rows that the model tags as unsafe."""
    answer_temperature: float = 0.0
    """Temperature of answers. 0 takes the most probable token: an answer should be right, not varied."""
    answer_top_p: float = 1.0
    """Answers are made of the most probable tokens that reach this probability together."""
    max_answer: int = 2048
    """Longest answer. A longer one is rejected, not cut. May be raised later."""
    turns: int = 1
    """Questions and answers in a row. A conversation in which the model forgets that it plays the user ends
    earlier."""
    patience: int = 400
    """Rejected rows in a row before the run gives up: then the model has nothing new to ask."""
    most_asked: int | None = None
    """Rows to ask at most, and what the run gives up at as soon as its yield foretells more. 50 for each row wanted,
    and 1000."""
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
        if not problems:
            problems += self._conflicts()
        if problems:
            raise UserError(
                "A setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong",
                where="the settings of Magpie",
                fix="mlx-suite magpie --help says what each one means",
                details=problems,
            )

    def _conflicts(self) -> Iterator[str]:
        """What does not go together."""
        if self.mix is not None:
            parse_mix(self.mix)
            if (self.temperature, self.top_p) != (1.0, 1.0):
                yield "mix stands in place of temperature and top_p: leave those out"
        yield from filter(None, (shares.problem(self.count) for shares in self.shares))
        if not self.tags:
            wanting = [name for name in ("min_input_quality", "min_answer_quality") if getattr(self, name) is not None]
            wanting += [f"the quota of {each.dimension}" for each in self.shares if each.dimension in TAGGED]
            yield from (f"{name} needs tags, which are off" for name in wanting)
        if self.near_meaning and not self.embeddings:
            yield "near_meaning needs embeddings, which are off"
        if self.unsafe not in ("reject", "keep"):
            yield f"unsafe is {self.unsafe!r}: reject or keep"

    @property
    def shares(self) -> tuple[Shares, ...]:
        """The quotas; topics and personas without one have the same of what is left."""
        given = {each.dimension: each for each in parse_shares(self.quotas)}
        for dimension, values in (("topic", self.topics), ("persona", self.personas)):
            if values:
                given[dimension] = equal_shares(dimension, values, given.get(dimension), self.count)
        return tuple(given.values())

    @property
    def steered(self) -> tuple[str, ...]:
        """Dimensions in which the model is told what to ask."""
        return tuple(each.dimension for each in self.shares if self.steer or each.dimension not in TAGGED)

    def setting_of(self, index: int) -> Setting:
        """How the instruction of a row is drawn."""
        if self.mix is None:
            return Setting(temperature=self.temperature, top_p=self.top_p)
        return setting_of(parse_mix(self.mix), self.seed, index)

    @property
    def asked_at_most(self) -> int:
        """Rows to ask before the run gives up."""
        return 50 * self.count + 1000 if self.most_asked is None else self.most_asked

    @property
    def answering(self) -> "Sampling":
        """How answers are drawn."""
        from mlx_suite.engine import Sampling  # brings MLX, which settings do without

        return Sampling(temperature=self.answer_temperature, top_p=self.answer_top_p)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _counts(value: Any) -> bool:
    return _whole(value) and value >= 1


def _temperature(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value <= 1


def _size(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(parse_size(value)))


def _threshold(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value <= 1)


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value.strip()))


def _texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) and each.strip() for each in value)


_RULES = (
    (("count", "batch", "max_instruction", "max_answer", "turns", "patience"), _counts, "a whole number from 1 up"),
    (("most_asked",), lambda value: value is None or _counts(value), "a whole number from 1 up, or leave it out"),
    (("memory",), _size, "a size of memory as in 8GB, or leave it out"),
    (("seed",), _whole, "a whole number"),
    (("temperature", "answer_temperature"), _temperature, "a number from 0 up"),
    (("top_p", "answer_top_p"), _share, "above 0 and at most 1"),
    (("near_duplicate", "near_meaning"), _threshold, "a number from 0 to 1, or leave it out"),
    (
        ("min_input_quality", "min_answer_quality"),
        lambda value: value is None or value in QUALITIES,
        f"one of {', '.join(QUALITIES)}, or leave it out",
    ),
    (("system", "mix", "questions", "model_name"), _text, "some text, or leave it out"),
    (("ban_first", "topics", "personas", "quotas", "decontaminate"), _texts, "texts that are not empty"),
)
