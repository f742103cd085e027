"""Why a row is rejected.

Duplicates are told by the text without regard to case and whitespace. A row is a duplicate if a row of lower number
with the same instruction is accepted; so what is accepted does not depend on which row was finished first.
"""

import hashlib
from collections.abc import Mapping

from mlx_suite.engine import Written
from mlx_suite.magpie.row import Draft, Plan

DUPLICATE = "duplicate"

REASONS: Mapping[str, str] = {
    DUPLICATE: "the instruction of an earlier row",
    "instruction_limit": "the instruction reached its limit of tokens",
    "instruction_context": "the instruction reached the end of the model's context",
    "instruction_stop": "the instruction ended with another token than the template's",
    "instruction_empty": "the instruction is empty",
    "instruction_garbled": "the instruction is not valid text",
    "answer_limit": "the answer reached its limit of tokens",
    "answer_context": "the answer reached the end of the model's context",
    "answer_stop": "the answer ended with another token than the template's",
    "answer_empty": "the answer is empty",
    "answer_garbled": "the answer is not valid text",
}
"""Every reason, as it stands in `rejected.jsonl`, and what it says."""

GARBLED = "\ufffd"
"""What a decoder writes in place of bytes that are no character."""


def instruction_problem(plan: Plan, draft: Draft) -> str | None:
    """The reason to reject an instruction as it stands, or None."""
    return _problem("instruction", draft.asked, draft.instruction, frozenset({plan.user_end}))


def answer_problem(plan: Plan, draft: Draft) -> str | None:
    """The reason to reject an answer as it stands, or None."""
    assert draft.answered is not None, "an instruction worth an answer has one"
    return _problem("answer", draft.answered, draft.answer, plan.answer_ends)


def is_complete(plan: Plan, draft: Draft) -> bool:
    """Whether only another row with the same instruction can be in the way of this one."""
    return instruction_problem(plan, draft) is None and draft.answered is not None and not answer_problem(plan, draft)


def key_of(instruction: str) -> bytes:
    """Equal for instructions that count as the same. 16 bytes, however long the text."""
    return hashlib.blake2b(" ".join(instruction.split()).casefold().encode(), digest_size=16).digest()


def _problem(part: str, written: Written, text: str, ends: frozenset[int]) -> str | None:
    if written.reason != "stop":
        return f"{part}_{written.reason}"
    if written.stop_token not in ends:
        return f"{part}_stop"
    if not text:
        return f"{part}_empty"
    return f"{part}_garbled" if GARBLED in text else None
