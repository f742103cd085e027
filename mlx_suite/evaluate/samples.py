"""Responses of a model in training to a few fixed prompts, written at each evaluation.

A sampled response has the same random numbers at each evaluation, so what changes is the model.

samples.jsonl   one line per response: step, prompt, answer, reason (why generation ended)
samples.md      the responses as Markdown, grouped by prompt
"""

import json
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.engine import Engine, Program, Request
from mlx_suite.engine.never_sampled import banning, untrained
from mlx_suite.engine.program import Reason
from mlx_suite.engine.response_sampling import ResponseSampling
from mlx_suite.evaluate.text_stops import write_until
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.journal import read_lines
from mlx_suite.text import Tokenizer

GREEDY = ResponseSampling()
SLOTS = 8
"""Maximum prompts per batch."""
REASONS = {"stop": "", "limit": "cut off by the limit", "context": "cut off by the end of the context"}


def write_samples(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts_ids: Sequence[Sequence[int]],
    prompt_texts: Sequence[str],
    *,
    limit: int,
    stop: frozenset[int],
    path: Path,
    step: int,
    sampling: ResponseSampling = GREEDY,
    seed: int = 0,
) -> None:
    """Append the model's responses to `path`, generated without dropout and noise.

    Args:
        prompts_ids: Token ids of each prompt, including the header of the response.
        prompt_texts: The prompts as text, for the file.
        limit: Maximum tokens per response.
        stop: Stop tokens.
        step: Number of training steps so far.
        seed: Seed of the first prompt's random numbers; the next prompt's is one higher, and so on.

    Raises UserError if the disk is full, or the sampling names a token that the vocabulary lacks.
    """
    banned = untrained(model, tokenizer)
    answers = responses(
        model, tokenizer, prompts_ids, limit=limit, stop=stop, banned=banned, sampling=sampling, seed=seed
    )
    lines = [
        {"step": step, "prompt": prompt, "answer": text, "reason": reason}
        for prompt, (text, reason) in zip(prompt_texts, answers, strict=True)
    ]
    # A single write: a kill leaves all lines or, rarely, a truncated last line, which is skipped when read.
    with disk_errors(path, kept="The last checkpoint is kept"), path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def responses(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts_ids: Sequence[Sequence[int]],
    *,
    limit: int,
    stop: frozenset[int],
    banned: Collection[int] = (),
    sampling: ResponseSampling = GREEDY,
    seed: int = 0,
) -> list[tuple[str, Reason]]:
    """Text of the response to each prompt, in their order, and why it ended. Frees MLX's memory cache afterwards."""
    if not prompts_ids:
        return []
    engine_sampling = banning(sampling.sampling(tokenizer), banned, stop)

    def program(number: int, prompt: Sequence[int]) -> Program:
        return number, (
            yield from write_until(tokenizer, prompt, sampling.stop, limit=limit, stop=stop, sampling=engine_sampling)
        )

    training = model.training
    model.eval()
    try:
        # A new engine each time: a compiled step keeps the weights it was traced with.
        engine = Engine(model, slots=min(len(prompts_ids), SLOTS), context=max(map(len, prompts_ids)) + limit)
        requests = [
            Request(program=program(number, prompt), seed=seed + number) for number, prompt in enumerate(prompts_ids)
        ]
        written = dict(done.result for done in engine.run(requests))
    finally:
        model.train(training)
    mx.clear_cache()
    return [written[number] for number in range(len(prompts_ids))]


def render_samples(path: Path) -> str:
    """The responses in `path` as Markdown, grouped by prompt, in order of evaluation.

    A response that stays the same over several evaluations is shown once.
    """
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for line in _lines(path):
        by_prompt.setdefault(line["prompt"], []).append(line)
    parts = ["# Responses during training\n"]
    for prompt, lines in by_prompt.items():
        parts.append(f"## {_title(prompt)}\n")
        if prompt.strip() != _title(prompt):
            parts.append(f"{_fenced(prompt)}\n")
        for (response, reason), same in groupby(lines, key=lambda line: (line["answer"], line["reason"])):
            steps = [f"{line['step']:,}" for line in same]
            note = REASONS.get(reason, reason)
            when = f"Step {steps[0]}" if len(steps) == 1 else f"Steps {steps[0]} to {steps[-1]}"
            parts.append(f"**{when}**" + (f" ({note})" if note else "") + "\n")
            parts.append(f"{_fenced(response)}\n")
    return "\n".join(parts)


def truncate_samples(path: Path, step: int) -> None:
    """Remove a truncated line and the samples after `step`, which will be generated again; at step 0, all samples."""
    if not path.exists():
        return
    kept = [line for line in _lines(path) if step and line["step"] <= step]
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def _lines(path: Path) -> list[dict[str, Any]]:
    """The samples in `path`. Other lines are skipped: the file may have been edited."""
    return list(read_lines(path, _sample, bad=[])) if path.exists() else []


def _sample(line: dict[str, Any]) -> dict[str, Any]:
    if not {"step", "prompt", "answer", "reason"} <= line.keys():
        raise KeyError("step, prompt, answer, reason")
    return line


def _title(prompt: str) -> str:
    """The first line of a prompt, cut to the length of a heading."""
    first = (prompt.strip().splitlines() or ["(an empty prompt)"])[0].strip()
    return first if len(first) <= 72 else first[:71].rstrip() + "…"


def _fenced(text: str) -> str:
    """`text` in a code fence longer than any fence inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
