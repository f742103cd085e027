"""Generation in the slot engine: a chain of texts is one program, and many chains run at the same time.

The next prompt of a chain repeats most of what its slot already holds: only the difference is prefilled. What is
written from a text does not depend on the other chains (in float32).
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.engine import Engine, Given, Program, Request, Rewind, Sample, Sampling, Written
from mlx_suite.engine.prefix_cache import shared_prefix
from mlx_suite.synthesize.completions import NO_ROOM, Completion
from mlx_suite.synthesize.format import Example
from mlx_suite.synthesize.rephrase import CONTINUE
from mlx_suite.synthesize.rounds import Prompt, fit_prompt, plan_chains
from mlx_suite.synthesize.settings import Lengths
from mlx_suite.synthesize.sources import SourceText
from mlx_suite.synthesize.writer import Writer, read_outcome
from mlx_suite.text.loops import loop_check


@dataclass(frozen=True, kw_only=True)
class Task:
    """One form of the texts of a shard."""

    repeat: int
    shard: int
    form: str
    sampling: Sampling
    lengths: Lengths
    rounds: int
    seed: int

    def chains(self, sources: Sequence[SourceText]) -> list[list[SourceText]]:
        """The chains of the texts that are to be converted."""
        texts = [source for source in sources if not source.kept_raw]
        # A continuation shows no examples.
        rounds = 1 if self.form == CONTINUE else self.rounds
        return [[texts[place] for place in chain] for chain in plan_chains(len(texts), rounds)]

    def chain_seed(self, first: SourceText) -> int:
        name = f"{self.seed} {self.repeat} {self.form} {first.key}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


class TextGenerator:
    """Writes from texts with one model.

    Args:
        slots: Chains that run at the same time.
        context: Maximum tokens of a sequence.
        clock: Seconds since any origin.
    """

    def __init__(
        self,
        model: Any,
        writer: Writer,
        *,
        slots: int,
        context: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.writer, self.clock = writer, clock
        self.engine = Engine(model, slots=slots, context=context)
        self._loops = loop_check(writer.tokenizer.decode)

    def run(
        self,
        task: Task,
        sources: Sequence[SourceText],
        known: Mapping[tuple[str, str], Completion],
        keep: Callable[[SourceText, Completion], None],
    ) -> None:
        """Write the missing completions of a task.

        Args:
            known: Completions of an earlier session, by form and key of the text.
            keep: Called with each new completion as soon as it has ended.
        """
        missing = [
            chain for chain in task.chains(sources) if any((task.form, source.key) not in known for source in chain)
        ]
        self._since = self.clock()
        requests = (
            Request(program=self._program(task, chain, known, keep), seed=task.chain_seed(chain[0]))
            for chain in missing
        )
        for done in self.engine.run(requests):
            _ = done.result

    def _program(
        self,
        task: Task,
        chain: Sequence[SourceText],
        known: Mapping[tuple[str, str], Completion],
        keep: Callable[[SourceText, Completion], None],
    ) -> Program:
        examples: list[Example] = []
        sequence: list[int] = []
        for source in chain:
            completion = known.get((task.form, source.key))
            if completion is None:
                prompt = self._prompt(task, examples, source)
                written = None
                if prompt is not None:
                    if sequence:
                        same = shared_prefix(sequence, prompt.ids)
                        yield Rewind(same)
                        yield Given(prompt.ids[same:])
                    else:
                        yield Given(prompt.ids)
                    written = yield Sample(
                        limit=task.lengths.written, stop=self.writer.stops, sampling=task.sampling, loops=self._loops
                    )
                    end = () if written.stop_token is None else (written.stop_token,)
                    sequence = [*prompt.ids, *written.tokens, *end]
                completion = self._completion(task, source, prompt, written)
                keep(source, completion)
            outcome = read_outcome(self.writer, source.text, completion.text, completion.reason, task.form)
            if outcome.is_empty:
                examples.clear()
            else:
                if completion.shots == 0:
                    examples.clear()
                examples.append(outcome.example(source.text, task.form))

    def _prompt(self, task: Task, examples: Sequence[Example], source: SourceText) -> Prompt | None:
        return fit_prompt(
            examples,
            lambda shown: self.writer.prompt(shown, source.text, task.form),
            room=task.lengths.prompt,
        )

    def _completion(self, task: Task, source: SourceText, prompt: Prompt | None, written: Written | None) -> Completion:
        now = self.clock()
        seconds, self._since = now - self._since, now
        return Completion(
            repeat=task.repeat,
            shard=task.shard,
            form=task.form,
            source=source.key,
            text="" if written is None else self.writer.tokenizer.decode(written.tokens),
            reason=NO_ROOM if written is None else written.reason,
            shots=0 if prompt is None else prompt.shots,
            read=0 if prompt is None else len(prompt.ids),
            written=0 if written is None else len(written.tokens),
            seconds=round(seconds, 3),
        )
