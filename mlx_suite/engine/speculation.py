"""Speculative decoding for one program: guess the next tokens, check them in one pass, keep those that are right.

A token is a function of the logits and of the row's own random number at that position (`sampling.draw`). So the pass
computes which token plain decoding would sample after each guess, and a guess is kept if it is that token. Greedy and
sampled texts are therefore those of plain decoding, up to the rounding of logits; no rejection sampling is needed. For
certain guesses, such as prompt lookup's, the share kept is that of Leviathan et al. 2023 (arXiv 2211.17192).

Guesses come from text that repeats (prompt lookup) or from a smaller model with the same tokenizer.

Shapes: T guessed tokens, V vocabulary.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import mlx.core as mx

from mlx_suite.engine.prefill import CHUNK
from mlx_suite.engine.prefix_cache import shared_prefix
from mlx_suite.engine.program import Sample, Sampling
from mlx_suite.engine.sequence import SequenceState
from mlx_suite.engine.slots import SlotDraft, SlotRows, slot_caches
from mlx_suite.engine.step import Feed, Stepper
from mlx_suite.modeling.head import vocabulary_size
from mlx_suite.modeling.rope import BY_LENGTH

if TYPE_CHECKING:
    from mlx_suite.engine.engine import Engine

NGRAM = 3
"""Tokens that must repeat before prompt lookup guesses what follows them."""
CANDIDATES = 16
"""Latest occurrences of an n-gram among which prompt lookup chooses."""
LONGEST_MATCH = 32
"""Tokens before an occurrence that are compared."""
FIRST_GUESS, LONGEST_GUESS = 4, 15
"""Tokens guessed at first, and at most. With the known token 16 rows, which one product reads the weights once for."""
LONGEST_PAUSE = 256
"""Most tokens without a guess after checks that took longer than plain steps would have."""
STEPS_TIMED = 9
"""Plain steps whose median duration is compared with a check's."""


class Guesser(Protocol):
    """Where guesses come from."""

    def guess(self, state: SequenceState, length: int) -> list[int]:
        """Up to `length` tokens that may follow the program's sequence; empty without a guess."""
        ...


class PromptLookup:
    """Guesses that a text goes on as it did where most of its newest tokens occurred before."""

    def __init__(self) -> None:
        self._order = -1
        """The program that the index belongs to."""
        self._next: dict[tuple[int, ...], deque[int]] = {}
        """Indices of the tokens after the latest occurrences of each n-gram."""
        self._indexed = NGRAM
        """Indices below this are in `_next`."""

    def guess(self, state: SequenceState, length: int) -> list[int]:
        """`length` tokens as they followed the newest n-gram before; a text that repeats itself goes on so.

        Of several occurrences, the one counts before which most tokens are the same: a copied text often repeats
        sentences, and each goes on in its own way. Of equals the latest counts.
        """
        sequence = state.sequence
        if state.order != self._order or len(sequence) < self._indexed:
            self._order, self._next, self._indexed = state.order, {}, NGRAM
        for index in range(self._indexed, len(sequence)):
            key = tuple(sequence[index - NGRAM : index])
            self._next.setdefault(key, deque(maxlen=CANDIDATES)).append(index)
        self._indexed = max(self._indexed, len(sequence))
        candidates = self._next.get(tuple(sequence[-NGRAM:]))
        if candidates is None:
            return []
        found = max(candidates, key=lambda index: (_matching(sequence, index), index))
        period = len(sequence) - found
        return [sequence[found + place % period] for place in range(length)]


