"""Checks on a generated turn: is the text complete, and is a user's turn still a user's?

After a response, small models tend to continue as the assistant, to say thanks, or to repeat what was said (the Magpie
paper, arXiv 2406.08464, reports it for Llama 3 8B). The rules below match what no user would write. Each is narrow: a
false positive loses a real question, while drift that slips through can still be caught by the role question, which
asks the model itself and works in every language. An opening that disqualifies a first instruction ("Sure, …",
"Great, …"; `request_checks`) is fine in a later one.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from mlx_suite.data.questions import Question, Questions
from mlx_suite.engine import Written

Flaw = Literal["limit", "context", "loop", "stop", "empty", "garbled"]
GARBLED = "\ufffd"
"""Replacement character that a decoder writes for invalid bytes."""

DRIFTS: Mapping[str, str] = {
    "limit": "the user's turn reached its token limit",
    "context": "the conversation reached the end of the model's context",
    "loop": "the user's turn repeats the same words without end",
    "stop": "the user's turn ended with a stop token other than the template's",
    "empty": "the user's turn is empty",
    "garbled": "the user's turn is not valid text",
    "thanks": "the user only says thanks, praises or says goodbye",
    "assistant": "the user speaks in the assistant's voice",
    "repeat": "the user repeats an earlier question",
    "echo": "the user repeats the assistant's words",
    "reply": "the model classifies the user's turn as a reply",
}
"""Reasons to discard a user's turn, each with its explanation."""

ROLE_QUESTIONS = Questions(
    listening="I have read your message. What do you want to know about it?",
    questions=(
        Question(
            name="role",
            about="instruction",
            text="Look at my last message alone. Does it ask something of you, or is it what an assistant would say to "
            "a user? Reply with one word, request or reply.",
            labels=("request", "reply"),
        ),
    ),
)
"""Query whether a user's turn is a user's; only for checkpoints that are asked the general questions about rows."""
REPLY = 1
"""Index of the label that means drift."""

_MIN_ECHO_WORDS = 6
"""Minimum words of a repeat or echo: shorter texts overlap by chance."""
_OVERLAP = 0.8
"""Minimum share of word trigrams in common for one text to repeat the other."""
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")
_SENTENCES = re.compile(r"[^.!\n]+")

_MUCH = r"(?:\s+(?:you|so|very|much|a lot|a bunch|again|a million|indeed|everyone|all))*"
_FOR = r"(?:\s+for\s+(?:your|the|all|this|that|these|those|sharing|explaining|clarifying|helping)\b[^,;:?]{0,60})?"
_KIND = r"(?:(?:so|very|really|extremely|super|quite|incredibly|most)\s+)*(?:\w+ly\s+)?"
_GOOD = r"(?:helpful|useful|great|good|nice|perfect|wonderful|amazing|awesome|fantastic|excellent|clear|interesting)"
_COURTESIES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:many\s+|ok(?:ay)?,?\s+|great,?\s+|perfect,?\s+|wow,?\s+)?thanks?(?:\s+you)?{_MUCH}{_FOR}",
        r"(?:i\s+)?(?:really\s+|very much\s+)?appreciate\s+(?:it|that|this|your\b[^,;:?]{0,40}|the\b[^,;:?]{0,40})",
        rf"(?:that|this|it)(?:'s|\s+is|\s+was|\s+sounds|\s+looks|\s+seems)\s+(?:a\s+)?{_KIND}{_GOOD}"
        r"(?:\s+(?:answer|response|explanation|information|list|example|advice|story|poem|summary|to know))?",
        rf"(?:what\s+an?\s+)?{_KIND}{_GOOD}"
        r"(?:\s+(?:answer|response|explanation|information|list|example|advice|story|poem|summary|job|work))?",
        r"(?:that|this|it)\s+(?:really\s+|definitely\s+)?(?:helps?|helped|makes sense)(?:\s+(?:me|a lot|so much))*",
        r"(?:ok(?:ay)?|wow|cool|i see|got it|i understand|understood|will do|sounds good|no problem|no worries)",
        r"(?:good\s*)?bye|see you(?:\s+\w+)?|take care|have an?\s+\w+\s+(?:day|evening|night|weekend|one)",
    )
)
_VOICES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)(?: \w+){0,2}, i\b",
        r"\bi(?:'m| am) (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language model)\b",
        r"\bi(?:'d| would|'ll| will) be (?:more than )?(?:happy|glad|delighted) to (?:help|assist)\b",
        r"\bi(?:'m| am) (?:happy|glad|delighted|here) to (?:help|assist)\b",
        r"\bhow (?:can|may) i (?:help|assist) you\b",
        r"\bhope (?:this|that) helps[.!]*$",
        r"\blet me know if you have any (?:other|further|more|additional)?\s*questions\b",
        r"\bis there anything else (?:i can|you(?:'d| would) like|you need)\b",
        r"\bi(?:'m| am) (?:so |very )?(?:glad|happy) (?:that )?i (?:could|was able to) (?:help|assist)\b",
        r"^here(?:'s| is| are) (?:another|an updated|a revised|a corrected|the (?:updated|revised|corrected))\b",
        r"^you(?:'re| are) (?:very |most |quite )?welcome\s*(?:[.!,]|$)",
        r"\bi(?:'m| am)? (?:can't|cannot|can not|unable to|not able to) (?:assist|help) (?:you )?with\b",
        r"^(?:sure|certainly|of course|absolutely)(?: thing)?[!,.]+ here(?:'s|\s+is|\s+are)\b",
        r"^(?:that(?:'s| is) an? |what an? )?(?:great|good|excellent|interesting) question[.!]",
    )
)


