"""How requests are worded: word lists and sentence tests shared by the sanitiser and the request checks.

The lists are mostly English. They are consulted only where a text already looks odd. When in doubt, the text counts as
a request: a good row that is rejected is lost, while a poor one can still be rejected by its tags.
"""

import re

QUESTION_WORDS = frozenset(
    "what what's which who who's whom whose where where's when why how how's is are am was were do does did can "
    "could will would should shall may might has have had isn't aren't don't doesn't didn't can't couldn't won't "
    "wouldn't shouldn't qué cuál cuáles quién cómo dónde cuándo cuánto cuántos por quel quelle quels quelles qui "
    "comment pourquoi combien quand où est-ce was wer wie warum wo wann welche welcher welches wieviel wie kannst "
    "che cosa quale quali chi come perché dove quando qual quais quem onde".split()
)
"""First words of a question in English, and the most frequent in Spanish, French, German, Italian and Portuguese."""

IMPERATIVES = frozenset(
    "add advise analyse analyze answer apply argue arrange ask assess assume brainstorm build calculate categorise "
    "categorize change check chart choose classify code combine come compare complete compose compute conduct "
    "consider construct continue contrast convert copy correct count create critique debug decide define "
    "demonstrate derive describe design detect determine develop devise differentiate discuss divide draft draw "
    "edit elaborate estimate evaluate examine expand explain explore express extract factor fill find finish fix "
    "form format formulate generate give group guess help identify illustrate implement improve include insert "
    "integrate interpret introduce invent investigate join judge justify keep list locate look make mark match "
    "mention modify multiply name note offer optimise optimize order organise organize outline paraphrase perform "
    "pick plan play please plot point predict prepare present pretend print proofread propose prove provide put "
    "rank rate read reason recall recommend recreate refactor remove rename reorder repeat rephrase replace report "
    "research reply recite respond restate reverse review revise rewrite roleplay say score select share shorten "
    "show simplify simulate sketch solve sort speak spell split state subtract suggest sum tabulate summarise "
    "summarize take talk teach tell test think trace transform translate turn use verify visualise visualize walk "
    "work write escribe explica describe crea dame haz traduce calcula escribir écris écrivez explique expliquez "
    "décris décrivez donne donnez crée traduis traduisez calcule rédige schreibe schreib erkläre erklär beschreibe "
    "nenne erstelle übersetze berechne gib scrivi spiega descrivi traduci crea calcola dammi escreva explique "
    "descreva traduza crie calcule".split()
)
"""First words of an imperative request."""

PREFACES = frozenset(
    "a an the i i'm i've i'd i'll my you you're you've your we we're our he she they it it's there this that these "
    "those if in on at for from to with as suppose given imagine let let's consider act hi hello hey dear good "
    "thanks one two three four five six seven eight nine ten some many most all every each after before during "
    "while since because although recently today yesterday now then also and but so here using based".split()
)
"""First words of a sentence that leads up to a request. In English none of them follows an ordinal number."""

OFFER = re.compile(
    r"\b(?:would you like (?:me|to know|more|some|any|another|help)|what would you like\b|"
    r"do you want (?:me|to know|more)|do you need (?:help|more|any)|do you have any (?:other|more|further|questions)|"
    r"(?:how |what )?(?:can|may) i (?:help|assist|do for) (?:you|today)|anything else|like me to|want me to|"
    r"any (?:other|further|more) questions)\b",
    re.IGNORECASE,
)
"""Phrases of a question that only an assistant asks."""

_SENTENCE = re.compile(r"(?<=[.!?。！？؟।])[\"'”’»)\]*]*\s+|\n+|[。！？]")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def begins_request(text: str) -> bool:
    """Whether the first word asks or commands: "What …", "Write …", "¿…"."""
    if text.lstrip().startswith(("¿", "¡")):
        return True
    return first_word(text) in QUESTION_WORDS | IMPERATIVES


def begins_message(text: str) -> bool:
    """Whether a user's message could begin this way. Non-Latin scripts always count: their words are not listed."""
    letter = next((letter for letter in text if letter.isalpha()), "")
    if letter and not _is_latin(letter):
        return True
    return begins_request(text) or first_word(text) in PREFACES


def asks(text: str) -> bool:
    """Whether any sentence asks or commands something. Non-Latin sentences are assumed to."""
    own = [sentence for sentence in sentences(text) if not OFFER.search(sentence)]
    return any(is_question(one) or begins_request(one) or not begins_with_latin(one) for one in own)


def is_question(sentence: str) -> bool:
    """Whether a sentence ends like a question and is not an assistant's offer."""
    return sentence.rstrip("\"'”’»)]* ").endswith(("?", "？", "؟")) and not OFFER.search(sentence)


def sentences(text: str) -> list[str]:
    """Sentences and lines of a text, split roughly: good enough to look at first and last words."""
    return [sentence for part in _SENTENCE.split(text) if part and (sentence := part.strip())]


def paragraphs(text: str) -> list[str]:
    """Blocks of a text between blank lines."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def first_word(text: str) -> str:
    """The first word, lower-cased and with straight apostrophes; "" if anything but punctuation precedes it."""
    match = _WORD.match(text.lstrip(" \t\n\"'“”‘’«»„(*_#>-•"))
    return match[0].lower().replace("’", "'") if match else ""


def begins_with_latin(text: str) -> bool:
    """Whether the first letter is Latin; True for a text without letters."""
    letter = next((letter for letter in text if letter.isalpha()), "a")
    return _is_latin(letter)


def _is_latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"
