"""Recipes of the pretraining lab: a YAML file with the corpus, the arms, the model and the budget."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mlx_suite.runtime.errors import UserError, invalid
from mlx_suite.runtime.settings_file import did_you_mean, read_settings, required

ARMS: Mapping[str, str] = {
    "vanilla": "raw text only, as many different texts as the budget holds",
    "repeat": "the same raw text again and again: the control that counts",
    "mix": "raw text, and the synthesizer's own training data, which is about other texts",
    "instruct": "raw text, and texts followed by their pairs (Instruction Pre-Training)",
    "instruct-separate": "raw text, and the pairs in documents of their own",
    "instruct-only": "the pairs alone",
    "pit": "raw text, and texts after their pairs (pre-instruction-tuning's order)",
    "rephrase": "raw text, and rewrites of it",
    "tenth": "a tenth of the raw text, repeated",
    "grown": "the same tenth, grown to the tokens of the whole by rewrites, continuations and pairs",
    "whole": "all of the raw text",
}
"""Arms and what they train on, at equal numbers of tokens."""
SYNTHETIC = ("mix", "instruct", "instruct-separate", "instruct-only", "pit", "rephrase")
"""Arms with a part that is not raw text."""
GROWING = ("tenth", "grown", "whole")
EXAMPLE = "arms: repeat, instruct"


@dataclass(frozen=True, kw_only=True)
class LabWorld:
    """The microworld as corpus: biographies of people whose names no shipped model has met."""

    people: int = 64
    """People whose biographies are trained on."""
    asked: float = 0.5
    """Share of the people about whom the synthesizer writes; no pair is ever about the others."""
    texts: int = 2
    """Biographies of each person in the raw corpus; the synthesizer reads the first."""
    unseen: int = 40
    """Other people, for questions with the text at hand (open book)."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class LabModel:
    """The model to train, as in a pretraining configuration."""

    size: int | None = None
    """New model from the size dial."""
    config: Mapping[str, Any] | str | None = None
    """New model of this shape: keys of a config.json, or its path."""
    checkpoint: str | None = None
    """Model to train further."""
    vocabulary: int = 768
    """Ids of the tokenizer that is trained for a new model."""


@dataclass(frozen=True, kw_only=True)
class LabTraining:
    """Budget and settings of every arm."""

    tokens: int
    """Tokens that each arm trains on."""
    length: int = 128
    """Row length in tokens."""
    batch: int = 32
    """Rows per step."""
    learning_rate: float | None = None
    """Peak learning rate. Default: that of the pretraining job."""
    schedule: str = "wsd"
    """As in a pretraining configuration."""
    optimizer: str = "adamw"
    """As in a pretraining configuration."""
    isolate: bool = False
    """Whether documents in a row do not see each other."""


@dataclass(frozen=True, kw_only=True)
class LabTuning:
    """Instruction finetuning of every arm after pretraining, on questions about the asked people."""

    steps: tuple[int, ...] = (0, 20, 60, 120)
    """Steps at which the models are scored, in ascending order."""
    batch: int = 16
    """Rows per step."""
    learning_rate: float = 1e-3
    """Constant learning rate."""


@dataclass(frozen=True, kw_only=True)
class LabBase:
    """A base model for continual pretraining, trained first on biographies of other people."""

    people: int = 64
    tokens: int = 500_000
    replay: float = 0.2
    """Share of each arm's tokens that repeat the base model's corpus."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One arm trained with several synthetic shares."""

    arm: str
    shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    seeds: int = 2


