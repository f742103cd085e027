"""A tokenized corpus: a folder of memory-mapped tokens with an index of its documents, checksums and a manifest.

    manifest.json   counts, checksums, and what the tokens were made from; written last, so it marks a finished folder
    tokens.bin      token ids, uint16 or uint32, little-endian: of every document BOS (if the model uses one), text, EOS
    ends.bin        uint64, for each document the number of tokens up to its end

Shapes: N tokens, K documents.
"""

import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sha256_of
from mlx_suite.runtime.resume import stored_facts
from mlx_suite.text import Tokenizer

KIND = "mlx-suite tokens"
MANIFEST, TOKENS, ENDS = "manifest.json", "tokens.bin", "ends.bin"

Ids = npt.NDArray[np.uint16 | np.uint32]
Ends = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """An open tokenized corpus."""

    folder: Path
    manifest: Mapping[str, Any]
    """Content of manifest.json."""

    @classmethod
    def open(cls, folder: str | Path, tokenizer: Tokenizer | None = None) -> "TokenFile":
        """Open a folder and check sizes and checksums, which reads it once.

        Raises UserError if it is unfinished, torn or damaged, or was made with another tokenizer than `tokenizer`.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError("There is no such folder", str(folder), "name a folder of tokens, or tokenize the corpus")
        if not (folder / MANIFEST).is_file():
            raise UserError("The tokens are not finished", str(folder), "tokenize the corpus again: it resumes")
        manifest = stored_facts(folder / MANIFEST, KIND)
        opened = cls(folder=folder, manifest=manifest)
        if tokenizer is not None and manifest["made_from"]["tokenizer"] != tokenizer.digest:
            raise UserError(
                "The tokens were made with another tokenizer",
                where=str(folder),
                fix=f"use the tokenizer they were made with, or tokenize again with that of {tokenizer.origin}",
            )
        if problem := opened.damage():
            raise UserError(problem, str(folder), "delete the folder and tokenize the corpus again")
        return opened

    @property
    def name(self) -> str:
        """Name of the source: its last part."""
        return str(self.manifest["name"])

    @property
    def documents(self) -> int:
        """Number of documents, K."""
        return int(self.manifest["documents"])

    @property
    def count(self) -> int:
        """Number of tokens, N."""
        return int(self.manifest["tokens"])

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the documents' texts."""
        return int(self.manifest["text_bytes"])

    @property
    def fingerprint(self) -> str:
        """Digest of the tokens and the index, 16 hexadecimal digits."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def tokens(self) -> Ids:
        """All tokens, (N,), memory-mapped."""
        return np.memmap(self.folder / TOKENS, self._dtype, mode="r")

    @cached_property
    def ends(self) -> Ends:
        """For each document the number of tokens up to its end, (K,), memory-mapped."""
        return np.memmap(self.folder / ENDS, "<u8", mode="r")

    def read(self, start: int, stop: int) -> Ids:
        """The tokens from `start` to `stop`, without mapping them: a random read keeps nothing in memory."""
        width = self._dtype.itemsize
        return np.frombuffer(os.pread(self._handle, (stop - start) * width, start * width), self._dtype)

    def document(self, number: int) -> Ids:
        """The tokens of one document, with BOS and EOS."""
        return self.tokens[int(self.ends[number - 1]) if number else 0 : int(self.ends[number])]

    def damage(self) -> str:
        """What is wrong with the files; empty if nothing is."""
        sizes = {TOKENS: self.count * self._dtype.itemsize, ENDS: self.documents * 8}
        for name, size in sizes.items():
            path = self.folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size:,} bytes; expected {size:,}"
            if sha256_of(path) != self.manifest["sha256"][name]:
                return f"{name} is damaged: its checksum is not that of the manifest"
        return ""

    @property
    def _dtype(self) -> "np.dtype[np.uint16 | np.uint32]":
        return np.dtype(str(self.manifest["dtype"]))

    @cached_property
    def _handle(self) -> int:
        handle = os.open(self.folder / TOKENS, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        return handle


def id_type(vocab_size: int) -> str:
    """The smallest type for the ids of a vocabulary, as NumPy names it."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"
