"""Greedy generation by transformers on torch, in a process of its own: an optional comparison."""

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .turns import ENDING, NO_BLAS, environment

if TYPE_CHECKING:
    from .throughput import SideSpeed


def torch_is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


class TorchGeneration:
    """A process that holds a checkpoint in fp32 and generates when it is asked to."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(str(folder), other), daemon=True)
        with environment(NO_BLAS):
            self._process.start()
        other.close()

    def __enter__(self) -> "TorchGeneration":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()
        self._process.join(ENDING)
        self._process.terminate()

    def time_once(self, prompts: Sequence[Sequence[int]], tokens: int) -> "SideSpeed":
        """Time one run: `tokens` tokens after each of the prompts, which have one length."""
        from .throughput import SideSpeed  # imports MLX, which the process of torch does not need

        self._pipe.send((prompts, tokens))
        seconds, first, peak = self._pipe.recv()
        return SideSpeed(tokens_per_second=len(prompts) * tokens / seconds, first_token=first, peak_bytes=peak)


def _serve(folder: str, pipe: Connection) -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

    from .turns import resident_peak

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    class FirstToken(StoppingCriteria):
        """Notes when every row has its first token; never stops."""

        at: float | None = None

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            self.at = self.at or time.perf_counter()
            return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    while True:
        try:
            prompts, tokens = pipe.recv()
        except EOFError:
            return
        ids, first = torch.tensor(prompts), FirstToken()
        start = time.perf_counter()
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                stopping_criteria=StoppingCriteriaList([first]),
            )
        seconds = time.perf_counter() - start
        assert found.shape[1] == ids.shape[1] + tokens and first.at is not None
        pipe.send((seconds, first.at - start, resident_peak()))