@dataclass(frozen=True, kw_only=True)
class LabRecipe:
    """An experiment: arms × seeds at equal budgets, scored alike."""

    title: str
    arms: tuple[str, ...]
    """Arms to train, separated by commas."""
    training: LabTraining
    model: LabModel
    world: LabWorld | None = None
    """The microworld as corpus, which allows questions; give this or `corpus`."""
    corpus: str | None = None
    """A corpus of one's own: a file, a folder or a hub dataset. It is scored by bits per byte."""
    heldout: str | None = None
    """Held-out text of `corpus`. Default: its last documents."""
    synthesizer: str = "tiny-synthesizer"
    """Model that writes pairs and rewrites."""
    convert: float = 1.0
    """Share of the texts of `corpus` that the synthesizer reads."""
    forms: tuple[str, ...] = ("prose", "faq", "table", "tutorial", "quiz")
    """Forms of the rewrites."""
    rounds: int = 2
    """Rounds of M-shot prompting."""
    share: float = 0.5
    """Synthetic share of the tokens in the arms that have one."""
    seeds: int = 3
    tuning: LabTuning | None = None
    """Finetuning after pretraining. Default: none."""
    sweep: Sweep | None = None
    base: LabBase | None = None
    """Continual pretraining in the microworld: the base model to start every arm from."""
    seed: int = 0

    @property
    def has_pairs(self) -> bool:
        """Whether an arm needs pairs."""
        return bool({*self.arms, *self._swept} & {"instruct", "instruct-separate", "instruct-only", "pit"})

    @property
    def has_rewrites(self) -> bool:
        return "rephrase" in {*self.arms, *self._swept}

    @property
    def asks(self) -> bool:
        """Whether models are scored by questions, and not by bits per byte alone."""
        return self.world is not None and not self.grows

    @property
    def grows(self) -> bool:
        return "grown" in self.arms

    @property
    def _swept(self) -> tuple[str, ...]:
        return () if self.sweep is None else (self.sweep.arm,)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One model to train: an arm, its synthetic share, and a seed."""

    arm: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.share:g}-{self.seed}"


def read_recipe(source: str | Path, also: Sequence[str] = ()) -> LabRecipe:
    """Read a recipe: a file, or the name of one that comes with mlx-suite.

    Args:
        also: Names that are no recipes but could be meant too.

    Raises UserError that lists everything wrong with it.
    """
    path = Path(source)
    if not path.is_file():
        shipped = _shipped()
        if str(source) not in shipped:
            near = get_close_matches(str(source), (*shipped, *also), n=1)
            raise UserError(
                f"There is no recipe{' or experiment' if also else ''} of this name, and no such file",
                where=str(source),
                fix=f"did you mean {near[0]}?" if near else "mlx-suite lab --list shows all names",
            )
        path = shipped[str(source)]
    values = read_settings(path, LabRecipe, EXAMPLE)
    missing = [name for name in required(LabRecipe) if name not in values]
    if missing:
        raise UserError(
            f"The recipe has no {' and no '.join(missing)}", where=str(path), fix="add the missing settings"
        )
    recipe = LabRecipe(**values)
    problems = [f"{name} {problem}" for name, problem in _problems(recipe)]
    if problems:
        raise invalid("setting", problems, "mlx-suite lab --help", str(path))
    return recipe


def shipped_recipes() -> dict[str, str]:
    """Titles of the recipes that come with mlx-suite, by name."""
    return {name: read_recipe(path).title for name, path in _shipped().items()}


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


def trials_of(recipe: LabRecipe) -> list[Trial]:
    """All models to train, seed by seed, so that an unfinished lab compares all arms."""
    trials = [
        Trial(arm=arm, share=_share_of(arm, recipe.share), seed=seed)
        for seed in range(recipe.seeds)
        for arm in recipe.arms
    ]
    if recipe.sweep is not None:
        trials += [
            Trial(arm=recipe.sweep.arm, share=share, seed=seed)
            for seed in range(recipe.sweep.seeds)
            for share in recipe.sweep.shares
        ]
    return list(dict.fromkeys(trials))


def _share_of(arm: str, share: float) -> float:
    if arm == "instruct-only":
        return 1.0
    return share if arm in SYNTHETIC else 0.0


def _problems(recipe: LabRecipe) -> Iterator[tuple[str, str]]:
    for arm in (*recipe.arms, *recipe._swept):
        if arm not in ARMS:
            yield "arms", f"has {arm!r}: {did_you_mean(arm, tuple(ARMS))}"
    if not recipe.arms:
        yield "arms", f"is empty: choose from {', '.join(ARMS)}"
    if (recipe.world is None) == (recipe.corpus is None):
        yield "world", "or corpus has to be given, and not both"
    if recipe.base is not None and recipe.world is None:
        yield "base", "needs the microworld: a corpus of one's own is continued from model.checkpoint"
    if recipe.tuning is not None and recipe.world is None:
        yield "tuning", "needs the microworld, whose questions have known answers"
    if recipe.tuning is not None and list(recipe.tuning.steps) != sorted(set(recipe.tuning.steps)):
        yield "tuning", f"has the steps {list(recipe.tuning.steps)}: expected ascending numbers"
    if recipe.corpus is not None and {"mix", *GROWING} & set(recipe.arms):
        yield "arms", "has mix, tenth, grown or whole, which are made for the microworld"
    if not 0 < recipe.share < 1:
        yield "share", f"is {recipe.share}: expected above 0 and below 1"
    if recipe.sweep is not None and not all(0 < share < 1 for share in recipe.sweep.shares):
        yield "sweep", f"has the shares {list(recipe.sweep.shares)}: expected above 0 and below 1"
    if recipe.sweep is not None and recipe.sweep.arm not in SYNTHETIC:
        yield "sweep", f"is of {recipe.sweep.arm!r}, which has no synthetic part: choose from {', '.join(SYNTHETIC)}"
    if recipe.seeds < 1:
        yield "seeds", f"is {recipe.seeds}: expected at least 1"
    if recipe.training.tokens < recipe.training.length * recipe.training.batch:
        yield "training", f"has {recipe.training.tokens} tokens, less than one step"


RECIPES = Path(__file__).parent / "recipes"