def flaw_of(written: Written, text: str, ends: Collection[int]) -> Flaw | None:
    """Why a sampled text is incomplete; None if it is complete.

    Args:
        written: Result of the sampling.
        text: The decoded tokens, stripped.
        ends: Stop tokens that properly end such a text.
    """
    if written.reason != "stop":
        return written.reason
    if written.stop_token not in ends:
        return "stop"
    if not text:
        return "empty"
    return "garbled" if GARBLED in text else None


def drift_of(text: str, instructions: Sequence[str], responses: Sequence[str]) -> str | None:
    """Name the drift in `text`, a user's turn after these instructions and responses; None if no rule applies."""
    text = text.replace("\u2019", "'")
    if is_courtesy(text):
        return "thanks"
    if any(voice.search(text) for voice in _VOICES):
        return "assistant"
    if any(_repeats(text, instruction) for instruction in instructions):
        return "repeat"
    return "echo" if any(_echoes(text, response) for response in responses) else None


def is_courtesy(text: str) -> bool:
    """Whether every sentence is thanks, praise or goodbye and none asks for anything."""
    if "?" in text:
        return False
    sentences = [part.strip(" \t,;:-") for part in _SENTENCES.findall(text)]
    sentences = [sentence for sentence in sentences if _WORDS.search(sentence)]
    return bool(sentences) and all(_is_courteous(sentence) for sentence in sentences)


def _is_courteous(sentence: str) -> bool:
    parts = [part for part in re.split(r"\s*[,;]\s*(?:and\s+)?", sentence) if part]
    return all(any(each.fullmatch(part) for each in _COURTESIES) for part in parts) or any(
        each.fullmatch(sentence) for each in _COURTESIES
    )


def _repeats(text: str, earlier: str) -> bool:
    """Whether two texts are the same except for a few words."""
    one, other = words_of(text), words_of(earlier)
    if one == other:
        return True
    shared, union = _trigrams(one) & _trigrams(other), _trigrams(one) | _trigrams(other)
    return min(len(one), len(other)) >= _MIN_ECHO_WORDS and len(shared) >= _OVERLAP * len(union)


def _echoes(text: str, response: str) -> bool:
    """Whether a text copies the response from its first words on; a user's quotation follows words of their own."""
    words, source = words_of(text), words_of(response)
    if words == source:
        return True
    if len(words) < _MIN_ECHO_WORDS:
        return False
    own, trigrams = _trigrams(words), _trigrams(source)
    return tuple(words[:3]) in trigrams and len(own & trigrams) >= _OVERLAP * len(own)


def words_of(text: str) -> list[str]:
    """Case-folded words without punctuation; single characters in Chinese, Japanese and Korean."""
    return _WORDS.findall(text.casefold())


def _trigrams(words: Sequence[str]) -> set[tuple[str, ...]]:
    trigrams: Iterable[tuple[str, ...]] = zip(words, words[1:], words[2:], strict=False)
    return set(trigrams)
