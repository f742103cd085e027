"""On-policy distillation (arXiv 2306.13649): the student writes the response of some rows, the teacher scores them.

What a row becomes is a function of (seed, step, row) and of the student's weights at that step, so a resumed run
samples the same responses. A response that is cut at the limit counts: every token of it is scored.

Shapes: B rows in a batch, L input positions, M trained targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_suite.data.batch.batches import EMPTY, Order, as_batch, shuffled
from mlx_suite.data.batch.rows import Document, as_rows, best_fit
from mlx_suite.engine.engine import Engine
from mlx_suite.engine.program import Given, Program, Request, Sample, Sampling, Written
from mlx_suite.transfer.distill.loss import SampledBatch
from mlx_suite.transfer.distill.settings import DistillSettings

SLOTS = 16
"""Maximum responses sampled at the same time."""
STEP = 64
"""Row lengths are multiples of this."""


@dataclass(frozen=True, kw_only=True)
class PromptedDocument:
    """A document, and the prompt of its last trained response."""

    document: Document
    prompt: int
    """Tokens before the response; 0 if the row has no prompt, so that it always keeps the data's response."""
    room: int
    """Maximum tokens of a sampled response."""

    @property
    def longest(self) -> int:
        """Tokens that the row may take."""
        return max(len(self.document), self.prompt + self.room if self.prompt else 0)

    @property
    def most_trained(self) -> int:
        """Targets that the row may have."""
        return max(self.document.trained, self.room if self.prompt else 0)

    def with_response(self, tokens: Sequence[int]) -> Document:
        """The row with another response, which alone is trained."""
        prompt = list(self.document.tokens[: self.prompt])
        return Document([*prompt, *tokens], [0.0] * self.prompt + [1.0] * len(tokens), place=self.document.place)


def prompted(document: Document, max_new_tokens: int, max_length: int) -> PromptedDocument:
    """Find the prompt of a document's last trained response. A row that begins with its response has none."""
    trained = [weight > 0 for weight in document.weights]
    end = max((at for at, is_trained in enumerate(trained) if is_trained), default=0)
    start = end
    while start > 0 and trained[start - 1]:
        start -= 1
    room = min(max_new_tokens, max_length - start)
    # After BOS alone there is nothing to respond to.
    return PromptedDocument(document=document, prompt=start if start > 1 and room > 0 else 0, room=max(room, 0))


