"""Mutations of JSON values, of JSON files and of bytes; each is a function of a random generator."""

import copy
import json
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    10**12,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "text",
    "\ud800",
    "7",
    "x" * 1000,
    [],
    [[]],
    [None],
    ["text", 1],
    {},
    {"content": 3},
    {"name": None},
)
"""Values that a key may have by mistake."""


def mutated_json(random: Random, value: Any) -> bytes:
    """A JSON file with a few keys or items changed, mostly one, or a few of its bytes."""
    changed = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        changed = _changed(random, changed)
    text = json.dumps(changed).encode()
    return mutated_bytes(random, text) if random.random() < 0.15 else text


def _changed(random: Random, value: Any) -> Any:
    """The value, or one inside it, with a key dropped, renamed or added, or replaced by an odd one."""
    if random.random() < 0.03 or not isinstance(value, dict | list) or not value:
        return copy.deepcopy(random.choice(ODD))
    if isinstance(value, list):
        at = random.randrange(len(value))
        value[at] = _changed(random, value[at])
        return value
    key = random.choice(list(value))
    how = random.randrange(5)
    if how == 0:
        del value[key]
    elif how == 1:
        value[key + random.choice(("s", "_", "x"))] = value.pop(key)
    elif how == 2:
        value[key] = copy.deepcopy(random.choice(ODD))
    else:
        value[key] = _changed(random, value[key])
    return value


def mutated_bytes(random: Random, data: bytes) -> bytes:
    """The bytes with a few flipped, cut out, repeated, or cut off."""
    result = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if not result:
            break
        at = random.randrange(len(result))
        how = random.randrange(5)
        if how == 0:
            result[at] = random.randrange(256)
        elif how == 1:
            result[at] ^= 1 << random.randrange(8)
        elif how == 2:
            del result[at : at + random.randint(1, 20)]
        elif how == 3:
            result[at:at] = result[at : at + random.randint(1, 20)]
        elif random.random() < 0.3:
            del result[at:]
    return bytes(result)


def mutated_text(random: Random, text: str) -> bytes:
    """A text with words swapped, dropped or repeated, or with changed bytes."""
    if random.random() < 0.5:
        return mutated_bytes(random, text.encode())
    words = text.split(" ")
    for _ in range(random.randint(1, 3)):
        one, other = random.randrange(len(words)), random.randrange(len(words))
        words[one] = random.choice((words[other], "", words[one] + words[other], "{{", "%}"))
    return " ".join(words).encode()
