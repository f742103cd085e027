"""What becomes of documents that are too long: nothing is cut or left out without being counted.

error      refused by name
drop       left out
truncate   cut, and still ended by the token that ends an answer
split      several documents, in which each trained token is trained once
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.read.problems import Problem
from mlx_suite.runtime.errors import UserError, shortened

ERROR, DROP, TRUNCATE, SPLIT = "error", "drop", "truncate", "split"
POLICIES = (ERROR, DROP, TRUNCATE, SPLIT)
CONTEXT = 4
"""A later piece of a split document begins with a quarter of its length that is there to be read only."""


@dataclass(frozen=True, kw_only=True)
class LengthCounts:
    """How many documents were too long, by what became of them."""

    dropped: int = 0
    """Left out; with `truncate`, those of which nothing trained would be left."""
    truncated: int = 0
    """Cut."""
    split: int = 0
    """Made into several."""
    pieces: int = 0
    """Documents that those became."""

    def __add__(self, other: "LengthCounts") -> "LengthCounts":
        return LengthCounts(
            dropped=self.dropped + other.dropped,
            truncated=self.truncated + other.truncated,
            split=self.split + other.split,
            pieces=self.pieces + other.pieces,
        )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Documents of at most the length that was asked for."""

    documents: Sequence[Document]
    """In their old order."""
    counts: LengthCounts
    too_long: tuple[Problem, ...] = ()
    """Those that were too long, with their lengths."""


def fit(documents: Sequence[Document], max_length: int, policy: str, bos_id: int | None = None) -> Fitted:
    """Documents of at most `max_length` tokens.

    `truncate` cuts an answer in the middle and puts the document's last trained token, which ends an answer, in place
    of the last one that fits; where the cut falls into something untrained, the document ends with the answer before.
    What would have nothing to train on is dropped and counted.

    `split` trains every token once. The first piece begins as the document does. A later one begins with BOS, if the
    document does (`bos_id`), and the `max_length` / 4 tokens in front of what it trains; what is further back it does
    not see. Only the last piece ends with the stop token, for only there the answer ends.

    Raises UserError with `error`, which names the first twenty and their lengths.
    """
    assert policy in POLICIES, policy
    assert max_length >= 2 * CONTEXT, max_length
    long = [document for document in documents if len(document) > max_length]
    if not long:
        return Fitted(documents=documents, counts=LengthCounts())
    named = tuple(Problem(document.place, f"{len(document):,} tokens") for document in long)
    if policy == ERROR:
        raise _refusal(named, long, max_length)
    kept: list[Document] = []
    counts = LengthCounts()
    for document in documents:
        if len(document) <= max_length:
            kept.append(document)
        elif policy == SPLIT:
            pieces = _pieces(document, max_length, bos_id)
            kept += pieces
            counts += LengthCounts(split=1, pieces=len(pieces))
        elif policy == TRUNCATE and (cut := _truncated(document, max_length)) is not None:
            kept.append(cut)
            counts += LengthCounts(truncated=1)
        else:
            counts += LengthCounts(dropped=1)
    return Fitted(documents=tuple(kept), counts=counts, too_long=named)


def _truncated(document: Document, length: int) -> Document | None:
    """The beginning of a document, ended by a stop token; None if nothing trained would be left."""
    weights = document.weights
    tokens, kept = list(document.tokens[:length]), list(weights[:length])
    # An answer of the stop token alone would teach to say nothing: at least one token of it has to be left.
    if weights[length - 2] and weights[length - 1] and weights[length]:
        end = _last_trained(weights)
        tokens[-1], kept[-1] = document.tokens[end], weights[end]
        return Document(tokens, kept, document.place)
    # An answer of which only the first token fits is left out with its question.
    whole = length - 1 if weights[length - 1] and weights[length] else length
    end = _last_trained(weights[:whole])
    return Document(tokens[: end + 1], kept[: end + 1], document.place) if end > 0 else None


def _last_trained(weights: Sequence[float]) -> int:
    """The place of the last token that is trained; 0 for none, for the first never is."""
    return next((place for place in range(len(weights) - 1, 0, -1) if weights[place]), 0)


def _pieces(document: Document, length: int, bos_id: int | None) -> list[Document]:
    """Overlapping parts of a document; each trained token counts in one of them."""
    tokens, weights = document.tokens, document.weights
    head = [tokens[0]] if bos_id is not None and tokens[0] == bos_id else []
    pieces: list[Document] = []
    done = 1
    while (first := next((place for place in range(done, len(weights)) if weights[place]), None)) is not None:
        begin = 0 if first < length and not pieces else max(first - length // CONTEXT, len(head))
        before = head if begin else []
        end = min(begin + length - len(before), len(tokens))
        counted = [*[0.0] * (first - begin), *weights[first:end]]
        # Behind the last token that it trains a piece has nothing to say.
        size = _last_trained([0.0, *counted])
        place = f"{document.place} part {len(pieces) + 1}".strip()
        pieces.append(
            Document([*before, *tokens[begin : begin + size]], [*[0.0] * len(before), *counted[:size]], place)
        )
        done = end
    return pieces


def _refusal(named: Sequence[Problem], long: Sequence[Document], max_length: int) -> UserError:
    count, longest = len(long), max(map(len, long))
    what = "One example is" if count == 1 else f"{count:,} examples are"
    return UserError(
        f"{what} longer than {max_length:,} tokens",
        where="--max-length",
        fix=f"give --max-length {longest}, or say what becomes of them: --too-long drop, truncate or split",
        details=shortened(named),
    )
