"""Finetuning in Python, from a file of examples to a response: the calls behind `mlx-suite finetune`.

    python -m mlx_suite_apps.finetune.finetune_script rows.jsonl runs/mine

The same command resumes a stopped run.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_suite import load
from mlx_suite.data.encode.styles import Writer
from mlx_suite.evaluate.samples import responses
from mlx_suite.finetune.estimate.estimate import estimate_run
from mlx_suite.finetune.prepare import PreparedRun, prepare
from mlx_suite.finetune.run import FinishedRun, RunCallbacks, finetune
from mlx_suite.finetune.settings import FinetuneSettings, check_settings
from mlx_suite.runtime.device import device, set_limits
from mlx_suite.runtime.memory import human_bytes
from mlx_suite.text import Message


def main(arguments: Sequence[str] | None = None) -> str:
    """Train, then return the best adapter's response to the question."""
    parser = argparse.ArgumentParser(description="Finetune a model on a file of examples.")
    parser.add_argument("data", help="JSONL, JSON, CSV or Parquet; the format is detected from the rows")
    parser.add_argument("out", help="output folder of the run")
    parser.add_argument("--model", default="tiny-llama3")
    parser.add_argument("--steps", type=int, default=None, help="optimizer steps; default: three epochs")
    parser.add_argument("--question", default="What is 12 plus 30?")
    given = parser.parse_args(arguments)

    settings = FinetuneSettings(model=given.model, data=given.data, out=given.out, steps=given.steps, rank=8)
    check_settings(settings)
    set_limits(device())

    prepared = prepare(settings)
    print(f"{len(prepared.train)} examples, {prepared.trained_tokens} of {prepared.tokens} tokens are trained")
    memory = estimate_run(settings, prepared).memory
    print(f"a step takes about {human_bytes(memory.total)} of {human_bytes(memory.limit)}")

    finished = finetune(settings, prepared, callbacks=RunCallbacks(line=show))
    print(
        f"{finished.state.step} steps; validation loss {finished.valid_before} before, {finished.state.best_loss} best"
    )
    answer = ask(settings, prepared, finished, given.question)
    print(f"{given.question}\n{answer}")
    return answer


def show(line: Mapping[str, Any]) -> None:
    """Print an entry of the log."""
    print(f"step {line['step']:>5}  {line['kind']} loss {line['loss']:.4f}")


def ask(settings: FinetuneSettings, prepared: PreparedRun, finished: FinishedRun, question: str) -> str:
    """Greedy response of the model with the run's best adapter, or the last one if there is no best."""
    model, _ = load(settings.model, adapter=finished.folder)
    writer = Writer(style=settings.style, tokenizer=prepared.tokenizer, template=prepared.template)
    prompt = writer.ask([Message("user", question)])
    [(text, _)] = responses(model, prepared.tokenizer, [prompt], limit=96, stop=writer.stops)
    return text


if __name__ == "__main__":
    main()
