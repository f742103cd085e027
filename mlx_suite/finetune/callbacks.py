"""Outputs of each evaluation: the best model so far, and responses to a few fixed prompts."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlx_suite.adapters.attach import save_adapter
from mlx_suite.checkpoints.load import stored_dtype
from mlx_suite.checkpoints.save import save_model
from mlx_suite.data.encode.styles import Writer
from mlx_suite.data.example import Example
from mlx_suite.evaluate.samples import render_samples, write_samples
from mlx_suite.finetune.model import TrainableModel
from mlx_suite.finetune.prepare import PreparedRun
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Message
from mlx_suite.text.template import with_defaults
from mlx_suite.text.template_variables import read_variables
from mlx_suite.training.train_step import parameters_set

AVERAGE = "ema"
"""Folder of the model with averaged weights."""
SAMPLES = 3
"""Number of validation examples used as prompts, if no prompt is given."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOutputs:
    """Writes models and samples into the run folder."""

    run: Path
    settings: FinetuneSettings
    prepared: PreparedRun
    trainable: TrainableModel
    writer: Writer
    """Encodes prompts in the style of the examples."""
    prompts: list[tuple[str, list[int]]] = field(default_factory=list)

    def write(self, step: int, best: bool) -> None:
        """Save the model if it is the best so far, and write responses to the fixed prompts."""
        if best and step:
            self.save("best")
        if not self.prompts:
            self.prompts.extend(sample_prompts(self.settings, self.prepared, self.writer))
        if self.prompts:
            write_samples(
                self.trainable.model,
                self.prepared.tokenizer,
                [ids for _, ids in self.prompts],
                [text for text, _ in self.prompts],
                limit=self.settings.sample_tokens,
                stop=self.writer.stops,
                path=self.run / "samples.jsonl",
                step=step,
                sampling=self.settings.sampling,
                seed=self.settings.seed,
            )
            write_atomically(self.run / "samples.md", render_samples(self.run / "samples.jsonl"))

    def save_average(self, average: Any) -> None:
        """Save the model with the averaged parameters, a tree in fp32, to folder `ema`; the model is left as it was."""
        with parameters_set(self.trainable.model, average):
            self.save(AVERAGE)

    def save(self, name: str) -> None:
        """Save the adapter, or with method full the model in the dtype of its checkpoint, to folder `name`."""
        folder, model = self.run / name, self.trainable.model
        template = with_defaults(self.writer.program.source, read_variables(self.settings.template_args))
        if self.trainable.adapter is None:
            base = self.prepared.folder
            save_model(folder, model, dtype=stored_dtype(base), tokenizer_from=base, chat_template=template)
        else:
            save_adapter(folder, model, self.trainable.adapter, self.settings.model, template)


def sample_prompts(settings: FinetuneSettings, prepared: PreparedRun, writer: Writer) -> list[tuple[str, list[int]]]:
    """Text and token ids of the given prompts or, by default, of the first validation examples' instructions."""
    chosen = [Example(messages=(Message("user", text),)) for text in settings.prompts]
    if not chosen:
        for example in prepared.held_out:
            ends = [i for i, message in enumerate(example.messages) if message.role == "assistant"]
            if ends and len(chosen) < SAMPLES:
                tools = example.tool_turns
                tools = None if tools is None else tools.before(tools.responses[0])
                chosen.append(replace(example, messages=tuple(example.messages[: ends[0]]), tool_turns=tools))
    prompts = []
    for example in chosen:
        ids = writer.ask(example.messages, example.context, example.tool_turns)
        if len(ids) < settings.max_length:
            prompts.append((example.messages[-1].content, ids))
    return prompts
