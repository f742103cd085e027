"""Which part of a rendered conversation is a response: from where the generation prompt ends.

A template may write text of its own into a response, such as an empty `<think>` block or the JSON around a tool call.
The model must write it at inference if the generation prompt does not hold it, so it belongs to the response. Both
renderings say who owns each letter, so the header of a response is what the template writes between the last text
before it and its own first text, in the conversation and in the prompt alike.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os.path import commonprefix

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import TEMPLATE
from mlx_suite.text.pieces import Piece


def with_whole_responses(
    pieces: Sequence[Piece], responses: Iterable[int], prompt: Callable[[int], Sequence[Piece]]
) -> list[Piece]:
    """The pieces, in which each of `responses` owns what it must write, up to its last own letter.

    `prompt` renders the conversation before a response, with the generation prompt. Responses of which nothing is
    written are skipped.
    """
    pieces = list(pieces)
    for response in responses:
        places = [place for place, piece in enumerate(pieces) if piece.owner == response and piece.text]
        if not places:
            continue
        first, last = places[0], places[-1]
        pieces[first : last + 1] = [_taken(piece, response) for piece in pieces[first : last + 1]]
        if first and pieces[first - 1].owner == TEMPLATE:
            gap = pieces[first - 1]
            header = _header(prompt, response, gap.text)
            rest = replace(gap, text=gap.text[len(header) :], owner=response, trusted=True)
            pieces[first - 1 : first] = [replace(gap, text=header), rest]
    return [piece for piece in pieces if piece.text]


def _taken(piece: Piece, response: int) -> Piece:
    """A piece inside a response: what the template writes there is a part of it."""
    return replace(piece, owner=response, trusted=True) if piece.owner == TEMPLATE else piece


def _header(prompt: Callable[[int], Sequence[Piece]], response: int, gap: str) -> str:
    """The part of the gap before a response that the generation prompt holds; all of it without such a prompt."""
    try:
        before = prompt(response)
    except UserError:
        # Templates that end with a generation prompt only after certain turns refuse others.
        return gap
    end = before[-1] if before else None
    return commonprefix([gap, end.text]) if end is not None and end.owner == TEMPLATE else ""
