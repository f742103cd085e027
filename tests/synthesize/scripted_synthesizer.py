"""A synthesizer without weights: a function writes the completion of each prompt, and the engine only runs programs."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlx_suite.data.corpus.documents import CorpusText
from mlx_suite.data.read.records import Problem
from mlx_suite.engine import Done, Given, Request, Rewind, Sample, Written
from mlx_suite.synthesize.run import CorpusJob
from mlx_suite.synthesize.settings import SynthesisSettings
from mlx_suite.synthesize.shards import CorpusShards
from mlx_suite.synthesize.writer import TagWriter
from mlx_suite.text import Tokenizer
from tests.engine.small_models import small_llama

Says = Callable[[str, int], str]
"""Writes the completion of a prompt; takes the seed too."""


class ScriptedEngine:
    """Runs programs one after the other; `prompts` holds all prompts so far."""

    def __init__(self, says: Says, tokenizer: Tokenizer) -> None:
        self.says, self.tokenizer = says, tokenizer
        self.prompts: list[str] = []

    def __call__(self, model: Any, *, slots: int, context: int) -> "ScriptedEngine":
        return self

    def run(self, requests: Iterable[Request]) -> Iterator[Done]:
        for request in requests:
            try:
                yield Done(request=request, value=self._value(request))
            except Exception as error:
                yield Done(request=request, error=error)

    def _value(self, request: Request) -> Any:
        sequence: list[int] = []
        outcome: Written | None = None
        while True:
            try:
                segment = request.program.send(outcome)
            except StopIteration as stop:
                return stop.value
            outcome = None
            if isinstance(segment, Given):
                sequence += segment.tokens
            elif isinstance(segment, Rewind):
                del sequence[segment.length :]
            elif isinstance(segment, Sample):
                outcome = self._written(segment, sequence, request.seed)
                sequence += outcome.tokens
                sequence += [] if outcome.stop_token is None else [outcome.stop_token]

    def _written(self, sample: Sample, sequence: Sequence[int], seed: int) -> Written:
        prompt = self.tokenizer.decode(sequence, skip_special=False)
        self.prompts.append(prompt)
        tokens = tuple(self.tokenizer.encode(self.says(prompt, seed if sample.sampling.temperature else 0)))
        if len(tokens) >= sample.limit:
            return Written(tokens=tokens[: sample.limit], reason="limit")
        return Written(tokens=tokens, reason="stop", stop_token=min(sample.stop))


def one_pair(prompt: str, seed: int = 0) -> str:
    """A pair whose question names the first word of the text and whose answer is the last."""
    words = text_of(prompt).split()
    return f"<QUE> What about {words[0]}? <ANS> {words[-1]} </END>"


def text_of(prompt: str) -> str:
    """The last text of a prompt in the synthesizer's format."""
    found = re.findall(r"<CON> (.*?) </CON>", prompt, re.DOTALL)[-1]
    assert isinstance(found, str)
    return found


def corpus_of(texts: Sequence[str], size: int = 1024) -> CorpusShards:
    """A corpus in memory, which may change while it is read."""

    def read() -> Iterator[CorpusText | Problem]:
        return (CorpusText(text=text, place=f"corpus:{line}") for line, text in enumerate(texts, 1))

    return CorpusShards(read, name="corpus", size=size)


def job_of(tokenizer: Tokenizer, texts: Sequence[str], *, size: int = 1024, **settings: Any) -> CorpusJob:
    """A job that converts texts in memory with a synthesizer."""
    return CorpusJob(
        model=small_llama(vocab_size=tokenizer.vocab_size, max_position_embeddings=600),
        writer=TagWriter(tokenizer=tokenizer),
        corpus=corpus_of(texts, size=size),
        settings=SynthesisSettings(**{"max_tokens": 80, **settings}),
    )


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