@dataclass(frozen=True, kw_only=True)
class OnPolicyBatches:
    """Batches of rows that have room for the longest response of each document, so that shapes never change."""

    documents: tuple[PromptedDocument, ...]
    rows: tuple[tuple[int, ...], ...]
    """Numbers of the documents in each row."""
    length: int
    """Input positions L of a row."""
    size: int
    """Rows per batch, B."""
    packed: bool
    """False if each row is one document."""
    sampled: dict[int, Document] = field(default_factory=dict)
    """Documents with the student's response, by number, for the step at hand."""

    @property
    def per_epoch(self) -> int:
        return -(-len(self.rows) // self.size)

    def order(self, seed: int, epoch: int) -> list[Order]:
        return shuffled(len(self.rows), self.size, seed, epoch)

    def members(self, chosen: Order) -> list[int]:
        """Numbers of the documents in these rows."""
        return [number for row in chosen if row != EMPTY for number in self.rows[row]]

    def take(self, chosen: Order) -> SampledBatch:
        numbers = [self.rows[row] if row != EMPTY else () for row in chosen]
        length = self.length
        if not self.packed:
            longest = max((self.documents[each].longest for row in numbers for each in row), default=2)
            length = _rounded(longest - 1)
        rows = as_rows([[self._document(each) for each in row] for row in numbers], length)
        from_data = as_rows([[self._mark(each) for each in row] for row in numbers], length)
        most = self._most(chosen, length)
        batch = as_batch(rows.tokens, rows.document if self.packed else None, rows.target_weights, most)
        return SampledBatch(**vars(batch), from_data=from_data.target_weights.reshape(-1)[batch.index])

    def _document(self, number: int) -> Document:
        return self.sampled.get(number, self.documents[number].document)

    def _mark(self, number: int) -> Document:
        """The document with a weight of 1 if its response is the data's, and of 0 if the student's."""
        document = self._document(number)
        return Document(document.tokens, [0.0 if number in self.sampled else 1.0] * len(document))

    def _most(self, chosen: Order, length: int) -> int:
        """The most targets that these rows, or packed rows any batch of as many, can have."""
        if self.packed:
            return _rounded(sum(self._trained_by_row[: len(chosen)]))
        # Rounded to quarters of the batch: at most four shapes per length.
        most = sum(self.documents[each].most_trained for each in self.members(chosen))
        return _rounded(most, max(STEP, len(chosen) * length // 4))

    @cached_property
    def _trained_by_row(self) -> list[int]:
        """The most targets that each row can have, in descending order."""
        return sorted((sum(self.documents[each].most_trained for each in row) for row in self.rows), reverse=True)


def on_policy_batches(documents: Sequence[Document], settings: DistillSettings) -> OnPolicyBatches:
    """Training batches in which the student may write the responses."""
    found = tuple(prompted(each, settings.max_new_tokens, settings.max_length) for each in documents)
    length = max(settings.row_length or 0, _rounded(max(each.longest for each in found) - 1))
    rows: list[tuple[int, ...]] = [(number,) for number in range(len(found))]
    if settings.batching == "pack":
        places = [Document([0] * each.longest, []) for each in found]
        number_of = {id(place): number for number, place in enumerate(places)}
        rows = [tuple(number_of[id(place)] for place in row) for row in best_fit(places, length)]
    return OnPolicyBatches(
        documents=found,
        rows=tuple(rows),
        length=length,
        size=settings.batch,
        packed=settings.batching == "pack",
    )


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Samples the student's responses before each step."""

    model: nn.Module
    batches: OnPolicyBatches
    settings: DistillSettings
    stop: frozenset[int]

    def sample(self, step: int, rows: Sequence[Order]) -> None:
        """Replace the responses of this step's on-policy rows. All ranks sample the same."""
        numbers = [number for chosen in rows for number in self.batches.members(chosen)]
        chosen = [number for number in numbers if self._is_on_policy(step, number)]
        self.batches.sampled.clear()
        self.batches.sampled.update(self._responses(step, chosen))

    def _is_on_policy(self, step: int, number: int) -> bool:
        drawn = np.random.default_rng([self.settings.seed, step, number]).random()
        return self.batches.documents[number].prompt > 0 and drawn < self.settings.on_policy

    def _responses(self, step: int, numbers: Sequence[int]) -> dict[int, Document]:
        if not numbers:
            return {}
        documents = [self.batches.documents[number] for number in numbers]
        requests = (self._request(step, number) for number in numbers)
        context = max(document.prompt + document.room for document in documents) + 1
        training = self.model.training
        self.model.eval()
        try:
            # A new engine each time: a compiled step keeps the weights it was traced with.
            engine = Engine(self.model, slots=min(len(numbers), SLOTS), context=context)
            written: dict[int, Written] = dict(done.result for done in engine.run(requests))
        finally:
            self.model.train(training)
        del engine
        mx.clear_cache()
        return {number: self.batches.documents[number].with_response(_tokens(written[number])) for number in numbers}

    def _request(self, step: int, number: int) -> Request:
        seed = int(np.random.default_rng([self.settings.seed, step, number, 1]).integers(2**48))
        document = self.batches.documents[number]
        sampling = Sampling(temperature=self.settings.rollout_temperature)

        def program() -> Program:
            yield Given(tuple(map(int, document.document.tokens[: document.prompt])))
            written: Any = yield Sample(limit=document.room, stop=self.stop, sampling=sampling)
            return number, written

        return Request(program=program(), seed=seed)


def _tokens(written: Written) -> list[int]:
    """The sampled tokens, with the stop token unless the response was cut."""
    return [*written.tokens, *([] if written.stop_token is None else [written.stop_token])]


def _rounded(number: int, step: int = STEP) -> int:
    return max(step, -(-number // step) * step)
