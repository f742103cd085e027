"""Text that knows which message each of its letters comes from, and keeps knowing it while a template works on it.

A chat template trims, splits, joins, quotes and drops what people wrote. Contents enter it as `Traced` text; each of
its operations returns text whose letters still carry their owner. So the rendered conversation says of every letter
whether a message or the template wrote it, on the branch that the real contents take, and nothing is searched for.

Owners are letters too, so that slicing and joining them is as fast as slicing and joining text.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, SupportsIndex

from mlx_suite.text.pieces import TEMPLATE

_FIRST = 2
"""Owner k is the letter with code k + _FIRST."""
_TEMPLATE_LETTER = chr(TEMPLATE + _FIRST)
_RUN = re.compile(r"(.)\1*", re.DOTALL)
_DIRECTIVE = re.compile(r"%(?:\((?P<key>[^)]*)\))?[-#0 +]*(?P<stars>\*?(?:\d*)(?:\.(?:\*|\d+))?)[hlL]?[a-zA-Z%]")


class Traced(str):
    """A string in which each letter has an owner. Equal to, and hashed like, the same string without owners."""

    __slots__ = ("owners",)
    owners: str

    def __new__(cls, text: str, owners: str) -> "Traced":
        """`owners` has one letter for each of `text`; see `owned`."""
        made = super().__new__(cls, text)
        made.owners = owners
        return made

    def __str__(self) -> "Traced":
        return self

    def __add__(self, other: str) -> "Traced":
        return (
            Traced(str.__add__(self, other), self.owners + _owners(other)) if isinstance(other, str) else NotImplemented
        )

    def __radd__(self, other: str) -> "Traced":
        return (
            Traced(str.__add__(other, self), _owners(other) + self.owners) if isinstance(other, str) else NotImplemented
        )

    def __mul__(self, times: SupportsIndex) -> "Traced":
        return Traced(str.__mul__(self, times), self.owners * times)

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> str:
        return formatted(self, values)

    def __rmod__(self, pattern: Any) -> str:
        return formatted(pattern, self) if isinstance(pattern, str) else NotImplemented

    def __getitem__(self, key: SupportsIndex | slice) -> "Traced":
        return Traced(str.__getitem__(self, key), self.owners[key])

    def __iter__(self) -> Iterator["Traced"]:
        return (self[place] for place in range(len(self)))

    def lstrip(self, chars: str | None = None, /) -> "Traced":
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None, /) -> "Traced":
        return self[: len(str.rstrip(self, chars))]

    def strip(self, chars: str | None = None, /) -> "Traced":
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> "Traced":
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> "Traced":
        return self[: len(self) - len(suffix)] if suffix and self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._parts(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._parts(str.rsplit(self, sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        ends = [0]
        for line in str.splitlines(self, True):
            ends.append(ends[-1] + len(line))
        lines = zip(pairwise(ends), str.splitlines(self, keepends), strict=True)
        return [self[start : start + len(line)] for (start, _), line in lines]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        return self._around(str.find(self, sep), sep) or (self, "", "")

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        return self._around(str.rfind(self, sep), sep) or ("", "", self)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        return joined(self.split(old, count) if old else ["", *self, ""], new)

    def join(self, parts: Iterable[str], /) -> str:
        return joined(parts, self)

    def lower(self) -> str:
        return self._recased(str.lower)

    def upper(self) -> str:
        return self._recased(str.upper)

    def title(self) -> str:
        return self._recased(str.title)

    def capitalize(self) -> str:
        return self._recased(str.capitalize)

    def _recased(self, change: Callable[[str], str]) -> str:
        text = change(self)
        return Traced(text, self.owners) if len(text) == len(self) else attributed(text, self)

    def _parts(self, parts: Sequence[str], sep: str | None) -> list[str]:
        """The parts of a split, in order, each with its owners."""
        made: list[str] = []
        place = 0
        for part in parts:
            # Only whitespace lies between parts if there is no separator, and no part begins with whitespace then.
            start = str.find(self, part, place) if sep is None else place
            made.append(self[start : start + len(part)])
            place = start + len(part) + len(sep or "")
        return made

    def _around(self, place: int, sep: str) -> "tuple[str, str, str] | None":
        end = place + len(sep)
        return None if place < 0 else (self[:place], self[place:end], self[end:])


def owned(text: str, owner: int) -> Traced:
    """The text with one owner for all of it: the index of a message, TEMPLATE or DEFINITIONS."""
    return Traced(text, chr(owner + _FIRST) * len(text))


def own(value: Any, owner: int) -> Any:
    """A JSON value in which every text, keys included, has this owner."""
    if isinstance(value, str):
        return owned(value, owner)
    if isinstance(value, Mapping):
        return {own(key, owner): own(part, owner) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [own(part, owner) for part in value]
    return value


def runs(text: str) -> Iterator[tuple[str, int]]:
    """The text in order, in the longest parts that have one owner, with this owner."""
    for run in _RUN.finditer(_owners(text)):
        yield plain(text)[run.start() : run.end()], ord(run[1]) - _FIRST


def plain(text: str) -> str:
    """The string without owners."""
    return "".join((text,))


def joined(parts: Iterable[str], separator: str = "") -> str:
    """`separator.join(parts)` with owners, if any part has them."""
    parts = list(parts)
    if type(separator) is not Traced and not any(type(part) is Traced for part in parts):
        return separator.join(parts)
    return Traced(str.join(separator, parts), _owners(separator).join(map(_owners, parts)))


def formatted(pattern: str, values: Any) -> str:
    """`pattern % values` with owners: what a value becomes belongs to the owner of the value."""
    if not is_traced((pattern, values)):
        return str(pattern % values)
    whole = plain(pattern)
    directives = list(_DIRECTIVE.finditer(whole))
    if any("*" in match["stars"] for match in directives):
        return attributed(str.__mod__(whole, values), (pattern, values))
    rest = iter(values if isinstance(values, tuple) else (values,))
    parts: list[str] = []
    end = 0
    for match in directives:
        parts.append(pattern[end : match.start()])
        end = match.end()
        if match[0] == "%%":
            parts.append("%")
            continue
        value = values if match["key"] is not None else (next(rest),)
        parts.append(attributed(match[0] % value, values[match["key"]] if match["key"] is not None else value))
    return joined([*parts, pattern[end:]])


def attributed(text: str, sources: Any) -> str:
    """Text made of `sources` by an operation that keeps no owners: all of it belongs to the last message in them."""
    owner = max(_letters(sources), default="")
    return Traced(text, owner * len(text)) if owner and text else text


def is_traced(value: Any) -> bool:
    """Whether any text in a value has owners."""
    if type(value) is Traced:
        return True
    if isinstance(value, Mapping):
        return any(is_traced(key) or is_traced(part) for key, part in value.items())
    return isinstance(value, list | tuple) and any(map(is_traced, value))


def _letters(value: Any) -> Iterator[str]:
    """The owners of all texts in a value, as letters."""
    if type(value) is Traced:
        yield from set(value.owners)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _letters(key)
            yield from _letters(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _letters(part)


def _owners(text: str) -> str:
    return text.owners if type(text) is Traced else _TEMPLATE_LETTER * len(text)
