"""Answers to a few fixed prompts, written at every evaluation: whether a model learns is seen in what it says.

samples.jsonl   a line for each answer: step, prompt, answer, and why it ended
samples.md      the same to read, by prompt
"""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.engine import Written
from mlx_suite.engine.chat_model import greedy_completions
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.journal import read_lines
from mlx_suite.text import Tokenizer

SLOTS = 8
"""Prompts that are answered at a time."""
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
) -> None:
    """Answer every prompt with the most probable tokens and append the answers to `path`.

    The model may be in training: it is asked without dropout and noise, and is then as it was.

    Args:
        prompts_ids: Token ids of each prompt, up to where the answer begins.
        prompt_texts: The same for people.
        limit: Tokens an answer may have.
        stop: Tokens that end one.
        step: Of the weights.

    Raises UserError where the disk takes no more.
    """
    answers = greedy_answers(model, prompts_ids, limit=limit, stop=stop)
    lines = [
        {"step": step, "prompt": prompt, "answer": tokenizer.decode(written.tokens), "reason": written.reason}
        for prompt, written in zip(prompt_texts, answers, strict=True)
    ]
    # One write: a kill leaves all lines of an evaluation or, seldom, a torn end, which `cut_samples` takes out.
    with disk_errors(path, kept="The last checkpoint is kept"), path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def greedy_answers(
    model: nn.Module, prompts_ids: Sequence[Sequence[int]], *, limit: int, stop: frozenset[int]
) -> list[Written]:
    """The most probable answer to each prompt, in order; the memory it has taken is given back."""

    if not prompts_ids:
        return []
    training = model.training
    model.eval()
    try:
        # A new engine each time: a compiled step keeps the weights it was traced with.
        slots, context = min(len(prompts_ids), SLOTS), max(map(len, prompts_ids)) + limit
        found = dict(greedy_completions(model, prompts_ids, limit=limit, stop=stop, slots=slots, context=context))
    finally:
        model.train(training)
    mx.clear_cache()
    return [found[number] for number in range(len(prompts_ids))]


def render_samples(path: Path) -> str:
    """The answers in `path` as Markdown: by prompt, and of each prompt from the first evaluation to the last.

    An answer that stays the same over several evaluations is shown once.
    """
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for line in _lines(path):
        by_prompt.setdefault(line["prompt"], []).append(line)
    parts = ["# Answers while training\n"]
    for prompt, lines in by_prompt.items():
        parts.append(f"## {_title(prompt)}\n")
        if prompt.strip() != _title(prompt):
            parts.append(f"{_fenced(prompt)}\n")
        for (answer, reason), same in groupby(lines, key=lambda line: (line["answer"], line["reason"])):
            steps = [f"{line['step']:,}" for line in same]
            note = REASONS.get(reason, reason)
            when = f"Step {steps[0]}" if len(steps) == 1 else f"Steps {steps[0]} to {steps[-1]}"
            parts.append(f"**{when}**" + (f" ({note})" if note else "") + "\n")
            parts.append(f"{_fenced(answer)}\n")
    return "\n".join(parts)


def cut_samples(path: Path, step: int) -> None:
    """Take out the answers of steps after `step`, which will be done again, and a line that a kill has torn.

    Those of `step` itself stay; at step 0 all go, since the first evaluation is made again.
    """
    if not path.exists():
        return
    kept = [line for line in _lines(path) if step and line["step"] <= step]
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def _lines(path: Path) -> list[dict[str, Any]]:
    """The samples in `path`; lines that are no sample are skipped, as somebody may have edited the file."""
    return list(read_lines(path, _sample, bad=[])) if path.exists() else []


def _sample(line: dict[str, Any]) -> dict[str, Any]:
    if not {"step", "prompt", "answer", "reason"} <= line.keys():
        raise KeyError("step, prompt, answer, reason")
    return line


def _title(prompt: str) -> str:
    """The first line of a prompt, not too long for a heading."""
    first = (prompt.strip().splitlines() or ["(an empty prompt)"])[0].strip()
    return first if len(first) <= 72 else first[:71].rstrip() + "…"


def _fenced(text: str) -> str:
    """`text` as it is, whatever marks it holds; the fence is longer than any inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
