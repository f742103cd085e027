"""Wrappers around an instruction: labels, numbers and headings before it; quotes, emphasis and HTML around it.

"Task:", "Question 3:", "**Q1.**" or "2)" come from a list that the model took itself to be writing. If the list is
really there, or the label belongs to a structured message, they stay.
"""

import re
from collections.abc import Sequence

from mlx_suite.magpie.sanitiser.code_blocks import code, is_fence
from mlx_suite.magpie.sanitiser.wording import begins_message, begins_request, first_word

_QUOTES = tuple((pair[0], pair[1]) for pair in ('""', "''", "“”", "‘’", "«»", "„“", "„”", "「」", "『』", "＂＂"))
_DOUBLE = '"“”„«»「」『』＂'
_MARKS = ("***", "**", "__", "*", "_")
_TAGGED = re.compile(
    r"<(?P<tag>b|strong|i|em|u|p|div|span|h[1-6]|q|blockquote)(?:\s[^<>]*)?>(?P<inside>.*)</(?P=tag)>", re.I | re.S
)
_OPEN_TAG = re.compile(r"<(?P<tag>b|strong|i|em|u|p|div|span)>(?=[^\s<])", re.I)
_CLOSE_TAG = re.compile(r"(?<=[.?!。？！؟।])</(?P<tag>b|strong|i|em|u|p|div|span)>$", re.I)
_LINE_BREAKS = re.compile(r"(?:\s*<br\s*/?>)+$|^(?:<br\s*/?>\s*)+", re.I)
_ENDED = re.compile(r"[.?!。？！؟।]$")


def unwrapped(text: str) -> str:
    """`text` without one pair of quotes, emphasis marks or HTML tags around it, or without a stray half of a pair."""
    for peel in (_unquoted, _unmarked, _untagged):
        inside = peel(text)
        if inside != text and inside.strip():
            return inside
    return text


def _unquoted(text: str) -> str:
    for opens, closes in _QUOTES:
        if len(text) > 2 and text[0] == opens and text[-1] == closes and _is_text(text[1:-1]):
            # 'Tis the boys': an apostrophe looks like a single quote, but none follows the end of a sentence.
            apostrophes = opens in "'‘" and not _ENDED.search(text[:-1])
            if not apostrophes and not _holds_quote(text[1:-1], opens, closes):
                return text[1:-1]
    return _without_half_quote(text)


def _without_half_quote(text: str) -> str:
    """`text` without the only double quote at one end: the turn began or ended inside the quotes."""
    if sum(text.count(quote) for quote in _DOUBLE) != 1:
        return text
    if text[0] in _DOUBLE and " " in text and begins_message(text[1:]):
        return text[1:]
    return text[:-1] if text[-1] in _DOUBLE and _ENDED.search(text[:-1]) else text


def _holds_quote(text: str, opens: str, closes: str) -> bool:
    if opens in "'‘":  # an apostrophe within a word is not a quote
        return re.search(r"(?<![^\W_])['‘’]|['‘’](?![^\W_])", text) is not None
    return opens in text or closes in text


def _unmarked(text: str) -> str:
    for mark in _MARKS:
        size = len(mark)
        is_wrapped = len(text) > 2 * size and text.startswith(mark) and text.endswith(mark)
        if is_wrapped and _is_text(inside := text[size:-size]) and mark[0] not in (inside[0], inside[-1]):
            if mark not in inside and not inside[0].isspace() and not inside[-1].isspace():
                return inside
        if size > 1 and mark[0] == "*" and text.count(mark) == 1:
            if text.startswith(mark) and begins_message(text[size:]) and not text[size:].startswith(("*", " ")):
                return text[size:]
            if text.endswith(mark) and _ENDED.search(text[:-size]):
                return text[:-size]
    return text


def _untagged(text: str) -> str:
    bare = _LINE_BREAKS.sub("", text)
    if bare != text:
        return bare
    match = _TAGGED.fullmatch(text)
    if match and _is_text(match["inside"]):
        # Nested pairs go together. Any other markup inside is the user's own, and then so is the pair around it:
        # "<b>one</b> and <b>two</b>" begins and ends with tags of different pairs.
        inside = _untagged(match["inside"].strip())
        return text if re.search(r"</?[a-z]", inside, re.IGNORECASE) else inside
    tags = re.findall(r"</?[a-z][^<>]*>", text, re.I)
    if len(tags) != 1:
        return text
    opened, closed = _OPEN_TAG.match(text), _CLOSE_TAG.search(text)
    if opened and begins_message(text[opened.end() :]):
        return text[opened.end() :]
    return text[: closed.start()] if closed else text


def _is_text(text: str) -> bool:
    """Whether a text has several words or is non-ASCII (scripts without spaces): `"main"` and `__init__` are names."""
    return " " in text.strip() or not text.isascii()


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
    """`text` without its leading label, unless other labels or headings follow: then it is a structured message."""
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
    """Whether a match is a label rather than words of a sentence: not "Task management", "Q. E. D."."""
    if match is None:
        return False
    end = (match["end"] + (match["late"] or "")).strip()
    if not end:
        return "\n" in match[0] or match.end() == len(match.string)  # on a line of its own
    return end in (":", "：") or bool(match["number"]) or (match["name"].lower() == "q" and end == ".")


def _refers_back(rest: str, name: str) -> bool:
    """Whether the message refers to the labelled part: "answer the question", "is that a correct answer?"."""
    named = rf"\b(?:the|this|that|above|each)\s+(?:\w+\s+)?{re.escape(name)}\b"
    return re.search(rf"{named}|\n.*\banswer\b", rest, re.IGNORECASE) is not None


def without_number(text: str) -> str:
    """`text` without a leading "3." or bullet, unless another line has one too: then it is a list."""
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
    """`text` without the leading `#`, if it is a single heading line."""
    match = _HEADING.match(text)
    if match is None or "\n" in text or _DIRECTIVE.match(text) or not _may_begin(text[match.end() :]):
        return text
    return text[match.end() :]


def _may_begin(rest: str) -> bool:
    return bool(rest.strip()) and not is_fence(rest.split("\n", 1)[0]) and begins_message(rest)


def _prose(text: str) -> Sequence[str]:
    """The lines that are not code, blank ones included."""
    lines = text.split("\n")
    return [line for line, hidden in zip(lines, code(lines), strict=True) if not hidden]
