"""The corpus of a run: every part tokenized into the run folder, with a held-out end for evaluation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_suite.data.corpus.mixture import MixturePart
from mlx_suite.data.corpus.token_file import TokenFile
from mlx_suite.data.corpus.tokenize import tokenize_corpus
from mlx_suite.pretrain.held_out import hold_out
from mlx_suite.pretrain.settings import VALID, CorpusPart, PretrainSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer

TOKENS = "tokens"
"""Folder in the run folder with a folder of tokens for every part."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class PreparedCorpus:
    """Parts to train on, weighted, and parts to evaluate on."""

    train: tuple[MixturePart, ...]
    valid: tuple[MixturePart, ...]
    """Empty without evaluation."""

    @property
    def tokens(self) -> int:
        """Tokens of all parts to train on."""
        return sum(part.file.count for part in self.train)


def prepare_corpus(
    settings: PretrainSettings,
    tokenizer: Tokenizer,
    run: Path,
    tell: Tell = lambda name, documents, text_bytes: None,
) -> PreparedCorpus:
    """Tokenize the corpus, resuming what was begun and reusing what is finished.

    Args:
        tell: Called with the name of a part, and the documents and bytes of text tokenized so far.

    Raises UserError whenever `tokenize_corpus` does, and if a part is too small to train on.
    """
    files = {part.title: _tokens(part, tokenizer, run / TOKENS / part.title, tell) for part in _parts(settings)}
    share = 0.0 if settings.valid else settings.valid_share
    held: list[tuple[str, TokenFile]] = []
    train: dict[str, TokenFile] = {}
    for name, file in files.items():
        train[name], end = hold_out(file, share)
        if end is not None:
            held.append((name, end))
    if settings.valid:
        valid = replace(settings.valid, name=VALID)
        held = [(VALID, _tokens(valid, tokenizer, run / TOKENS / VALID, tell))]
    _refuse_small(settings, train, held)
    weights = _weights(settings, train)
    return PreparedCorpus(
        train=tuple(MixturePart(name=name, file=file, weight=weights[name]) for name, file in train.items()),
        valid=tuple(MixturePart(name=name, file=file, weight=float(file.count)) for name, file in held),
    )


def _parts(settings: PretrainSettings) -> Iterator[CorpusPart]:
    yield from settings.data
    if replay := settings.replay:
        yield CorpusPart(path=replay.path, name=replay.name, field=replay.field, separator=replay.separator)


def _tokens(part: CorpusPart, tokenizer: Tokenizer, folder: Path, tell: Tell) -> TokenFile:
    def progress(documents: int, text_bytes: int) -> None:
        tell(part.title, documents, text_bytes)

    return tokenize_corpus(part.path, tokenizer, folder, field=part.field, separator=part.separator, tell=progress)


def _weights(settings: PretrainSettings, files: dict[str, TokenFile]) -> dict[str, float]:
    """Weights of the parts, which add up to 1."""
    given = {part.title: part.weight for part in settings.data}
    weights = {name: float(files[name].count) if weight is None else weight for name, weight in given.items()}
    rest = 1.0 - settings.replay.share if settings.replay else 1.0
    shares = {name: rest * weight / sum(weights.values()) for name, weight in weights.items()}
    return shares | ({settings.replay.name: settings.replay.share} if settings.replay else {})


def _refuse_small(settings: PretrainSettings, train: dict[str, TokenFile], held: list[tuple[str, TokenFile]]) -> None:
    small = [f"{name}: {file.count:,} tokens" for name, file in [*train.items(), *held] if file.count < 2]
    if small:
        raise UserError(
            "A part of the corpus is too small to predict a token from another",
            where=", ".join(part.path for part in settings.data),
            fix="leave it out, or give more text",
            details=small,
        )
