"""Whether a model that plays the user has forgotten who it is.

Behind an answer small models tend to go on as the assistant, to thank, or to say what has been said (the paper of
Magpie, arXiv 2406.08464, found it of Llama 3 8B). A few rules tell what no user would write, and each of them is
narrow: a real question that is thrown away is a loss, and a drifted one that slips through can be seen by the role
question, which asks the model itself and knows all languages. What opens a first instruction in vain ("Sure, …",
"Great, …"; `verdicts`) may well open a later one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from mlx_suite.data.questions import Question, Questions

DRIFTS: Mapping[str, str] = {
    "limit": "the user's turn reached its limit of tokens",
    "context": "the conversation reached the end of the model's context",
    "stop": "the user's turn ended with another token than the template's",
    "empty": "the user's turn is empty",
    "garbled": "the user's turn is not valid text",
    "thanks": "the user only thanks, praises or says goodbye",
    "assistant": "the user speaks with the assistant's voice",
    "repeat": "the user asks what was asked before",
    "echo": "the user says what the assistant has said",
    "reply": "the model calls the user's turn a reply",
}
"""Every reason why a user's turn is no user's, and what it says."""

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
"""Who speaks, asked aside behind a user's turn of checkpoints that are asked the general questions about rows."""
REPLY = 1
"""Place of the label that means drift."""

_SHORTEST = 6
"""Words of a text that can be called an echo: shorter ones are alike by chance."""
_ALIKE = 0.8
"""Share of the triples of words that two texts have in common when one says again what the other said."""
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


def drift_of(text: str, questions: Sequence[str], answers: Sequence[str]) -> str | None:
    """Why `text`, a user's turn behind these questions and answers, is no user's; None where no rule says so."""
    text = text.replace("\u2019", "'")
    if is_courtesy(text):
        return "thanks"
    if any(voice.search(text) for voice in _VOICES):
        return "assistant"
    if any(_says_again(text, question) for question in questions):
        return "repeat"
    return "echo" if any(_is_taken_from(text, answer) for answer in answers) else None


def is_courtesy(text: str) -> bool:
    """Whether each sentence thanks, praises or says goodbye, and none asks for anything."""
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


def _says_again(text: str, earlier: str) -> bool:
    """Whether two texts are the same but for a few words."""
    one, other = words_of(text), words_of(earlier)
    if one == other:
        return True
    shared, together = _triples(one) & _triples(other), _triples(one) | _triples(other)
    return min(len(one), len(other)) >= _SHORTEST and len(shared) >= _ALIKE * len(together)


def _is_taken_from(text: str, answer: str) -> bool:
    """Whether a text is the answer's from its first words on; one that quotes it has words of its own in front."""
    words, answered = words_of(text), words_of(answer)
    if words == answered:
        return True
    if len(words) < _SHORTEST:
        return False
    triples = _triples(answered)
    own = _triples(words)
    return tuple(words[:3]) in triples and len(own & triples) >= _ALIKE * len(own)


def words_of(text: str) -> list[str]:
    """Words without regard to case and to what stands between them; of Chinese, Japanese and Korean, letters."""
    return _WORDS.findall(text.casefold())


def _triples(words: Sequence[str]) -> set[tuple[str, ...]]:
    following: Iterable[tuple[str, ...]] = zip(words, words[1:], words[2:], strict=False)
    return set(following)
