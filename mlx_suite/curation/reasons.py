"""Why rows are rejected, and at which stage of the funnel."""

from collections.abc import Mapping
from typing import Literal

Stage = Literal["ask", "screen", "answer", "grade"]
STAGES: tuple[Stage, ...] = ("ask", "screen", "answer", "grade")
"""In their order: the instruction is written, looked at, answered, and the answer looked at."""

DUPLICATE, NEAR_DUPLICATE, NEAR_MEANING = "duplicate", "near_duplicate", "near_meaning"
OFF_QUOTA = "off_quota_"
"""Followed by the dimension."""

ASK: Mapping[str, str] = {
    "instruction_limit": "the instruction reached its limit of tokens",
    "instruction_context": "the instruction reached the end of the model's context",
    "instruction_stop": "the instruction ended with another token than the template's",
    "instruction_empty": "the instruction is empty",
    "instruction_garbled": "the instruction is not valid text",
}
SCREEN: Mapping[str, str] = {
    "no_payload": "the instruction speaks of a text that is not there",
    "reply": "the instruction is a reply, and asks for nothing",
    DUPLICATE: "the instruction of an earlier row",
    NEAR_DUPLICATE: "nearly the instruction of an earlier row",
    "contaminated": "the instruction stands in the evaluation data",
    f"{OFF_QUOTA}topic": "there are enough rows on its topic",
    f"{OFF_QUOTA}persona": "there are enough rows of its persona",
    NEAR_MEANING: "means what an earlier row means",
    "low_quality": "the instruction is tagged as too poor",
    "unsafe": "the instruction is tagged as unsafe",
    f"{OFF_QUOTA}category": "there are enough rows of its category",
    f"{OFF_QUOTA}difficulty": "there are enough rows of its difficulty",
    f"{OFF_QUOTA}language": "there are enough rows in its language",
}
ANSWER: Mapping[str, str] = {
    "answer_limit": "the answer reached its limit of tokens",
    "answer_context": "the answer reached the end of the model's context",
    "answer_stop": "the answer ended with another token than the template's",
    "answer_empty": "the answer is empty",
    "answer_garbled": "the answer is not valid text",
}
GRADE: Mapping[str, str] = {
    "answer_quality": "the answer is tagged as too poor",
    "answer_unsafe": "the answer is tagged as unsafe",
}
REASONS: Mapping[str, str] = {**ASK, **SCREEN, **ANSWER, **GRADE}
"""Every reason, as it stands in `rejected.jsonl`, and what it says. The first that holds is a row's reason."""


def stage_of(reason: str) -> Stage:
    """Where a reason is found. KeyError for one that there is not."""
    return next(stage for stage, reasons in zip(STAGES, (ASK, SCREEN, ANSWER, GRADE), strict=True) if reason in reasons)
