"""What a run keeps at each evaluation: answers to fixed prompts, and the best model so far."""

from dataclasses import dataclass, field
from pathlib import Path

from mlx_suite.adapters.attach import save_adapter
from mlx_suite.checkpoints.load import stored_dtype
from mlx_suite.checkpoints.save import save_model
from mlx_suite.data.encode.styles import Writer
from mlx_suite.finetune.model import Trainee
from mlx_suite.finetune.prepare import Prepared
from mlx_suite.finetune.samples import render_samples, write_samples
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Message

SAMPLES = 3
"""Validation questions that are answered at each evaluation, where no prompt is given."""


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """Writes models and samples into the run's folder."""

    run: Path
    settings: FinetuneSettings
    prepared: Prepared
    trainee: Trainee
    writer: Writer
    """Writes prompts the way the examples are written."""
    prompts: list[tuple[str, list[int]]] = field(default_factory=list)

    def evaluated(self, step: int, best: bool) -> None:
        """After an evaluation: answers to the fixed prompts, and the best model so far."""
        if best and step:
            self.save("best")
        if not self.prompts:
            self.prompts.extend(_prompts(self.settings, self.prepared, self.writer))
        if self.prompts:
            write_samples(
                self.trainee.model,
                self.prepared.tokenizer,
                [ids for _, ids in self.prompts],
                [text for text, _ in self.prompts],
                limit=self.settings.sample_tokens,
                stop=self.writer.stops,
                path=self.run / "samples.jsonl",
                step=step,
            )
            write_atomically(self.run / "samples.md", render_samples(self.run / "samples.jsonl"))

    def save(self, name: str) -> None:
        """The adapter as `name`, or the whole model in the precision it came in."""
        folder, model = self.run / name, self.trainee.model
        if self.trainee.adapter is None:
            base = self.prepared.folder
            save_model(folder, model, dtype=stored_dtype(base), tokenizer_from=base, chat_template=self._template)
        else:
            save_adapter(folder, model, self.trainee.adapter, self.settings.model, self._template)

    @property
    def _template(self) -> str:
        """What the model was trained with goes where the model goes."""
        return self.writer.program.source


def _prompts(settings: FinetuneSettings, prepared: Prepared, writer: Writer) -> list[tuple[str, list[int]]]:
    """What the model is asked at each evaluation: the given prompts, or the first validation questions."""
    asked: list[tuple[tuple[Message, ...], str]] = [((Message("user", text),), "") for text in settings.prompts]
    if not asked:
        for example in prepared.held_out:
            ends = [i for i, message in enumerate(example.messages) if message.role == "assistant"]
            if ends and len(asked) < SAMPLES:
                asked.append((tuple(example.messages[: ends[0]]), example.context))
    found = []
    for messages, context in asked:
        ids = writer.ask(messages, context)
        if len(ids) < settings.max_length:
            found.append((messages[-1].content, ids))
    return found
