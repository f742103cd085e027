"""Text to measure a model's loss by quantization on: what it writes itself, or a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.engine import context_length
from mlx_suite.engine.chat_model import greedy_completions
from mlx_suite.engine.token_scores import Window, cut_windows
from mlx_suite.evaluate.passages import prefix_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer

PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little girl who",
    "Water boils at",
    "The three primary colors are",
    "To make a cup of tea, first",
    "Question: Why is the sky blue?\nAnswer:",
    "def add(a, b):\n",
    "Dear Sir or Madam,\n",
    "The main difference between a cat and a dog is",
    "In 1969, the first people",
    "Here is a list of animals:\n1.",
    "The price of a book is 12 dollars. Two books cost",
)
"""Beginnings that both base and chat models continue: prose, facts, lists, code, arithmetic."""

WRITTEN = 40
"""Tokens that the model writes per prompt."""
WINDOW = 512
"""Tokens per window of a file, so that most tokens have context and the logits fit anywhere."""
MOST = 1024
"""Tokens scored in a file: enough for a verdict, a few seconds for a small model on a CPU."""


@dataclass(frozen=True, kw_only=True)
class KnownText:
    """Tokenised text with the tokens to score."""

    windows: tuple[Window, ...]
    source: str
    """Where it comes from, in a few words."""

    @property
    def tokens(self) -> int:
        """Number of scored tokens."""
        return sum(len(window.targets) for window in self.windows)

    def rows(self, length: int) -> list[list[int]]:
        """Its tokens as rows of equal length, the last incomplete one left out unless it is the only one."""
        stream = [token for window in self.windows for token in (*window.fed, window.targets[-1])]
        length = min(length, len(stream))
        return [stream[start : start + length] for start in range(0, len(stream) - length + 1, length)]


def own_text(model: Any, tokenizer: Tokenizer) -> KnownText:
    """The model's greedy continuations of `PROMPTS`, each with the end that it chose; always the same.

    Only what the model wrote is scored.
    """
    prompts = [tokenizer.encode_prompt(prompt) for prompt in PROMPTS]
    context = context_length(model)
    written = dict(
        greedy_completions(
            *(model, prompts),
            limit=WRITTEN,
            stop=tokenizer.stop_ids,
            slots=len(prompts),
            context=min(context, max(map(len, prompts)) + WRITTEN),
        )
    )
    windows = []
    for number, prompt in enumerate(prompts):
        end = written[number].stop_token
        targets = (*written[number].tokens, *(() if end is None else (end,)))
        if targets:
            windows.append(Window(fed=(*prompt, *targets[:-1]), targets=targets))
    return KnownText(windows=tuple(windows), source=f"the model wrote as it continued {len(PROMPTS)} prompts")


def file_text(file: Path, tokenizer: Tokenizer, context: int) -> KnownText:
    """The first `MOST` tokens of a text file. Raises UserError for an unreadable or empty one."""
    tokens = tokenizer.encode(_read(file))
    prefix = prefix_of(tokenizer)
    first = 0 if prefix else 1
    length = min(WINDOW, context)
    if len(tokens) <= first:
        raise UserError("The text has no token to predict", where=str(file), fix="use a longer text")
    windows = cut_windows(
        tokens[: MOST + first], prefix=prefix, first=first, context=length, stride=max(1, length // 2)
    )
    return KnownText(windows=tuple(windows), source=f"of {file.name}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
        raise UserError(
            f"The file cannot be read: {reason}", where=str(file), fix="give a text file in UTF-8"
        ) from error
