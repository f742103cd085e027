"""Length limit: what happens to documents that are too long. Everything cut or dropped is counted.

error      raise an error that lists them
drop       drop the document
truncate   cut it, and end it with the stop token
split      split it into several documents; each trained token is trained once
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.read.records import Problem
from mlx_suite.runtime.errors import UserError, shortened

ERROR, DROP, TRUNCATE, SPLIT = "error", "drop", "truncate", "split"
POLICIES = (ERROR, DROP, TRUNCATE, SPLIT)
CONTEXT = 4
"""All but the first piece of a split document begin with untrained context: 1 / CONTEXT of the length."""


@dataclass(frozen=True, kw_only=True)
class LengthCounts:
    """Number of documents that were too long, by what was done with them."""

    dropped: int = 0
    """Documents dropped; with `truncate`, those in which no trained token would remain."""
    truncated: int = 0
    split: int = 0
    pieces: int = 0
    """Documents produced by splitting."""

    def __add__(self, other: "LengthCounts") -> "LengthCounts":
        return LengthCounts(
            dropped=self.dropped + other.dropped,
            truncated=self.truncated + other.truncated,
            split=self.split + other.split,
            pieces=self.pieces + other.pieces,
        )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Documents within the length limit."""

    documents: Sequence[Document]
    """Documents in the original order."""
    counts: LengthCounts
    too_long: tuple[Problem, ...] = ()
    """Documents that were too long, with their lengths."""


def fit(documents: Sequence[Document], max_length: int, policy: str, bos_id: int | None = None) -> Fitted:
    """Apply `policy` to documents of more than `max_length` tokens.

    `truncate`: if the cut falls in a response, the last token that fits is replaced by the document's last trained
    token, a stop token; otherwise the document ends with the previous response. A document in which nothing trained
    would remain is dropped and counted.

    `split`: every token is trained once. All pieces but the first begin with BOS, if the document does (`bos_id`), and
    the `max_length` / 4 tokens before the first that the piece trains. Only the last piece ends with the stop token,
    because only there the response ends.

    Raises UserError with the policy `error`; it lists the first twenty documents with their lengths.
    """
    assert policy in POLICIES, policy
    assert max_length >= 2 * CONTEXT, max_length
    too_long = [document for document in documents if len(document) > max_length]
    if not too_long:
        return Fitted(documents=documents, counts=LengthCounts())
    named = tuple(Problem(document.place, f"{len(document):,} tokens") for document in too_long)
    if policy == ERROR:
        raise _refusal(named, max(map(len, too_long)), max_length)
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
    """The beginning of a document, ending with a stop token; None if nothing trained would remain."""
    weights = document.weights
    tokens, kept = list(document.tokens[:length]), list(weights[:length])
    # A stop token alone would teach the model to say nothing, so at least one other token of the response must fit.
    if weights[length - 2] and weights[length - 1] and weights[length]:
        end = _last_trained(weights)
        tokens[-1], kept[-1] = document.tokens[end], weights[end]
        return Document(tokens, kept, document.place)
    # A response of which only the first token fits is dropped with its instruction.
    whole = length - 1 if weights[length - 1] and weights[length] else length
    end = _last_trained(weights[:whole])
    return Document(tokens[: end + 1], kept[: end + 1], document.place) if end > 0 else None


def _last_trained(weights: Sequence[float]) -> int:
    """Index of the last trained token; 0 if there is none, since the first token is never trained."""
    return next((place for place in range(len(weights) - 1, 0, -1) if weights[place]), 0)


def _pieces(document: Document, length: int, bos_id: int | None) -> list[Document]:
    """Overlapping pieces of a document; each trained token has a weight in exactly one of them."""
    tokens, weights = document.tokens, document.weights
    head = [tokens[0]] if bos_id is not None and tokens[0] == bos_id else []
    pieces: list[Document] = []
    done = 1
    while (first := next((place for place in range(done, len(weights)) if weights[place]), None)) is not None:
        begin = 0 if first < length and not pieces else max(first - length // CONTEXT, len(head))
        before = head if begin else []
        end = min(begin + length - len(before), len(tokens))
        counted = [*[0.0] * (first - begin), *weights[first:end]]
        # A piece ends with its last trained token.
        size = _last_trained([0.0, *counted])
        place = f"{document.place} part {len(pieces) + 1}".strip()
        pieces.append(
            Document([*before, *tokens[begin : begin + size]], [*[0.0] * len(before), *counted[:size]], place)
        )
        done = end
    return pieces


def _refusal(named: Sequence[Problem], longest: int, max_length: int) -> UserError:
    count = len(named)
    what = "One example is" if count == 1 else f"{count:,} examples are"
    return UserError(
        f"{what} longer than {max_length:,} tokens",
        where="--max-length",
        fix=f"set --max-length {longest}, or choose --too-long drop, truncate or split",
        details=shortened(named),
    )
