"""Cut off the model's own answer after the user's message.

A model that writes the user's turn sometimes continues with an answer. The text is cut at a marker that begins a line
("Answer:", "### Response:", "## Step 1"), and only if

* the text before it is a complete request: its last sentence has ended;
* the message does not refer to the marker: a format it asks for, an answer to grade, a text to translate;
* the marker is not part of a structure: a form, a quiz, a multiple-choice exercise, a dialogue, few-shot examples;
* nothing after it asks again.

Magpie's reference code cuts everything after the first question mark, and misses its own markers: it looks for a
second colon after "Answer:".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mlx_suite.magpie.sanitiser.code_blocks import code
from mlx_suite.magpie.sanitiser.wording import (
    asks,
    begins_request,
    first_word,
    is_question,
    paragraphs,
    sentences,
)


class MarkerKind(Enum):
    """Kinds of markers, by strength of evidence."""

    ANSWER = auto()
    """"Answer:": weak evidence, because pasted texts and forms contain it too."""
    REPLY = auto()
    """"### Response:", "Assistant:": the assistant's side of a template."""
    STEPS = auto()
    """"## Step 1": how Llama 3.1 opens an answer."""


_WORDS = (
    r"(?:(?:the |my |final |correct |right |model |sample |suggested |short )*(?:answer|solution|response|reply|"
    r"explanation)|(?:correct|right) option|ans|antwort|lösung|respuesta|solución|réponse|risposta|resposta|ответ|"
    r"решение|答案|回答|解答|答|解析|الإجابة|الجواب|उत्तर)"
)
_MARKS: Sequence[tuple[MarkerKind, re.Pattern[str]]] = [
    (MarkerKind.STEPS, re.compile(r" {0,3}(?:#{1,6} *(?:\*\*)?|\*\*)step (?:1|one)\b", re.IGNORECASE)),
    (
        MarkerKind.REPLY,
        re.compile(
            r" {0,3}(?:#{1,6} *(?:\*\*)?(?:(?:model |ai )?(?:response|answer|solution|assistant|reply))"
            r"(?:\*\*)?\s*[:：]?(?:\*\*)?\s*$"
            r"|#{1,6} *(?:\*\*)?(?:response|answer|solution|assistant)(?:\*\*)?[:：]"
            r"|(?:\*\*)?(?:assistant|ai assistant|ai response|chatgpt)(?:\*\*)?\s*[:：])",
            re.IGNORECASE,
        ),
    ),
    (
        MarkerKind.ANSWER,
        re.compile(
            rf" {{0,3}}(?:\*\*|__)?(?:{_WORDS}(?:\*\*|__)?\s*[:：]|the (?:correct |right |final )?answer is\b"
            r"|step 1\s*[:：]|(?:sure|certainly|of course|absolutely)[!,.] (?:here|i['’]d|i can|let)\b)",
            re.IGNORECASE,
        ),
    ),
]
_ROLE_LINE = re.compile(r"(?:assistant|model)\s*$")
_GLUED_ROLE = re.compile(r"(?<=[.!?)\]\"”*])assistant\s*$")

_Q, _A = re.compile(r"\W*q\d*\W*[.:)]", re.IGNORECASE), re.compile(r"\W{0,2}a\d*[*_]*[.:]", re.IGNORECASE)

_LABEL = re.compile(r"\s*[*_>#-]*\s*(?P<label>[^\W\d_][\w'’/()-]*(?: [\w'’/()-]+){0,2})[*_]*\s*[:：]")
_QUESTION_LABEL = re.compile(
    r"\s*[*_#>]*\s*(?:question|problem|exercise|task|instruction|prompt|user|human|q|frage|aufgabe|pregunta|tarea|"
    r"pergunta|domanda|вопрос|задание|问题|問題|问|問|题目|質問|السؤال|سؤال|प्रश्न|सवाल)s?\s*#?\d*[*_]*\s*[.:：)]",
    re.IGNORECASE,
)
_OPTION = re.compile(r"\s*[*_]*[(\[]?[A-Ea-e][.)\]:]\s*\S")
_INLINE_OPTION = re.compile(r"(?<=\S )\([A-E]\) \S")
_NUMBERED = re.compile(r"\s*\(?\d{1,2}[.)]\s")

