"""What can be said of an instruction and of an answer without looking at other rows."""

import hashlib
from collections.abc import Collection

from mlx_suite.curation.duplicates.words import folded
from mlx_suite.data.questions import QUALITIES
from mlx_suite.engine import Written
from mlx_suite.magpie.draft import Draft, Ending, Tags
from mlx_suite.magpie.drift import flaw_of
from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.sanitiser.request_checks import lacks_payload, looks_like_answer

SAFETY, UNSAFE = "safety", "unsafe"
ANSWER_SAFETY = "answer_safety"


def instruction_problem(plan: Plan, draft: Draft) -> str | None:
    """What is wrong with an instruction as it stands, or None."""
    return _problem("instruction", draft.asked, draft.instruction, {plan.user_end})


def answer_problem(plan: Plan, draft: Draft) -> str | None:
    """What is wrong with an answer as it stands, or None."""
    assert draft.answered is not None, "an instruction worth an answer has one"
    return _problem("answer", draft.answered, draft.answer, plan.answer_ends)


def wording_problem(draft: Draft) -> str | None:
    """Whether an instruction's wording shows that nothing can be answered, or None."""
    if lacks_payload(draft.instruction):
        return "no_payload"
    return "reply" if looks_like_answer(draft.instruction) else None


def is_below(tags: Tags, name: str, minimum: str | None) -> bool:
    """Whether a tag of quality is below a minimum; what was not asked is not."""
    if minimum is None or name not in tags or tags[name].label not in QUALITIES:
        return False
    return QUALITIES.index(tags[name].label) < QUALITIES.index(minimum)


def is_unsafe(tags: Tags, name: str) -> bool:
    """Whether a row is tagged as unsafe; what was not asked is not."""
    return name in tags and tags[name].label == UNSAFE


def reached_a_lower_limit(plan: Plan, draft: Draft) -> bool:
    """Whether a text was cut at a limit that has been raised since."""
    limits = ((draft.asked, plan.settings.max_instruction), (draft.answered, plan.settings.max_answer))
    return any(ending is not None and ending.reason == "limit" and ending.tokens < limit for ending, limit in limits)


def key_of(instruction: str) -> bytes:
    """Equal for instructions that count as the same, without regard to case and whitespace. 16 bytes."""
    return hashlib.blake2b(folded(instruction).encode(errors="surrogatepass"), digest_size=16).digest()


def _problem(part: str, ending: Ending, text: str, ends: Collection[int]) -> str | None:
    flaw = flaw_of(Written(tokens=(), reason=ending.reason, stop_token=ending.stop), text, ends)
    return None if flaw is None else f"{part}_{flaw}"
