"""Two tokenizations of one text: spans that begin and end at the same place, and tokens that both vocabularies have.

student   "mar" "vel" "lous" " day"
teacher   "marvel"    "lous" " d" "ay"
spans     [0,1]–[0]   [2]–[1]  [3]–[2,3]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.rows import Document
from mlx_suite.text import Tokenizer

END = b"\xff<end>"
"""Stands for the special token that ends a response; no text contains the byte."""
Span = tuple[tuple[int, ...], tuple[int, ...]]
"""Places of the student's and of the teacher's tokens."""


def align(ours: Sequence[bytes], theirs: Sequence[bytes]) -> list[Span] | None:
    """Group two tokenizations into the smallest spans of equal text; None if the texts differ.

    A space before the first word, which SentencePiece adds, is no difference.
    """
    one, other = b"".join(ours), b"".join(theirs)
    if one != other:
        if one == b" " + other:
            return align([ours[0][1:], *ours[1:]], theirs)
        if other == b" " + one:
            return align(ours, [theirs[0][1:], *theirs[1:]])
        return None
    spans: list[Span] = []
    left: list[int] = []
    right: list[int] = []
    at_left = at_right = next_right = 0
    for place, piece in enumerate(ours):
        left.append(place)
        at_left += len(piece)
        while at_right < at_left and next_right < len(theirs):
            right.append(next_right)
            at_right += len(theirs[next_right])
            next_right += 1
        if at_left == at_right and right:
            spans.append((tuple(left), tuple(right)))
            left, right = [], []
    return spans


def token_text(tokenizer: Tokenizer, token: int) -> bytes:
    """The bytes of a token; END for a special one."""
    if token in tokenizer.special_ids or token in tokenizer.stop_ids:
        return END
    if tokenizer.backend.token_bytes is None:
        return tokenizer.decode([token]).encode()
    return tokenizer.bytes_of(token)


def aligned_targets(student: Document, teacher: Document, tokenizers: tuple[Tokenizer, Tokenizer]) -> list[Span] | None:
    """Spans of the trained tokens of two encodings of one conversation, as numbers of trained tokens on both sides.

    None if a response differs in the two: a template rewrote it.
    """
    runs = [_runs(document) for document in (student, teacher)]
    if len(runs[0]) != len(runs[1]):
        return None
    found: list[Span] = []
    firsts = [0, 0]
    for pair in zip(*runs, strict=True):
        texts = [
            [token_text(tokenizer, int(document.tokens[at])) for at in run]
            for tokenizer, document, run in zip(tokenizers, (student, teacher), pair, strict=True)
        ]
        spans = align(*texts)
        if spans is None:
            return None
        found += [
            (tuple(firsts[0] + at for at in ours), tuple(firsts[1] + at for at in theirs)) for ours, theirs in spans
        ]
        firsts = [first + len(run) for first, run in zip(firsts, pair, strict=True)]
    return found


@dataclass(frozen=True, kw_only=True)
class SharedVocabulary:
    """Ids of the tokens that both vocabularies have, and of those that only one has."""

    student: npt.NDArray[np.int32]
    """(K,) ids of the shared tokens in the student's vocabulary."""
    teacher: npt.NDArray[np.int32]
    """(K,) ids of the same tokens in the teacher's."""
    only_student: npt.NDArray[np.int32]
    only_teacher: npt.NDArray[np.int32]


def shared_vocabulary(
    student: Tokenizer, teacher: Tokenizer, rows: tuple[int, int], ends: tuple[int, int]
) -> SharedVocabulary:
    """Match tokens by their bytes, and the tokens `ends` that end a response on each side.

    `rows` are the rows of the two embeddings; rows without a token are in neither list.
    """
    ours, theirs = _by_text(student, rows[0]), _by_text(teacher, rows[1])
    shared = [(ours[text], theirs[text]) for text in ours if text in theirs] + [ends]
    mine, others = (np.array(sorted({pair[side] for pair in shared}), np.int32) for side in (0, 1))
    pairs = np.array(sorted(dict(shared).items()), np.int32)
    return SharedVocabulary(
        student=pairs[:, 0],
        teacher=pairs[:, 1],
        only_student=np.setdiff1d(np.fromiter(ours.values(), np.int32), mine),
        only_teacher=np.setdiff1d(np.fromiter(theirs.values(), np.int32), others),
    )


def _by_text(tokenizer: Tokenizer, rows: int) -> Mapping[bytes, int]:
    """Ordinary tokens by their bytes; of several with the same bytes, the first."""
    found: dict[bytes, int] = {}
    for token in range(min(rows, tokenizer.vocab_size)):
        text = token_text(tokenizer, token)
        if text not in (b"", END):
            found.setdefault(text, token)
    return found


def _runs(document: Document) -> list[list[int]]:
    """Places of each run of trained tokens."""
    runs: list[list[int]] = []
    for at, weight in enumerate(document.weights):
        if at and weight > 0:
            if runs and runs[-1][-1] == at - 1:
                runs[-1].append(at)
            else:
                runs.append([at])
    return runs