_EDITING = re.compile(
    r"\b(?:rewrite|translat\w*|summari[sz]\w*|proofread\w*|paraphrase|edit|improve|shorten|rephrase|grade|critique|"
    r"annotate|transcribe|revise|polish|feedback)\b",
    re.IGNORECASE,
)
_PASTED = re.compile(
    r"\b(?:(?:this|these|my|his|her|their|student'?s?|students'|following|below|given|above|each) (?:\w+ ){0,2}?"
    r"(?:answers?|solutions?|responses?|repl(?:y|ies)|explanations?|proof|reasoning|steps?|instructions|procedure|"
    r"worksheet|interview|exchange|script|essay|text|passage|paragraph|email|letter|article|document|recipe|story|post|"
    r"excerpt|prompt|examples?)\b"
    r"|(?:based on|given|from|using|and|with|for|of) (?:the|an|its) (?:answer|solution|response|explanation)s?"
    r"|quiz|faq|flash ?cards?|dialogue|conversation|transcript|chat ?bot|chat log|answer key|riddles)\b",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"\b(?:formats?|formatted|template|in the form|layout|as follows|headings?|header|sections?|labell?ed|"
    r"prefix|prefixed|pattern|structure|structured|like this|like so)\b",
    re.IGNORECASE,
)
_FOLLOWING = re.compile(r"\b(?:following|below)\b(?!.*[:：]\s*\S)", re.IGNORECASE)
_SOLVING = re.compile(
    r"\b(?:solve|answer|calculate|compute|evaluate|find|determine|simplify|factor\w*|integrate|differentiate|guess|prove|"
    r"estimate|what|which|who|when|where|how (?:many|much|long|far|old))\b",
    re.IGNORECASE,
)
_USERS_END = re.compile(r"(?:now|please|can you|could you|would you|also)\b", re.IGNORECASE)
_CLOSED = re.compile(r"[.!?。！？؟।…][\"'”’»)\]*_`]*$")


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A text split at a marker."""

    kind: MarkerKind
    head: list[str]
    """Lines before the marker, without trailing blank ones."""
    head_is_code: bool
    """Whether the last line of `head` is code."""
    spaced: bool
    """Whether a blank line precedes the marker."""
    mark: str
    """The matched marker, from the line's first letter."""
    tail: list[str]
    """The marker's line and all lines after it, code blanked out."""

    @property
    def text(self) -> str:
        """The part before the marker."""
        return "\n".join(self.head)


def without_answer(text: str) -> str:
    """`text` up to the model's own answer; the full text if there is none."""
    lines = text.split("\n")
    is_code = code(lines)
    for place, line in enumerate(lines):
        if is_code[place]:
            continue
        glued = _GLUED_ROLE.search(line)
        if glued and _blank(lines, place + 1):
            return "\n".join([*lines[:place], line[: glued.start()]])
        cut = _cut_at(lines, is_code, place)
        if cut is not None and _is_own_answer(cut):
            return cut.text
    return text


def _cut_at(lines: list[str], is_code: list[bool], place: int) -> _Cut | None:
    """Split the text at this line, if it begins with a marker and is not the first."""
    kind, mark = _mark_of(lines, place)
    end = place
    while kind is not None and end > 0 and not lines[end - 1].strip():
        end -= 1
    if kind is None or end == 0:
        return None
    return _Cut(
        kind=kind,
        head=lines[:end],
        head_is_code=is_code[end - 1],
        spaced=end < place,
        mark=mark,
        tail=["" if hidden else line for line, hidden in zip(lines[place:], is_code[place:], strict=True)],
    )


def _mark_of(lines: list[str], place: int) -> tuple[MarkerKind | None, str]:
    for kind, pattern in _MARKS:
        if match := pattern.match(lines[place]):
            return kind, match[0].strip()
    if _Q.match(lines[0]) and (match := _A.match(lines[place])):
        return MarkerKind.ANSWER, match[0].strip()
    # A role name on a line of its own: the template's special tokens around it are not shown.
    if _ROLE_LINE.fullmatch(lines[place]) and (_blank(lines, place + 1) or lines[place].strip() == "model"):
        before = next((line for line in reversed(lines[:place]) if line.strip()), "")
        if _CLOSED.search(before.rstrip()):
            return MarkerKind.REPLY, lines[place].strip()
    return None, ""


def _is_own_answer(cut: _Cut) -> bool:
    return _is_complete_request(cut) and not _mentions_mark(cut) and not _is_structure(cut) and not _asks_again(cut)


