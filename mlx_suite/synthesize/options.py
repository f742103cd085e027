"""Options of a multiple-choice question in random order, with the answer rewritten to the label of its option.

Synthesizers favour the first and the third option; a pretrained model must not learn that.
"""

import re
from dataclasses import dataclass, replace
from random import Random

from mlx_suite.synthesize.format import Pair
from mlx_suite.synthesize.templates.choice import LabelStyle

NOT_AMONG_OPTIONS, TOO_FEW_OPTIONS = "answer not among the options", "fewer than two options"
"""Reasons to drop a pair."""
_LABEL = re.compile(r"\s*(?:\((?P<a>[A-Za-z]|\d{1,2})\)\s*|(?P<b>[A-Za-z]|\d{1,2})(?:\)\s*|[.:]\s+))(?=\S)")
_SEQUENCES = ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, kw_only=True)
class OptionStyle:
    """How options and the answer are written."""

    header: str
    """Line before the options; may be empty."""
    end: str
    """Line after the options; may be empty."""
    labels: LabelStyle
    names_item: bool
    """Whether the answer is the label with its option, instead of the label alone."""


@dataclass(frozen=True, kw_only=True)
class ShownOptions:
    """Options as a block of lines, and the answer that belongs to them."""

    block: str
    answer: str
    position: int
    """Place of the right option, from 0."""


def show_options(pair: Pair, style: OptionStyle, rng: Random) -> ShownOptions | str:
    """Shuffle and label the options of a pair; or the reason why the pair has to be dropped.

    Options that differ only in case, space or a final full stop are one option.
    """
    pair = without_labels(pair)
    different = {_key(option): option for option in reversed(pair.options)}
    if len(different) < 2:
        return TOO_FEW_OPTIONS
    right = _key(pair.answer)
    if right not in different:
        return NOT_AMONG_OPTIONS
    order = list(reversed(different))
    rng.shuffle(order)
    position = order.index(right)
    names = [_name(style.labels, place, len(order)) for place in range(len(order))]
    items = [f"{style.labels.item.format(name)} {different[key]}" for name, key in zip(names, order, strict=True)]
    answer = different[right]
    if style.labels.answer:
        answer = items[position] if style.names_item else style.labels.answer.format(names[position])
    block = "\n".join(line for line in (style.header, *items, style.end) if line)
    return ShownOptions(block=block, answer=answer, position=position)


def without_labels(pair: Pair) -> Pair:
    """The pair without labels such as `A)` or `2.` in its options, if they have them in order.

    An answer that is a label becomes the option.
    """
    matches = [_LABEL.match(option) for option in pair.options]
    names = [match["a"] or match["b"] for match in matches if match]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    if not names or len(names) < len(matches) or names not in [numbers, *(list(s[: len(names)]) for s in _SEQUENCES)]:
        return pair
    options = tuple(option[match.end() :].strip() for option, match in zip(pair.options, matches, strict=True) if match)
    by_answer = {_key(option): plain for option, plain in zip(pair.options, options, strict=True)}
    by_answer |= {name.casefold(): plain for name, plain in zip(names, options, strict=True)}
    label = _key(pair.answer.strip("()[] ").rstrip(":"))
    answer = by_answer.get(_key(pair.answer), by_answer.get(label, pair.answer))
    return replace(pair, options=options, answer=answer)


def _name(labels: LabelStyle, place: int, count: int) -> str:
    """Letter or number of an option; a number where there are more options than letters."""
    return labels.letters[place] if count <= len(labels.letters) else str(place + 1)


def _key(option: str) -> str:
    return " ".join(option.split()).rstrip(".").strip().casefold()
