"""Outputs of each evaluation: the best model so far, and continuations of a few fixed texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.nn as nn

from mlx_suite.checkpoints.save import save_model
from mlx_suite.data.corpus.mixture import MixturePart
from mlx_suite.evaluate.samples import render_samples, write_samples
from mlx_suite.pretrain.model import ModelSource, saved_dtype
from mlx_suite.pretrain.settings import PretrainSettings
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Tokenizer

SAMPLES = 3
"""Number of held-out documents whose first words are continued, if no prompt is given."""
FIRST = 8
"""Tokens of these documents that are given."""

Prompt = tuple[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class EvaluationOutputs:
    """Writes models and samples into the run folder."""

    run: Path
    model: nn.Module
    source: ModelSource
    settings: PretrainSettings
    tokenizer: Tokenizer
    tokenizer_folder: Path
    held_out: Sequence[MixturePart]
    prompts: list[Prompt] = field(default_factory=list)

    def write(self, step: int, best: bool) -> None:
        """Save the model if it is the best so far, and continue the fixed texts."""
        if best and step:
            self.save("best")
        if not self.prompts:
            self.prompts.extend(self._prompts())
        write_samples(
            self.model,
            self.tokenizer,
            [ids for _, ids in self.prompts],
            [text for text, _ in self.prompts],
            limit=self.settings.sample_tokens,
            stop=self.tokenizer.stop_ids,
            path=self.run / "samples.jsonl",
            step=step,
        )
        write_atomically(self.run / "samples.md", render_samples(self.run / "samples.jsonl"))

    def save(self, name: str) -> None:
        """Save the model with its tokenizer to folder `name`."""
        save_model(self.run / name, self.model, dtype=saved_dtype(self.source), tokenizer_from=self.tokenizer_folder)

    def _prompts(self) -> list[Prompt]:
        """Text and token ids of the given prompts or, by default, of the beginnings of held-out documents."""
        tokenizer = self.tokenizer
        if self.settings.prompts:
            return [(text, tokenizer.encode_prompt(text)) for text in self.settings.prompts]
        prompts: dict[str, list[int]] = {}
        for part in self.held_out:
            for number in range(min(part.file.documents, SAMPLES)):
                start = int(part.file.ends[number - 1]) if number else 0
                stop = min(int(part.file.ends[number]), start + FIRST + 1)
                text = tokenizer.decode(part.file.read(start, stop).tolist())
                if text.strip():
                    prompts.setdefault(text, tokenizer.encode_prompt(text))
        return list(prompts.items())[:SAMPLES]
