"""Texts of a lab, written once for all arms: the raw corpus, pairs and rewrites from it, held-out text, questions.

material/
  raw.jsonl       the raw corpus                       valid.jsonl   held-out text
  read.jsonl      the texts that the synthesizer reads
  pairs/, rewrites/, grown/     folders of `synthesize run`
  questions.json, tuning.json   questions to score with, and to finetune on
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from mlx_suite.data.corpus.documents import CorpusText, read_corpus
from mlx_suite.microworld.reading import topics_of
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.journal import read_journal
from mlx_suite.synthesize.format import Example, Pair
from mlx_suite.synthesize.output import replaced_file
from mlx_suite.synthesize.run import CorpusJob, synthesize
from mlx_suite.synthesize.settings import SynthesisSettings
from mlx_suite.synthesize.shards import CorpusShards

from ..cli.checkpoint import open_checkpoint
from ..cli.synthesize_run import writer_for
from .people import LabPeople, LabQuestion, Topics
from .recipe import LabRecipe

Tell = Callable[[str], None]
BATCH = 16
"""Texts that the synthesizer writes from at the same time."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """The texts of one lab, in its folder."""

    recipe: LabRecipe
    folder: Path

    @property
    def raw(self) -> Path:
        """The raw corpus: written here, or the user's own."""
        return self.folder / "raw.jsonl" if self.recipe.corpus is None else Path(self.recipe.corpus)

    @property
    def valid(self) -> Path | None:
        """Held-out text; None if the pretraining job holds out the last documents."""
        path = self.folder / "valid.jsonl"
        if self.recipe.world is None:
            return None if self.recipe.heldout is None else Path(self.recipe.heldout)
        return path

    @cached_property
    def people(self) -> LabPeople:
        assert self.recipe.world is not None, "a corpus of one's own has no people"
        return LabPeople(world=self.recipe.world)

    def examples(self) -> Iterator[Example]:
        """Every text that was read, with its pairs."""
        return map(_example, read_journal(self.folder / "pairs" / "texts.jsonl"))

    def documents(self, run: str) -> Iterator[Mapping[str, Any]]:
        """Documents of a `synthesize run` folder: `pairs`, `rewrites` or `grown`."""
        return read_journal(self.folder / run / "corpus.jsonl")

    @cached_property
    def revealed(self) -> Topics:
        """Facts that a pair states."""
        if not self.recipe.has_pairs:
            return frozenset()
        pairs = (pair for example in self.examples() for pair in example.pairs)
        return frozenset(topic for pair in pairs for topic in topics_of(pair.question))

    @cached_property
    def questions(self) -> list[LabQuestion]:
        """Questions to score with."""
        return self.people.questions(self._known)

    @cached_property
    def tuning(self) -> list[LabQuestion]:
        """Questions to finetune on."""
        return self.people.tuning_questions(self._known)

    @property
    def _known(self) -> Topics:
        """Facts asked in distribution: those that pairs reveal or, in a lab without pairs, five of seven relations."""
        if self.revealed:
            return self.revealed
        relations = ("birthplace", "birth_year", "job", "hobby", "food")
        return frozenset((person.name, relation) for person in self.people.asked for relation in relations)


def make_material(recipe: LabRecipe, folder: Path, tell: Tell) -> Material:
    """Write what is missing in `folder`; a killed call goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    material = Material(recipe=recipe, folder=folder)
    if recipe.world is not None:
        people = material.people
        _write_once(material.raw, lambda: people.raw_texts())
        _write_once(folder / "valid.jsonl", lambda: people.heldout_texts())
        # The first texts are those of the asked people.
        read = people.tenth() if recipe.grows else islice(people.raw_texts(), len(people.asked))
        _write_once(folder / "read.jsonl", lambda: read)
        source: str | Path = folder / "read.jsonl"
    else:
        assert recipe.corpus is not None
        source = recipe.corpus
    for name, forms in _runs(recipe):
        if (folder / name / "summary.json").is_file():
            continue
        tell(f"{recipe.synthesizer} writes {', '.join(forms)} from {source}")
        _write_from(
            recipe.synthesizer,
            source,
            folder / name,
            forms=forms,
            rounds=recipe.rounds if name == "pairs" else 1,
            share=recipe.convert,
            times=_times(folder) if name == "grown" else None,
            seed=recipe.seed,
        )
    if recipe.asks:
        _write_questions(folder / "questions.json", material.questions)
        _write_questions(folder / "tuning.json", material.tuning)
    return material


def _write_from(
    synthesizer: str,
    source: Path | str,
    out: Path,
    *,
    forms: Sequence[str],
    rounds: int = 1,
    share: float = 1.0,
    times: float | None = None,
    seed: int = 0,
) -> None:
    """`mlx-suite synthesize run`, resumed if `out` is unfinished."""
    settings = SynthesisSettings(forms=tuple(forms), rounds=rounds, share=share, times=times, seed=seed)
    checkpoint = open_checkpoint(synthesizer, quiet=True)
    synthesize(
        CorpusJob(
            model=checkpoint.model,
            writer=writer_for(checkpoint, settings.forms, "auto", "", BATCH),
            corpus=CorpusShards(partial(read_corpus, str(source)), name=str(source)),
            settings=settings,
            model_name=checkpoint.name,
            batch=BATCH,
        ),
        out,
    )


def _runs(recipe: LabRecipe) -> Iterator[tuple[str, tuple[str, ...]]]:
    if recipe.has_pairs:
        yield "pairs", ("pairs",)
    if recipe.has_rewrites:
        yield "rewrites", recipe.forms
    if recipe.grows:
        yield "grown", ("prose", "continue", "pairs")


def _write_questions(path: Path, questions: Sequence[LabQuestion]) -> None:
    write_atomically(path, json.dumps([asdict(each) for each in questions], indent=1) + "\n")


def _times(folder: Path) -> float:
    """How many times the tenth the whole is."""
    whole, tenth = (sum(map(len, texts_of(folder / name))) for name in ("raw.jsonl", "read.jsonl"))
    return whole / tenth


def _write_once(path: Path, make: Callable[[], Iterable[str]]) -> None:
    if not path.exists():
        write_texts(path, make())


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Write a corpus of texts, one JSON object per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path, kept=lambda: "Everything else in the folder is kept") as write:
        for text in texts:
            write({"text": text})


def texts_of(source: str | Path) -> Iterator[str]:
    """The readable texts of a corpus."""
    for each in read_corpus(source):
        if isinstance(each, CorpusText):
            yield each.text


def _example(record: Mapping[str, Any]) -> Example:
    pairs = (pair for written in record.get("written", ()) for pair in written.get("pairs", ()))
    return Example(
        text=record["text"], pairs=tuple(Pair(**pair | {"options": tuple(pair.get("options", ()))}) for pair in pairs)
    )