class DraftModel:
    """A smaller model with the same tokenizer: guesses what it would write with the same random numbers."""

    def __init__(self, model: Any) -> None:
        self.model, self.vocabulary = model, vocabulary_size(model)
        self.caches = slot_caches(model, slots=1)
        self.window = min((cache.window for cache in self.caches if cache.window is not None), default=None)
        self.stepper = Stepper(model, self.caches)
        self._held: list[int] = []
        """Tokens in the draft's KV cache."""
        self._drafts: list[SlotDraft] = []
        self._fed: list[int] = []
        """Guesses that were fed after `_held`; `_drafts` has their keys and values."""

    def guess(self, state: SequenceState, length: int) -> list[int]:
        """`length` tokens, fewer after one that ends the segment; none after a token that the draft model lacks."""
        sample = cast(Sample, state.active)
        position, logits = len(state.sequence), self._read(state.sequence)
        if logits is None:
            return []
        self._drafts = [SlotDraft(cache, 0, position) for cache in self.caches]
        guessed: list[int] = []
        while True:
            feed = Feed(
                token=None,
                position=position - 1 + len(guessed),
                seed=state.request.seed + (sample.salt << 48),
                sampling=_within(sample.sampling, self.vocabulary),
                first=position + len(guessed) == state.start,
            )
            [token] = cast(list[int], self.stepper.sample_each(logits, [feed]).tokens.tolist())
            guessed.append(token)
            if len(guessed) == length or token in sample.stop:
                return guessed
            logits = self.model(mx.array([[token]]), cache=self._drafts)[:, -1]
            self._fed.append(token)

    def _read(self, sequence: Sequence[int]) -> mx.array | None:
        """Feed what the caches do not hold of a sequence; returns the logits (1, V) after its last token.

        None if the draft model lacks one of its tokens.
        """
        for cache in self.caches:
            cache.reserve(len(sequence))
        kept = min(shared_prefix(self._held, sequence), len(sequence) - 1)
        if kept == len(self._held):
            right = shared_prefix(self._fed, sequence[kept:-1])
            for draft in self._drafts if right else ():
                draft.store(right)
            kept += right
            self._held = list(sequence[:kept])
        self._drafts, self._fed = [], []
        if max(sequence[kept:]) >= self.vocabulary:
            return None
        if kept < len(self._held) and self.window is not None and len(self._held) > self.window:
            kept = 0  # a ring buffer has overwritten what came before
        while kept < len(sequence):
            chunk = sequence[kept : kept + CHUNK]
            rows = [SlotRows(cache, [0], [len(chunk)], kept) for cache in self.caches]
            logits: mx.array = self.model(mx.array([chunk]), cache=rows)[:, -1]
            mx.eval(logits, [cache.state for cache in self.caches])
            kept += len(chunk)
        self._held = list(sequence)
        return logits


class Speculation:
    """Guesses for the only running program of an engine, and how many at a time."""

    def __init__(self, guesser: Guesser, clock: Callable[[], float] = time.perf_counter) -> None:
        self.guesser, self.clock = guesser, clock
        self.length = FIRST_GUESS
        """Tokens to guess next."""
        self.guessed = self.kept = 0
        """Tokens guessed, and those of them that were right."""
        self._steps: deque[float] = deque(maxlen=STEPS_TIMED)
        """Seconds of the latest plain steps."""
        self._pause = 1
        """Tokens without a guess after the last check that did not pay."""
        self._pause_until = 0
        """Length of the sequence from which guesses are made again."""
        self._order = -1

    def guesses(self, state: SequenceState, in_flight: bool = False) -> list[int]:
        """Tokens that may follow the sequence, within the segment's limit; empty if none are worth checking.

        `in_flight`: a step already computes the first of them, so one more is guessed.
        """
        sample = state.active
        if not isinstance(sample, Sample) or sample.sampling.penalises or sample.constraint is not None:
            return []
        if state.order != self._order:
            self._order, self.length, self._pause, self._pause_until = state.order, FIRST_GUESS, 1, 0
        if len(state.sequence) < self._pause_until:
            return []
        room = min(state.start + sample.limit, state.context) - len(state.sequence)
        return self.guesser.guess(state, min(self.length + in_flight, room - 1)) if room > 1 else []

    def stepped(self, seconds: float) -> None:
        """Note the duration of a plain step."""
        self._steps.append(seconds)

    def checked(self, length: int, guessed: int, kept: int, seconds: float) -> None:
        """Guess more, fewer, or nothing for a while, after a check of guesses; `length`: of the sequence now.

        A check pays if its tokens would have taken longer one by one. That depends on the model and the machine, so it
        is measured; it changes the speed only, never the text.
        """
        self.guessed += guessed
        self.kept += kept
        if kept == guessed:
            self.length = min(2 * self.length, LONGEST_GUESS)
        else:
            self.length = max(kept, 1)
        one_by_one = statistics.median(self._steps) * (kept + 1) if self._steps else seconds
        if seconds <= one_by_one:
            self._pause = 1
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._pause_until = length + self._pause