def _is_complete_request(cut: _Cut) -> bool:
    """Whether the part before the marker is a complete request."""
    last = cut.head[-1].strip()
    if last.rstrip("*_ ").endswith((":", "：", ",", "，", "#", "-")):
        return False
    if not asks(_without_label(cut.text)):
        return False
    closed = bool(_CLOSED.search(last))
    if _is_field(last) and not (len(cut.head) == 1 and begins_request(last)):
        return False
    return closed or cut.head_is_code or cut.spaced or (len(cut.head) == 1 and begins_request(_without_label(last)))


def _mentions_mark(cut: _Cut) -> bool:
    """Whether the message asks for the marker, or is about a text that may contain it."""
    head = cut.text
    word = re.escape(re.sub(r"[\W_]*$|^[\W_]*", "", cut.mark))
    quoted = rf"[\"'“‘«`*\[<(]\s*{word}\s*[:.…]*\s*[\"'”’»`*\])>]|(?<=\S )\b{word}\s*[:：]"
    if word and re.search(quoted, head, re.IGNORECASE):
        return True
    opening = _opening(cut.head)
    if _PASTED.search(head) or (opening and _EDITING.search(head)):
        return True
    if cut.kind is MarkerKind.STEPS:
        return False
    if cut.kind is MarkerKind.ANSWER and opening and not _SOLVING.search(opening):
        return True  # "Explain the joke:"
    placed = rf"\b(?:put|place|mark|include|add|begin|start|end|finish|label|word)\b.{{0,40}}\b{word}\b"
    return _FORMAT.search(head) is not None or re.search(placed, head, re.IGNORECASE) is not None


def _opening(head: Sequence[str]) -> str:
    """The line that introduces a payload on the lines after it; "" if there is none."""
    for line in head:
        if line.rstrip().rstrip("*_").endswith((":", "：")) or _FOLLOWING.search(line):
            return line
    return ""


def _is_structure(cut: _Cut) -> bool:
    """Whether the marker is one of several parts that belong together."""
    if cut.kind is MarkerKind.STEPS:
        return False
    label = cut.mark.strip("*_# :：").casefold()
    again = [line for line in [*cut.head, *cut.tail[1:]] if line.strip("*_#> ").casefold().startswith(label)]
    questions = [line for line in cut.head[1:] if _QUESTION_LABEL.match(line)]
    if questions or any(re.match(r"[\W_]*[:：]", line.strip("*_#> ").casefold()[len(label) :]) for line in again):
        return True
    if cut.kind is MarkerKind.REPLY:
        return False
    first = cut.head[0]
    if any(_is_field(line) for line in cut.head[1:]) or (_is_field(first) and not begins_request(first)):
        return True
    options = len(_INLINE_OPTION.findall(cut.text)) + sum(_OPTION.match(line) is not None for line in cut.head)
    numbered = sum(_NUMBERED.match(line) is not None and "?" in line for line in cut.head)
    return options >= 2 or numbered >= 2


def _asks_again(cut: _Cut) -> bool:
    """Whether the part after the marker contains another request by the user."""
    if any(_QUESTION_LABEL.match(line) for line in cut.tail[1:]):
        return True
    lines = [line for line in cut.tail[1:] if line.strip()]
    if cut.kind is MarkerKind.REPLY and lines and is_question(lines[-1]):
        return True
    parts = paragraphs("\n".join(cut.tail))
    if cut.kind is MarkerKind.ANSWER and any(is_question(one) for one in sentences("\n".join(cut.tail))):
        return True
    if len(parts) < 2:
        return False
    last = parts[-1].strip()
    if cut.kind is MarkerKind.STEPS:
        return bool(_USERS_END.match(last))
    return is_question(last) or begins_request(last) or first_word(last) in {"now", "please", "also"}


def _is_field(line: str) -> bool:
    """Whether a line looks like a form field: "Name: Tom", "Output: [0, 1]"."""
    if _QUESTION_LABEL.match(line):
        return False
    match = _LABEL.match(line)
    return match is not None and match["label"][0].isupper()


def _without_label(text: str) -> str:
    """`text` without a leading "Question 3:"."""
    return _QUESTION_LABEL.sub("", text, count=1) if _QUESTION_LABEL.match(text) else text


def _blank(lines: list[str], place: int) -> bool:
    """Whether a line is blank or past the end."""
    return place >= len(lines) or not lines[place].strip()
