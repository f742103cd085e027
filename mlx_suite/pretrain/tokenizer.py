"""The tokenizer of a run: that of a checkpoint, or a byte-level BPE trained on the corpus."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from mlx_suite.checkpoints.save import TOKENIZER_FILES
from mlx_suite.data.corpus.documents import CorpusText, read_corpus
from mlx_suite.hub.resolve import resolve_texts
from mlx_suite.pretrain.settings import CorpusPart, TokenizerSource
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import json_if_any, staged_folder
from mlx_suite.runtime.resume import as_json
from mlx_suite.text import load_tokenizer
from mlx_suite.text.training import train_llama3_tokenizer

MOST_BYTES = 50_000_000
"""Bytes of text that a tokenizer is trained on, in equal shares from all parts: more changes few merges."""
END = "<|end_of_text|>"
MADE_FROM = "made_from.json"
"""File in the tokenizer's folder with the settings it was made from."""
STOPS = (END, "<|eom_id|>", "<|eot_id|>")


def tokenizer_folder(source: TokenizerSource, parts: Sequence[CorpusPart], run: Path) -> Path:
    """Folder `run`/tokenizer with the tokenizer of a new model, made unless it was made from the same settings before.

    Raises UserError if there is no such tokenizer, or the corpus is too small to train one.
    """
    folder = run / "tokenizer"
    facts = as_json({"source": asdict(source), "corpus": [asdict(part) for part in parts] if source.train else None})
    if json_if_any(folder / MADE_FROM) == facts:
        return folder
    origin = _origin(source.checkpoint) if source.checkpoint else None
    with staged_folder(folder) as staged:
        if origin is None:
            _train(staged, parts, source.train)
        else:
            for name in TOKENIZER_FILES:
                if (origin / name).is_file():
                    shutil.copyfile(origin / name, staged / name)
        (staged / MADE_FROM).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder


def _origin(checkpoint: str) -> Path:
    """Folder of a checkpoint, or of a tokenizer alone."""
    folder = Path(checkpoint).expanduser()
    return folder if (folder / "tokenizer.json").is_file() else resolve_texts(checkpoint)


def _train(folder: Path, parts: Sequence[CorpusPart], ids: int) -> None:
    try:
        train_llama3_tokenizer(_texts(parts), folder, ids, eos=END)
    except ValueError as error:
        raise UserError(
            f"The corpus is too small for a tokenizer of {ids:,} ids: {error}",
            where="tokenizer",
            fix="set a smaller number for train",
        ) from error
    tokenizer = load_tokenizer(folder)
    special = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": [tokenizer.id_of(name) for name in STOPS],
        "pad_token_id": tokenizer.pad_id,
    }
    (folder / "generation_config.json").write_text(json.dumps(special, indent=2) + "\n")


def _texts(parts: Sequence[CorpusPart]) -> Iterator[str]:
    """The first texts of every part, up to its share of MOST_BYTES."""
    for part in parts:
        left = MOST_BYTES // len(parts)
        for text in read_corpus(part.path, field=part.field, separator=part.separator):
            if left <= 0:
                break
            if isinstance(text, CorpusText):
                yield text.text
                left -= len(text.text.encode())
