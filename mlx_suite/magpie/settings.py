"""Settings of a Magpie run: its flags and defaults, and what each one may change about a folder that exists."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from mlx_suite.data.questions import QUALITIES, TAGGED
from mlx_suite.magpie.steering import Shares, equal_shares, parse_shares, uniform_of
from mlx_suite.runtime.errors import UserError, check_rules
from mlx_suite.runtime.memory import parse_size

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
"""Settings that determine the rows. They cannot change in a folder."""
LIMITS = ("max_instruction", "max_answer")
"""Token limits. They may be raised: only rows that reached one are generated again."""
POLICY = (
    "quotas",
    "near_duplicate",
    "near_meaning",
    "decontaminate",
    "min_input_quality",
    "min_answer_quality",
    "unsafe",
)
"""Settings that decide which rows are accepted. After a change, rows are judged again and missing ones generated."""
FREE = ("count", "batch", "memory", "patience", "most_asked", "questions", "model_name")
"""Settings that change no row. (The path `questions` is free; the contents of that file determine rows.)"""


@dataclass(frozen=True, kw_only=True)
class SamplingSetting:
    """Sampling settings of instructions; a run may mix several."""

    temperature: float
    top_p: float = 1.0
    weight: float = 1.0
    """Relative frequency in a mix."""


def parse_mix(text: str) -> tuple[SamplingSetting, ...]:
    """Parse `temperature/top_p:weight`, separated by commas, as in "1.0/1.0:3, 1.2/0.995:1".

    The paper's datasets are such mixes: mostly temperature 1, and some hotter rows for variety (arXiv 2406.08464,
    section 2.1). A missing top_p or weight is 1. Raises UserError listing every part that cannot be parsed.
    """
    settings, problems = [], []
    for part in text.split(","):
        try:
            settings.append(_mix_part(part))
        except ValueError as error:
            problems.append(f"{part.strip()!r}: {error}")
    if problems:
        raise UserError(
            "The mix of sampling settings cannot be parsed",
            where="--mix",
            fix="write temperature/top_p:weight, separated by commas: --mix 1.0/1.0:3,1.2/0.995:1",
            details=problems,
        )
    return tuple(settings)


def drawn_setting(settings: tuple[SamplingSetting, ...], seed: int, index: int) -> SamplingSetting:
    """Draw the setting of a row in proportion to the weights; depends only on seed and row number."""
    sums = list(accumulate(setting.weight for setting in settings))
    place = uniform_of("mix", seed, index) * sums[-1]
    return next(setting for setting, end in zip(settings, sums, strict=True) if place < end)


_MIX_PART = re.compile(r"\s*([0-9.]+)\s*(?:/\s*([0-9.]+))?\s*(?::\s*([0-9.]+))?\s*")


def _mix_part(part: str) -> SamplingSetting:
    match = _MIX_PART.fullmatch(part)
    if match is None:
        raise ValueError("expected temperature/top_p:weight")
    temperature, top_p, weight = (float(each) if each else 1.0 for each in match.groups())
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p:g}: expected a number above 0, at most 1")
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"weight is {weight:g}: expected a number above 0")
    return SamplingSetting(temperature=temperature, top_p=top_p, weight=weight)


@dataclass(frozen=True, kw_only=True)
class MagpieSettings:
    """Settings of one run folder. The docstrings of the fields are the help of the command line."""

    count: int
    """Accepted rows to generate, no two with the same instruction. A larger number extends an existing folder."""
    seed: int = 0
    """Random seed, any whole number. Each row's seed is derived from it."""
    batch: int = 16
    """Rows generated concurrently; more is faster until memory is full. The rows themselves do not change."""
    memory: str | None = None
    """Memory budget of each process, such as 8GB; the batch shrinks until it fits. Default: all free memory."""
    system: str | None = None
    """System prompt to steer the instructions; becomes a first exchange if the chat template has no system role.
    Default: none, because a general system prompt lowered quality in the paper."""
    temperature: float = 1.0
    """Sampling temperature of instructions. 1 is the model's own distribution; higher is more varied, less coherent."""
    top_p: float = 1.0
    """Nucleus sampling of instructions: sample from the fewest tokens whose probabilities sum to this. 1 is off."""
    mix: str | None = None
    """Several sampling settings in one run instead of temperature and top_p: TEMPERATURE/TOP_P:WEIGHT, separated by
    commas, as in 1.0/1.0:3,1.2/0.995:1."""
    ban_first: tuple[str, ...] = ()
    """Text that no instruction may begin with; `#` keeps Llama 3.1 from writing `## Step 1`. Repeatable."""
    max_instruction: int = 512
    """Maximum tokens of an instruction. Longer ones are rejected, not truncated: most would never end. May be raised
    later."""
    sanitise: bool = True
    """Remove labels, quotes and leaked response text from instructions; the original is kept in the row. Default:
    on."""
    topics: tuple[str, ...] = ()
    """Topic to ask about; every topic gets the same number of rows. Repeatable."""
    personas: tuple[str, ...] = ()
    """Persona to ask as, for example "a nurse"; every persona gets the same number of rows. Repeatable."""
    quotas: tuple[str, ...] = ()
    """Composition of the dataset, DIMENSION:VALUE=SHARE,…, in shares or in rows: category:Math=0.3,Reasoning=0.3.
    Dimensions: category, difficulty, language, topic, persona. Repeatable."""
    steer: bool = True
    """Prompt the model for what the category, difficulty and language quotas still need. Without it, rows are only
    filtered. Default: on."""
    tags: bool = True
    """Let the model tag each instruction and response, with a confidence. Quality filters and quotas need it. Default:
    on."""
    questions: str | None = None
    """JSON file of tagging questions. Default: the checkpoint's own if it has any, else the built-in ones."""
    embeddings: bool = True
    """Store a hidden-state embedding of each instruction, for the report's map and for near_meaning. Default: on."""
    near_duplicate: float | None = 0.8
    """Reject an instruction whose Jaccard similarity to an accepted one is at least this. 0 turns it off."""
    near_meaning: float | None = None
    """Reject an instruction whose embedding has at least this cosine similarity to an accepted one. Default: off,
    because the right threshold depends on the model."""
    decontaminate: tuple[str, ...] = ()
    """Evaluation data: a file, a folder or a hub dataset. Instructions that occur in it are rejected. Repeatable."""
    min_input_quality: str | None = None
    """Reject instructions tagged below this: very poor, poor, average, good, excellent. Default: off, because a tag
    is only as good as the model (see `mlx-suite magpie calibrate`). Can be set later."""
    min_answer_quality: str | None = None
    """Reject responses tagged below this; same labels. Default: off."""
    unsafe: Literal["reject", "keep"] = "reject"
    """What to do with rows tagged as unsafe."""
    answer_temperature: float = 0.0
    """Sampling temperature of responses. 0 is greedy: a response should be right, not varied."""
    answer_top_p: float = 1.0
    """Nucleus sampling of responses: sample from the fewest tokens whose probabilities sum to this. 1 is off."""
    max_answer: int = 2048
    """Maximum tokens of a response. Longer ones are rejected, not truncated. May be raised later."""
    turns: int = 1
    """Exchanges per row. A conversation ends earlier if the model stops writing as the user."""
    patience: int = 400
    """Stop after this many consecutive rejected rows: the model has nothing new left."""
    most_asked: int | None = None
    """Maximum rows to generate; the run also stops early when its yield projects more. Default: 50 × count + 1000."""
    model_name: str | None = None
    """Model name stored in every record. Default: the name of the checkpoint's folder."""

    def __post_init__(self) -> None:
        """Raises UserError listing every invalid value."""
        rules = {
            name: (is_valid(getattr(self, name)), expected) for names, is_valid, expected in _RULES for name in names
        }
        check_rules(self, rules, "Magpie settings", "mlx-suite magpie run --help-all")
        conflicts = list(self._conflicts())
        if conflicts:
            raise UserError(
                "The settings contradict each other",
                where="Magpie settings",
                fix="leave out one side of each conflict",
                details=conflicts,
            )

    def _conflicts(self) -> Iterator[str]:
        """Settings that contradict each other."""
        if self.mix is not None:
            parse_mix(self.mix)
            if (self.temperature, self.top_p) != (1.0, 1.0):
                yield "mix replaces temperature and top_p: leave those out"
        yield from filter(None, (shares.problem(self.count) for shares in self.shares))
        if not self.tags:
            needing = [name for name in ("min_input_quality", "min_answer_quality") if getattr(self, name) is not None]
            needing += [f"the quota of {each.dimension}" for each in self.shares if each.dimension in TAGGED]
            yield from (f"{name} needs tags, which are off" for name in needing)
        if self.near_meaning and not self.embeddings:
            yield "near_meaning needs embeddings, which are off"

    @property
    def shares(self) -> tuple[Shares, ...]:
        """The quotas; topics and personas without one divide the rest equally."""
        given = {each.dimension: each for each in parse_shares(self.quotas)}
        for dimension, values in (("topic", self.topics), ("persona", self.personas)):
            if values:
                given[dimension] = equal_shares(dimension, values, given.get(dimension), self.count)
        return tuple(given.values())

    @property
    def steered(self) -> tuple[str, ...]:
        """Dimensions along which the model is prompted, not only filtered."""
        return tuple(each.dimension for each in self.shares if self.steer or each.dimension not in TAGGED)

    def setting_of(self, index: int) -> SamplingSetting:
        """Sampling settings of a row's instruction."""
        if self.mix is None:
            return SamplingSetting(temperature=self.temperature, top_p=self.top_p)
        return drawn_setting(parse_mix(self.mix), self.seed, index)

    @property
    def row_limit(self) -> int:
        """Maximum rows to generate before the run stops."""
        return 50 * self.count + 1000 if self.most_asked is None else self.most_asked

    @property
    def response_sampling(self) -> "Sampling":
        """Sampling settings of responses."""
        from mlx_suite.engine import Sampling  # imports MLX, which the settings alone do not need

        return Sampling(temperature=self.answer_temperature, top_p=self.answer_top_p)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 1


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
    (
        ("count", "batch", "max_instruction", "max_answer", "turns", "patience"),
        _is_count,
        "expected a whole number of at least 1",
    ),
    (("most_asked",), lambda value: value is None or _is_count(value), "expected a whole number of at least 1"),
    (("memory",), _size, "expected a size such as 8GB"),
    (("seed",), _is_integer, "expected a whole number"),
    (("temperature", "answer_temperature"), _temperature, "expected a number of at least 0"),
    (("top_p", "answer_top_p"), _share, "expected a number above 0, at most 1"),
    (("near_duplicate", "near_meaning"), _threshold, "expected a number from 0 to 1"),
    (
        ("min_input_quality", "min_answer_quality"),
        lambda value: value is None or value in QUALITIES,
        f"expected one of {', '.join(QUALITIES)}",
    ),
    (("unsafe",), lambda value: value in ("reject", "keep"), "expected reject or keep"),
    (("system", "mix", "questions", "model_name"), _text, "expected text that is not blank"),
    (("ban_first", "topics", "personas", "quotas", "decontaminate"), _texts, "expected texts that are not blank"),
)
