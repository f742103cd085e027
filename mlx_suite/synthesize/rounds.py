"""M-shot rounds (arXiv 2406.14491, section 2.2): a prompt begins with earlier texts and what was written from them.

N texts are split into M blocks of ceil(N / M). In round r the texts of block r are read, and text i of the block is
prompted after the chain of the texts i of the earlier blocks. A chain breaks after a text from which nothing valid was
written, and where prompt and completion would exceed the context, by their real tokens; the next text then begins a new
one. If M does not divide N, the last block is shorter and the surplus chains end a round earlier.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlx_suite.synthesize.format import Example

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Token ids of a prompt."""

    ids: tuple[int, ...]
    shots: int
    """Examples before the text."""


@dataclass(frozen=True, kw_only=True)
class ChainItem(Generic[T]):
    """A text of a chain, with the number of examples that its prompt showed."""

    value: T
    shots: int
    is_empty: bool
    """Whether nothing valid was written from it."""


def plan_chains(count: int, rounds: int) -> list[tuple[int, ...]]:
    """Indices of the texts of each chain, in the order of the rounds; every index below `count` occurs once."""
    assert rounds > 0, "at least one round"
    block = -(-count // rounds)
    return [tuple(range(first, count, block)) for first in range(block)]


def fit_prompt(
    chain: Sequence[Example], encode: Callable[[Sequence[Example]], Sequence[int]], room: int
) -> Prompt | None:
    """The prompt after all of `chain`, or after none of it if that has more than `room` tokens; None if both have.

    Args:
        encode: Encodes the prompt after some examples.
        room: Maximum tokens of a prompt, so that the longest completion still fits into the context.
    """
    for examples in [chain] if not chain else [chain, ()]:
        ids = tuple(encode(examples))
        if len(ids) <= room:
            return Prompt(ids=ids, shots=len(examples))
    return None


def split_chain(items: Iterable[ChainItem[T]]) -> list[list[T]]:
    """The documents of a chain: texts that were prompted after one another stay together.

    A text from which nothing was written is a document of its own, whatever its prompt was.
    """
    documents: list[list[T]] = []
    continues = False
    for item in items:
        if item.shots and continues and not item.is_empty:
            documents[-1].append(item.value)
        else:
            documents.append([item.value])
        continues = not item.is_empty
    return documents
