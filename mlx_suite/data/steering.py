"""Messages at the start of a conversation that steer what its user asks for.

Magpie steers with the system prompt (arXiv 2406.08464, section 2.3). For templates without a system role, such as Gemma
2's, the same text goes into a first exchange. Checkpoints trained on exactly these sentences, such as the shipped ones,
follow them best.
"""

import difflib
from collections.abc import Mapping

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Message
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

REST = "*"
"""Key in quotas and steering for all values that are not named."""
AGREEMENT = "Understood."
"""Response in the first exchange that replaces a system turn."""

CATEGORY_TEXTS: Mapping[str, str] = {
    "Information seeking": "The user wants to know a fact or to have something explained.",
    "Reasoning": "The user brings a puzzle or a question that takes logical thinking.",
    "Planning": "The user needs a plan, a schedule or the steps to a goal.",
    "Editing": "The user brings a text and asks for it to be corrected, rewritten or shortened.",
    "Coding & Debugging": "The user is a programmer who asks for code or for help with code.",
    "Math": "The user asks for the solution of a mathematical problem.",
    "Role playing": "The user asks you to play a part and to speak as that person or thing.",
    "Data analysis": "The user brings a table or other data and asks what is in it.",
    "Creative writing": "The user asks for a poem, a story or another piece of creative writing.",
    "Advice seeking": "The user asks for advice on a matter of daily life.",
    "Brainstorming": "The user asks for several ideas on a subject.",
    "Others": "The user asks for something that is none of the usual kinds of request.",
}
LANGUAGE_TEXTS: Mapping[str, str] = {
    "English": "The user writes in English, and you answer in English.",
    "Spanish": "El usuario escribe en español y tú respondes en español.",
    "French": "L'utilisateur écrit en français et tu réponds en français.",
    "German": "Der Nutzer schreibt auf Deutsch, und du antwortest auf Deutsch.",
    "Italian": "L'utente scrive in italiano e tu rispondi in italiano.",
    "Portuguese": "O usuário escreve em português e você responde em português.",
    "Dutch": "De gebruiker schrijft in het Nederlands en jij antwoordt in het Nederlands.",
    "Polish": "Użytkownik pisze po polsku, a ty odpowiadasz po polsku.",
    "Russian": "Пользователь пишет по-русски, и ты отвечаешь по-русски.",
    "Turkish": "Kullanıcı Türkçe yazıyor, sen de Türkçe yanıt veriyorsun.",
    "Arabic": "يكتب المستخدم بالعربية وأنت تجيب بالعربية.",
    "Hindi": "उपयोगकर्ता हिन्दी में लिखता है और आप हिन्दी में उत्तर देते हैं।",
    "Chinese": "用户用中文提问，你用中文回答。",
    "Japanese": "ユーザーは日本語で書き、あなたは日本語で答えます。",
    "Korean": "사용자는 한국어로 쓰고, 당신은 한국어로 답합니다.",
}
DIMENSIONS = ("category", "difficulty", "language", "topic", "persona", "system")
"""Dimensions that can be steered. Values of the last three are free text."""


def steering_text(dimension: str, value: str) -> str:
    """The sentence that steers to `value`; a `system` value is used unchanged.

    Raises UserError for an unknown category or language.
    """
    assert dimension in DIMENSIONS, dimension
    if dimension == "category":
        return _of(CATEGORY_TEXTS, dimension, value)
    if dimension == "language":
        return _of(LANGUAGE_TEXTS, dimension, value)
    return {
        "difficulty": f"The user asks for something {value}.",
        "topic": f"The user asks about {value}.",
        "persona": f"The user is {value}.",
        "system": value,
    }[dimension]


def lead(template: ChatTemplate, text: str | None) -> tuple[Message, ...]:
    """The messages before the first instruction: none, a system turn, or an exchange that replaces it."""
    if text is None:
        return ()
    if template.takes_system:
        return (Message(SYSTEM, text),)
    return Message(USER, text), Message(ASSISTANT, AGREEMENT)


def _of(texts: Mapping[str, str], dimension: str, value: str) -> str:
    if value in texts:
        return texts[value]
    near = difflib.get_close_matches(value, texts, n=1, cutoff=0.5)
    raise UserError(
        f"unknown {dimension} {value!r}",
        where="steering",
        fix=f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(texts)}",
    )
