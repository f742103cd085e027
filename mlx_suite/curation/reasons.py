"""Reasons for rejecting rows, by the stage of the funnel that finds them."""

from collections.abc import Mapping
from typing import Literal

Stage = Literal["ask", "screen", "answer", "grade"]
STAGES: tuple[Stage, ...] = ("ask", "screen", "answer", "grade")
"""Stages in order: the instruction is generated, checked, responded to, and the response is checked."""

DUPLICATE, NEAR_DUPLICATE, NEAR_MEANING = "duplicate", "near_duplicate", "near_meaning"
OFF_QUOTA = "off_quota_"
"""Prefix of reasons that end with the dimension of the quota."""

ASK: Mapping[str, str] = {
    "instruction_limit": "the instruction reached the token limit",
    "instruction_context": "the instruction reached the end of the context",
    "instruction_loop": "the instruction repeats the same words without end",
    "instruction_stop": "the instruction ended with an unexpected stop token",
    "instruction_empty": "the instruction is empty",
    "instruction_garbled": "the instruction is not valid text",
}
SCREEN: Mapping[str, str] = {
    "no_payload": "the instruction refers to a text that is missing",
    "reply": "the instruction is a reply and asks for nothing",
    DUPLICATE: "the instruction repeats an earlier one",
    NEAR_DUPLICATE: "the instruction is a near-duplicate of an earlier one",
    "contaminated": "the instruction overlaps with the evaluation data",
    f"{OFF_QUOTA}topic": "the quota for its topic is met",
    f"{OFF_QUOTA}persona": "the quota for its persona is met",
    NEAR_MEANING: "the instruction has an embedding too similar to an earlier one",
    "low_quality": "the instruction is tagged as low quality",
    "unsafe": "the instruction is tagged as unsafe",
    f"{OFF_QUOTA}category": "the quota for its category is met",
    f"{OFF_QUOTA}difficulty": "the quota for its difficulty is met",
    f"{OFF_QUOTA}language": "the quota for its language is met",
}
ANSWER: Mapping[str, str] = {
    "answer_limit": "the response reached the token limit",
    "answer_context": "the response reached the end of the context",
    "answer_loop": "the response repeats the same words without end",
    "answer_stop": "the response ended with an unexpected stop token",
    "answer_empty": "the response is empty",
    "answer_garbled": "the response is not valid text",
    "answer_thought": "the reasoning before the response does not end",
}
GRADE: Mapping[str, str] = {
    "answer_quality": "the response is tagged as low quality",
    "answer_unsafe": "the response is tagged as unsafe",
}
REASONS: Mapping[str, str] = {**ASK, **SCREEN, **ANSWER, **GRADE}
"""Reasons as in `rejected.jsonl`, with explanations. A row is rejected for the first that applies."""


def stage_of(reason: str) -> Stage:
    """The stage that finds a reason. KeyError for an unknown reason."""
    return next(stage for stage, reasons in zip(STAGES, (ASK, SCREEN, ANSWER, GRADE), strict=True) if reason in reasons)
