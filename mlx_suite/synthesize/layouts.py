"""Pretraining texts from texts and their pairs (arXiv 2406.14491, section 2.2), in five layouts.

classic      the text, then one pair after the other
dialogue     the pairs are turns of two speakers
numbered     the pairs have numbers; perhaps all answers follow after all questions
few-shot     the earlier pairs are examples for the last one
next turn    a dialogue, and a request for its last turn

In a share of the texts the pairs come first (pre-instruction-tuning, arXiv 2402.12847). The texts themselves are never
changed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlx_suite.synthesize.format import BLANK, Example, Pair
from mlx_suite.synthesize.options import ShownOptions, show_options
from mlx_suite.synthesize.patterns import PatternSet, Streams, draw_patterns

Layout = Literal["raw", "classic", "dialogue", "numbered", "few-shot", "next turn", "rewrite"]
INVERTED = 0.05
"""Default share of chains whose pairs come before the text."""
ONE_PAIR_SHARES: Mapping[Layout, float] = {"classic": 0.95, "dialogue": 0.05}
"""Share of each layout among texts with one pair."""
SHARES: Mapping[Layout, float] = {
    "classic": 0.8,
    "numbered": 0.05,
    "few-shot": 0.05,
    "next turn": 0.05,
    "dialogue": 0.05,
}
"""Share of each layout among texts with two or more pairs. `dialogue` is last in both, so that a chain that draws it
for one text draws it for all."""


@dataclass(frozen=True, kw_only=True)
class PretrainingText:
    """A text to pretrain on, and what it is made of."""

    text: str
    layouts: tuple[Layout, ...]
    """Layout of each example."""
    pairs: int
    """Number of pairs in the text."""
    dropped: Counter[str]
    """Dropped pairs by reason."""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """A pair with its options in their final order and labelled."""

    pair: Pair
    options: str
    answer: str

    def asked(self, patterns: PatternSet) -> str:
        """The question, options and the request for reasoning."""
        request = f" {patterns.request}" if self.pair.reasoning else ""
        return f"{self.pair.question}{request}" + (f"\n{self.options}" if self.options else "")

    def answered(self, patterns: PatternSet) -> str:
        """The answer, with its reasoning."""
        if not self.pair.reasoning:
            return self.answer
        return patterns.conclusion.format(reasoning=self.pair.reasoning, answer=self.answer)

    def classic(self, patterns: PatternSet) -> str:
        wording = patterns.pairs[self.pair.kind]
        slots = {"question": self.pair.question, "answer": self.answer}
        return wording.format(**slots, options=self.options, reasoning=self.pair.reasoning)


def pretraining_text(examples: Sequence[Example], *, seed: int, number: int, inverted: float = INVERTED) -> str:
    """The pretraining text of a chain of examples, which share their wordings.

    An example without pairs becomes its raw text. The same arguments give the same text.

    Args:
        seed: Seed of the corpus.
        number: Number of the chain in the corpus.
        inverted: Share of chains with pairs before the text; 1 gives the order of pre-instruction-tuning.
    """
    return lay_out(examples, seed=seed, number=number, inverted=inverted).text


def lay_out(examples: Sequence[Example], *, seed: int, number: int, inverted: float = INVERTED) -> PretrainingText:
    """`pretraining_text`, with the number of pairs and the reasons for which others were dropped."""
    streams = Streams(seed=seed, number=number)
    patterns = draw_patterns(streams, inverted=inverted)
    dropped: Counter[str] = Counter()
    shown = [_show(example, place, patterns, streams, dropped) for place, example in enumerate(examples)]
    layouts = tuple(_layout(example, len(pairs), patterns) for example, pairs in zip(examples, shown, strict=True))
    texts = [
        _example_text(example, pairs, layout, patterns)
        for example, pairs, layout in zip(examples, shown, layouts, strict=True)
    ]
    return PretrainingText(
        text=patterns.separator.join(texts), layouts=layouts, pairs=sum(map(len, shown)), dropped=dropped
    )


def text_alone(examples: Sequence[Example], *, seed: int, number: int) -> str:
    """The texts of a chain without their pairs, between the same separators as in `pretraining_text`."""
    patterns = draw_patterns(Streams(seed=seed, number=number), inverted=0)
    return patterns.separator.join(example.text for example in examples)


def pairs_alone(examples: Sequence[Example], *, seed: int, number: int) -> str:
    """The pairs of a chain without their texts, in wordings that do not mention a text; empty if there are none."""
    streams = Streams(seed=seed, number=number)
    patterns = draw_patterns(streams, inverted=0, with_text=False)
    dropped: Counter[str] = Counter()
    texts = []
    for place, example in enumerate(examples):
        if pairs := _show(example, place, patterns, streams, dropped):
            texts.append(_pairs_text(pairs, choose_layout(patterns.layout, len(pairs)), patterns))
        elif example.rewrite is not None:
            texts.append(example.rewrite.text)
    return patterns.separator.join(texts)


def choose_layout(position: float, pairs: int) -> Layout:
    """The layout at `position`, from 0 to 1, of the distribution for a text with this number of pairs."""
    shares = SHARES if pairs >= 2 else ONE_PAIR_SHARES
    total = 0.0
    for layout, share in shares.items():
        total += share
        if position < total:
            return layout
    return "dialogue"


def _layout(example: Example, pairs: int, patterns: PatternSet) -> Layout:
    if example.rewrite is not None:
        return "rewrite"
    return choose_layout(patterns.layout, pairs) if pairs else "raw"


def _show(example: Example, place: int, patterns: PatternSet, streams: Streams, dropped: Counter[str]) -> list[_Shown]:
    """The pairs of an example with shuffled options. Counts those that have to be dropped."""
    found = []
    for number, pair in enumerate(example.pairs):
        if not pair.options:
            found.append(_Shown(pair=pair, options="", answer=pair.answer))
            continue
        shown = show_options(pair, patterns.options, streams.rng("shuffle", place, number))
        if isinstance(shown, ShownOptions):
            found.append(_Shown(pair=pair, options=shown.block, answer=shown.answer))
        else:
            dropped[shown] += 1
    return found


def _example_text(example: Example, pairs: Sequence[_Shown], layout: Layout, patterns: PatternSet) -> str:
    if layout == "raw":
        return example.text
    if example.rewrite is not None:
        parts = [example.text, patterns.rewrite_start, example.rewrite.text]
        return _joined(*(reversed(parts) if patterns.is_inverted else parts))
    text = patterns.text.format(text=example.text)
    start = patterns.pairs_start if layout == "classic" else ""
    written = _pairs_text(pairs, layout, patterns)
    return _joined(start, written, text) if patterns.is_inverted else _joined(text, start, written)


def _pairs_text(pairs: Sequence[_Shown], layout: Layout, patterns: PatternSet) -> str:
    return _WRITERS[layout](pairs, patterns)


def _classic(pairs: Sequence[_Shown], patterns: PatternSet) -> str:
    return patterns.pair_gap.join(shown.classic(patterns) for shown in pairs)


def _dialogue(pairs: Sequence[_Shown], patterns: PatternSet) -> str:
    return _lines(patterns.dialogue_start, *(turn for shown in pairs for turn in _turns(shown, patterns)))


def _turns(shown: _Shown, patterns: PatternSet) -> tuple[str, str]:
    asking, answering = patterns.speakers
    return (
        patterns.turn.format(name=asking, turn=shown.asked(patterns)),
        patterns.turn.format(name=answering, turn=shown.answered(patterns)),
    )


def _numbered(pairs: Sequence[_Shown], patterns: PatternSet) -> str:
    style = patterns.numbered
    asked = [style.question.format(n=n, question=shown.asked(patterns)) for n, shown in enumerate(pairs, 1)]
    answered = [style.answer.format(n=n, answer=shown.answered(patterns)) for n, shown in enumerate(pairs, 1)]
    if style.apart:
        return BLANK.join([_lines(*asked), _lines(style.answers_start, *answered)])
    return patterns.pair_gap.join(_lines(*both) for both in zip(asked, answered, strict=True))


def _few_shot(pairs: Sequence[_Shown], patterns: PatternSet) -> str:
    style = patterns.few_shot

    def written(shown: _Shown, wording: str) -> str:
        return wording.format(question=shown.asked(patterns), answer=shown.answered(patterns))

    *earlier, last = pairs
    examples = patterns.pair_gap.join(written(shown, style.example) for shown in earlier)
    return _joined(_lines(style.start, examples), _lines(style.task_start, written(last, style.task)))


def _next_turn(pairs: Sequence[_Shown], patterns: PatternSet) -> str:
    *turns, last = (turn for shown in pairs for turn in _turns(shown, patterns))
    return _lines(patterns.next_turn.start, *turns, patterns.next_turn.request, last)


_WRITERS: Mapping[Layout, Callable[[Sequence[_Shown], PatternSet], str]] = {
    "classic": _classic,
    "dialogue": _dialogue,
    "numbered": _numbered,
    "few-shot": _few_shot,
    "next turn": _next_turn,
}


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _joined(*blocks: str) -> str:
    return BLANK.join(block for block in blocks if block)
