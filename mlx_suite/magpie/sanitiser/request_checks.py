"""Checks on an instruction's wording: does it lack its payload, or is it a reply instead of a request?

English only, and conservative: whatever these functions do not recognise passes.
"""

import re

from mlx_suite.magpie.sanitiser.code_blocks import code
from mlx_suite.magpie.sanitiser.wording import OFFER, asks, begins_request, is_question, paragraphs, sentences

_NO = r"(?:can['’]?t|cannot|can not|am unable to|['’]?m unable to|am not able to|['’]?m not able to)"
_REFUSED = r"(?:assist|help|provide|fulfill?|answer|comply|create|generate|write|access|support|engage|discuss)\b"
_REFUSAL = re.compile(
    rf"(?:(?:i['’]?m|i am) (?:really |very |so )?sorry|sorry|i apologi[sz]e),? (?:but )?"
    rf"i ?(?:{_NO} (?:\w+ )?{_REFUSED}|(?:do not|don['’]?t) (?:have|see|know|understand|feel)\b)"
    rf"|i ?{_NO} (?:\w+ )?(?:assist|help (?:you )?with|provide|fulfill?|comply|generate|engage)\b"
    r"|(?:i['’]?m sorry,? (?:but )?)?(?:as an (?:ai|artificial intelligence)|(?:i['’]?m|i am) (?:just )?an ai)\b",
    re.IGNORECASE,
)
_REPLY = re.compile(
    r"(?:sure|certainly|absolutely|of course|no problem|great|okay|ok|understood|got it)\b ?[!,.:]"
    r"|(?:sure|certainly|of course) (?:thing|here)\b"
    r"|(?:i['’]d|i would) be (?:happy|glad|delighted) to\b|i['’]?m (?:here|happy|glad|ready) to (?:help|assist)\b"
    r"|(?:you['’]re|you are) welcome\b|(?:that['’]s|what) an? (?:great|good|excellent|interesting) question\b"
    r"|(?:great|good|excellent|interesting) question\b|thank you for (?:your question|the question|asking|reaching)\b"
    r"|here(?:['’]s| is| are) (?!my\b|our\b|what i\b|the (?:code|text|error|problem|thing)\b|code\b)[^.?\n]*[:!]"
    r"|(?:to|let['’]s) (?:solve|answer|address) (?:this|the|your) (?:problem|question|equation|request)\b"
    r"|the (?:correct |right |final )?answer (?:is|to your question)\b|(?:answer|solution|response|assistant)\s*[:：]"
    r"|#{1,6} *step 1\b",
    re.IGNORECASE,
)
_GREETING = re.compile(r"(?:hi|hello|hey|welcome|greetings)\b[^.!?\n]*[.!,]?", re.IGNORECASE)

_PASTED = (
    r"(?:text|texts|passage|paragraph|paragraphs|sentence|sentences|article|essay|code|snippet|function|program|script|"
    r"query|email|e-mail|letter|message|document|excerpt|poem|story|dialogue|conversation|transcript|review|reviews|"
    r"list|lists|table|data|dataset|words|phrase|phrases|equation|equations|expression|problem|problems|question|"
    r"questions|statement|statements|input|content|report|speech|quote|resume|lyrics|recipe|abstract|notes|"
    r"instructions|prompt|scenario|information|options|items|numbers)"
)
_FOLLOWING = re.compile(rf"\bthe following (?:\w+[ -]){{0,3}}?{_PASTED}\b", re.IGNORECASE)
_BELOW = re.compile(
    rf"\b{_PASTED} (?:\w+ )?below\b|\b(?:shown|given|listed|provided|written|pasted|attached|presented) below\b",
    re.IGNORECASE,
)
_THIS = re.compile(
    r"^(?:please )?(?:can you |could you )?(?:please )?(?:summari[sz]e|proofread|translate|rewrite|paraphrase|edit|fix|"
    r"debug|shorten|correct|improve|rephrase|refactor) (?:this|these) (?:\w+ )?"
    rf"{_PASTED}(?: (?:into|to|in|for|from|so|by|and) [^:\"“'`]*)?[.!?]*$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"[\[<({]\s*(?:insert|paste|enter)\b[^\])}>\n]*[\])}>][\"'”’.*_ ]*$", re.IGNORECASE)
