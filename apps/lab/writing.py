"""The synthesizer of a lab at work on its texts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mlx_suite.data.corpus.documents import read_corpus
from mlx_suite.synthesize.run import CorpusJob, synthesize
from mlx_suite.synthesize.settings import SynthesisSettings
from mlx_suite.synthesize.shards import CorpusShards

from ..cli.checkpoint import open_checkpoint
from ..cli.synthesize_run import writer_for

BATCH = 16
"""Texts written at the same time."""


def write_from(
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
