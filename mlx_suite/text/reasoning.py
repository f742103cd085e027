"""Reasoning before an answer, which models write between `<think>` and `</think>`."""

OPEN, CLOSE = "<think>", "</think>"


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str, str] | None:
    """The reasoning and the answer, without the tags and the space around them; None if the reasoning does not end.

    Text without reasoning is unchanged. `opened`: the prompt has written `<think>` already.
    """
    begun = text.lstrip().removeprefix(OPEN) if text.lstrip().startswith(OPEN) else text if opened else None
    if begun is None:
        return "", text
    thoughts, close, answer = begun.partition(CLOSE)
    return (thoughts.strip(), answer.strip()) if close else None


def with_reasoning(reasoning: str, answer: str) -> str:
    """The answer after its reasoning, as models write them."""
    return f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{answer}" if reasoning else answer
