"""Labels and numbers in front of an instruction: "Task:", "Question 3:", "**Q1.**", "2)".

They stand for a list that the model thought it was writing. Where the list is there, or the label is one of a
structured message, they belong to the message.
"""

import re
from collections.abc import Sequence

from mlx_suite.magpie.sanitiser.code_blocks import code, is_fence
from mlx_suite.magpie.sanitiser.wording import begins_message, begins_request, first_word

_NAMES = (
    r"tasks?|questions?|q|parts?|problems?|exercises?|prompts?|instructions?|quer(?:y|ies)|requests?|assignments?|"
    r"challenges?|user(?: (?:question|query|prompt|request|input|message))?|human|input question|"
    r"pregunta|tarea|frage|aufgabe|tâche|consigne|pergunta|tarefa|domanda|compito|вопрос|задание|задача|"
    r"问题|問題|任务|指令|题目|質問|سؤال|السؤال|مهمة|प्रश्न|सवाल|कार्य"
)
_LABEL = re.compile(
    rf"(?P<hash>#{{1,6}}\s+)?(?P<bold>\*\*|__)?(?P<name>{_NAMES})\s*(?:#|no\.?)?\s*(?P<number>\d{{1,3}}|[a-c](?=[.:)]))?"
    r"(?P<end>\s*[:：]|[.)](?=\s|\*|_|$)|\s+[-–—](?=\s)|\s*(?=\*\*|__)|\s*(?=\n|$))(?:\*\*|__)?(?P<late>\s*[:：])?"
    r"\s*",
    re.IGNORECASE,
)
_FIELD = re.compile(r"\s*[*_>#-]*\s*(?:#{1,6}\s|[^\W\d_][\w'’/()-]*(?: [\w'’/()#-]+){0,2}[*_]*\s*[:：])")
_NUMBER = re.compile(
    r"(?:[(\[]?\d{1,3}[.)\]、．]|[(\[]?[A-Za-z][)\]]|#\d{1,3}[.:)]?(?=\s)|\*\*\d{1,3}[.)]\*\*)\s*(?=[^\d\s.])"
)
_BULLET = re.compile(r"[-*•‣–—]\s+(?=\S)")
_HEADING = re.compile(r"#{1,6}\s+(?=\S)")
_DIRECTIVE = re.compile(r"#\s*(?:include|define|if|import|error|line|use)\b(?!.*[.?!]$)")
_ROLES = ("user", "human")
_FIRST_PERSON = frozenset("i i'm i've i'd my we hi hello hey please".split())


def without_label(text: str) -> str:
    """`text` without the label in front, unless other labels or headings follow: then it is a structured message."""
    match = _LABEL.match(text)
    if match is None or not _is_label(match):
        return text
    rest = text[match.end() :]
    if not _may_begin(rest) or any(_FIELD.match(line) or _is_label(_LABEL.match(line)) for line in _prose(rest)[1:]):
        return text
    if _refers_back(rest, match["name"]):
        return text
    if match["name"].lower() in _ROLES and not (begins_request(rest) or first_word(rest) in _FIRST_PERSON):
        return text  # "Human: All Too Human" is a title
    return rest


def _is_label(match: re.Match[str] | None) -> bool:
    """Whether what looks like a label is none of a sentence's words: "Task management", "Q. E. D."."""
    if match is None:
        return False
    end = (match["end"] + (match["late"] or "")).strip()
    if not end:
        return "\n" in match[0] or match.end() == len(match.string)  # on a line of its own
    return end in (":", "：") or bool(match["number"]) or (match["name"].lower() == "q" and end == ".")


def _refers_back(rest: str, name: str) -> bool:
    """Whether the message speaks of the labelled part: "answer the question", "is that a correct answer?"."""
    named = rf"\b(?:the|this|that|above|each)\s+(?:\w+\s+)?{re.escape(name)}\b"
    return re.search(rf"{named}|\n.*\banswer\b", rest, re.IGNORECASE) is not None


def without_number(text: str) -> str:
    """`text` without "3." or a bullet in front, unless another line has one as well: then it is a list."""
    for pattern in (_NUMBER, _BULLET):
        match = pattern.match(text)
        if match is None:
            continue
        rest = text[match.end() :]
        if (_may_begin(rest) or without_label(rest) != rest) and not any(
            pattern.match(line.strip()) for line in _prose(rest)[1:]
        ):
            return rest
    return text


def without_heading(text: str) -> str:
    """A text of one line that is all heading, without the `#` in front."""
    match = _HEADING.match(text)
    if match is None or "\n" in text or _DIRECTIVE.match(text) or not _may_begin(text[match.end() :]):
        return text
    return text[match.end() :]


def _may_begin(rest: str) -> bool:
    return bool(rest.strip()) and not is_fence(rest.split("\n", 1)[0]) and begins_message(rest)


def _prose(text: str) -> Sequence[str]:
    """The lines that are no code, blank ones among them."""
    lines = text.split("\n")
    return [line for line, hidden in zip(lines, code(lines), strict=True) if not hidden]
