"""Numbers of tokens of a request, and its identifiers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from mlx_suite.serving.generation import Ended


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Numbers of tokens."""

    prompt: int
    """Of all prompts; a prompt counts once, however many choices continue it."""
    cached: int
    """Of them, those that a KV cache held."""
    completion: int
    """Of all choices, stop tokens included."""
    reasoning: int = 0
    """Of them, those of reasoning."""

    def openai(self) -> dict[str, Any]:
        """As `usage` of chat and text completions."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


def usage(ends: Iterable[Ended], choices: int = 1, reasoning: int = 0) -> Usage:
    """The numbers of a request with this many choices for each of its prompts."""
    ended = list(ends)
    firsts = [end for end in ended if end.choice % choices == 0]
    return Usage(
        prompt=sum(end.prompt_tokens for end in firsts),
        cached=sum(end.cached_tokens for end in firsts),
        completion=sum(end.tokens for end in ended),
        reasoning=reasoning,
    )


def new_id(prefix: str) -> str:
    """A random identifier, such as `chatcmpl-9f86d081884c7d659a2feaa0c55ad015`."""
    return f"{prefix}{uuid4().hex}"