_LABELLED = re.compile(r"\s*[\w*#>-][^:\n]{0,30}[:：]")
_CUE = re.compile(r"[\W_]*(?:output|answer|response|result|solution|summary|translation|tl;dr|a)[\W_]*$", re.IGNORECASE)
_INPUT_LABEL = re.compile(rf"[\W_]*(?:{_PASTED})[\W_]*$", re.IGNORECASE)
_PROMISED = re.compile(r"\b(?:following|follows|below|here|attached|next)\b", re.IGNORECASE)
MIN_PAYLOAD = 100
"""Minimum number of characters before a trailing colon that count as the payload."""
_BARE_LABEL = re.compile(r"\s*[*#>]*\s*(?:[\w;'-]+ ?){1,3}[:：]\**$")
_CARRIED = re.compile(r"[:：]\s*\S|[\"“”«»„`|]|(?<![^\W_])['‘][^'’]+['’](?![^\W_])")
"""A payload within a line: text after a colon, in quotes, in backticks, in a table."""


def lacks_payload(text: str) -> bool:
    """Whether a request refers to a text that is missing: nothing follows "the following text" or the last colon.

    Magpie's reference filter drops every row that ends in a colon, and its sanitiser produces such rows by cutting off
    the payload. A pattern to complete ("Q: … A: … Q: … A:") also ends in a colon, and lacks nothing.
    """
    lines = text.strip().split("\n")
    last = lines[-1].strip()
    if _PLACEHOLDER.search(last):
        return True
    if any(code(lines)):
        return False
    if last.rstrip("*_\"' ").endswith((":", "：")):
        return not _is_cue(last, lines[:-1])
    if len(lines) > 1 or _CARRIED.search(last):
        return False
    parts = sentences(last)
    for place, sentence in enumerate(parts):
        if _FOLLOWING.search(sentence) or _BELOW.search(sentence) or _THIS.match(sentence):
            # The rest may be the payload, unless every sentence of it is another request.
            return all(begins_request(other) for other in parts[place + 1 :])
    return False


def _is_cue(last: str, before: list[str]) -> bool:
    """Whether a trailing "xyz:" line is a cue to continue the text before it, rather than to introduce a missing one.

    Examples: "TL;DR:" after an article, "A:" after pairs of questions and answers.
    """
    *leading, end = sentences(last)
    if _PROMISED.search(end):
        return False
    context = [line for line in [*before, *leading] if line.strip()]
    if _BARE_LABEL.match(end):
        if any(line.strip().startswith(end) for line in context) or _CUE.match(end):
            return bool(context)
        return not _INPUT_LABEL.match(end) and (len(context) > 1 or any(_LABELLED.match(line) for line in context))
    carried = any(_CARRIED.search(line) for line in [*context, end])
    return carried or sum(len(line) for line in context) > MIN_PAYLOAD


def looks_like_answer(text: str) -> bool:
    """Whether a text is a reply ("Sure! Here is …", "I'm sorry, but I can't …") and requests nothing."""
    text = text.strip().lstrip('*"“# ') if not text.lstrip().startswith("#") else text.strip()
    greeting = _GREETING.match(text)
    if greeting and OFFER.search(text):
        return not asks(text[greeting.end() :])
    if not (_REPLY.match(text) or _REFUSAL.match(text)):
        return OFFER.match(text) is not None and not asks(text)
    return not _asks_later(text)


def _asks_later(text: str) -> bool:
    """Whether a text that begins as a reply still asks: a question, or a command in its first line or last paragraph.

    Commands elsewhere do not count: lists of advice are full of them.
    """
    if any(is_question(sentence) for sentence in sentences(text)):
        return True
    _, *rest = sentences(text.split("\n", 1)[0])
    parts = paragraphs(text)
    return any(_commands(sentence) for sentence in rest) or (len(parts) > 1 and _commands(parts[-1]))


def _commands(sentence: str) -> bool:
    return begins_request(sentence) and not OFFER.search(sentence)