def _matching(sequence: Sequence[int], index: int) -> int:
    """How many tokens before `index` are the last tokens of the sequence, at most `LONGEST_MATCH`."""
    end = len(sequence)
    for count in range(min(index, LONGEST_MATCH)):
        if sequence[index - 1 - count] != sequence[end - 1 - count]:
            return count
    return min(index, LONGEST_MATCH)


def guesses_for(engine: "Engine") -> tuple[int, list[int]] | None:
    """The slot of the only running program and tokens that may follow its sequence, if they are worth checking.

    The sequence lacks the token of a step in flight: the first guess is then for that token.
    """
    running = [slot for slot, state in enumerate(engine.states) if state is not None]
    if engine.speculation is None or len(running) != 1 or _rotates_by_length(engine.model):
        return None
    state = cast(SequenceState, engine.states[running[0]])
    in_flight = engine.flight is not None
    if not state.decodes or len(state.pending) != (0 if in_flight else 1):
        return None
    found = engine.speculation.guesses(state, in_flight)
    vocabulary = vocabulary_size(engine.model)
    known = next((place for place, token in enumerate(found) if token >= vocabulary), len(found))
    return (running[0], found[:known]) if known > in_flight else None


def check(engine: "Engine", slot: int, guesses: Sequence[int]) -> None:
    """Feed the newest token and the guesses in one pass; send the program the tokens that plain decoding samples."""
    speculation = engine.speculation
    assert speculation is not None
    began = speculation.clock()
    state = cast(SequenceState, engine.states[slot])
    sample = cast(Sample, state.active)
    position, segment = state.fed, state.segment
    fed = [*state.pending, *guesses]
    engine.reserve(position + len(fed))
    drafts = [SlotDraft(cache, slot, position) for cache in engine.caches]
    logits: mx.array = engine.model(mx.array([fed]), cache=drafts)[0]  # (1 + T, V)
    feeds = [
        Feed(
            token=token,
            position=position + place,
            seed=state.request.seed + (sample.salt << 48),
            sampling=sample.sampling,
            first=position + place + 1 == state.start,
            alternatives=sample.alternatives,
        )
        for place, token in enumerate(fed)
    ]
    sampled = engine.stepper.sample_each(logits, feeds)
    tokens = cast(list[int], sampled.tokens.tolist())
    kept = next((place for place, guess in enumerate(guesses) if tokens[place] != guess), len(guesses))
    stored = 0
    for token, score in zip(tokens[: kept + 1], sampled.scores_of_slots(), strict=False):
        stored += 1
        state.fed = position + stored  # as after a decode step
        engine.stats.sampled += 1
        state.wrote(token, score)
        if state.segment != segment:
            break
    for draft in drafts:
        draft.store(stored)
    mx.eval([cache.state for cache in engine.caches])
    engine.stats.steps += 1
    engine.stats.slot_steps += len(engine.states)
    speculation.checked(len(state.sequence), len(guesses), kept, speculation.clock() - began)


def _rotates_by_length(model: Any) -> bool:
    """Whether RoPE depends on the length of the sequence: tokens fed together would differ from tokens fed singly."""
    rope = getattr(getattr(model, "config", None), "rope", None)
    return getattr(rope, "kind", None) in BY_LENGTH


def _within(sampling: Sampling, vocabulary: int) -> Sampling:
    """The settings without ids that a smaller vocabulary lacks."""
    return replace(
        sampling,
        banned=tuple(token for token in sampling.banned if token < vocabulary),
        banned_first=tuple(token for token in sampling.banned_first if token < vocabulary),
        logit_bias=tuple(pair for pair in sampling.logit_bias if pair[0] < vocabulary),
    )
