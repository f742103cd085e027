"""Validation examples set aside from a dataset that comes without them."""

import hashlib
import json
from collections.abc import Sequence

from mlx_suite.data.example import Example

FEWEST = 20
"""Examples from which on one is set aside; of fewer none can be spared."""
MOST = 2000
"""Validation examples at most: more make every evaluation slower and the mean hardly steadier."""

Examples = tuple[Example, ...]


def split(examples: Sequence[Example], share: float, seed: int, most: int = MOST) -> tuple[Examples, Examples]:
    """Training and validation examples, both in their old order; about `share` of them for validation.

    Which ones follows from the seed and their texts alone, so examples that are added later leave most of the others
    on their side. Exact duplicates stay on one side.
    """
    assert 0 <= share < 1, share
    groups: dict[bytes, list[int]] = {}
    for place, example in enumerate(examples):
        groups.setdefault(_lot(example, seed), []).append(place)
    if len(examples) < FEWEST or share == 0 or len(groups) == 1:
        return tuple(examples), ()
    wanted = min(most, max(1, round(share * len(examples))))
    drawn: set[int] = set()
    for _, group in sorted(groups.items()):
        if len(drawn) + len(group) <= wanted:
            drawn.update(group)
    if not drawn:
        smallest = min(groups.values(), key=len)
        drawn.update(smallest)
    train = tuple(example for place, example in enumerate(examples) if place not in drawn)
    valid = tuple(example for place, example in enumerate(examples) if place in drawn)
    return train, valid


def content(example: Example) -> str:
    """What an example says, wherever it comes from, as one line of JSON."""
    turns = [[message.role, message.content] for message in example.messages]
    return json.dumps([turns, example.context, example.text])


def _lot(example: Example, seed: int) -> bytes:
    """Equal for equal examples, otherwise random."""
    return hashlib.sha256(f"{seed} {content(example)}".encode()).digest()
