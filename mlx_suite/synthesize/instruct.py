"""Chat models as synthesizers: any instruction-tuned model writes pairs and rewrites, in any language it knows.

The prompt shows the tags of `format` and an example; earlier texts of a chain are earlier turns.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import TEXTS, read_object
from mlx_suite.synthesize.format import SYNTHESIZER_FILE, Example, Pair, write_completion
from mlx_suite.synthesize.rephrase import CONTINUE, PAIRS, REPHRASINGS, whole_sentences, writes_pairs
from mlx_suite.synthesize.writer import Outcome, read_pairs, read_rewrite
from mlx_suite.text import Message, Tokenizer, load_chat_template
from mlx_suite.text.message import ASSISTANT, USER

SHOWN = Example(
    text=(
        "The swift spends most of its life in the air. It eats insects that it catches in flight, "
        "and lands only to nest."
    ),
    pairs=(
        Pair(question="Where does the swift spend most of its life?", answer="in the air"),
        Pair(
            question="Why does a swift land?",
            options=("to sleep", "to nest", "to eat"),
            answer="to nest",
        ),
        Pair(
            question="Does a swift need to land in order to eat?",
            reasoning="It eats insects, and it catches them in flight.",
            answer="no",
        ),
    ),
)
"""The example that a prompt for pairs shows: a question of every kind but one."""
PAIRS_PROMPT = """\
Read the text below and write about five tasks that it answers, each with its response. Let the tasks differ: ask for \
a fact, for a conclusion from several facts, for a choice among options, for a short summary. The text alone must be \
enough to respond; quote its words where you can, and add nothing that it does not say.{language}

Write each task between tags, and nothing outside the tags:
<QUE> the task <ANS> the response </END>

For example, for the text "{text}" you would write:

{pairs}

The text:

{{text}}"""
ASKED: Mapping[str, str] = {
    "prose": "Rewrite the text below in other words, as flowing prose.",
    "faq": "Turn the text below into frequently asked questions, each with its answer on the next line.",
    "table": "Put the facts of the text below into a table in Markdown.",
    "tutorial": "Rewrite the text below as a tutorial for a beginner, in numbered steps.",
    "quiz": "Make a quiz from the text below: numbered questions, and after them a list of the answers.",
    CONTINUE: "Continue the text below in the same style, from where it ends. Do not repeat it.",
}
"""Requests for forms other than pairs."""
KEEP_FACTS = " Keep every fact and every name, and add none that the text does not state."
ONLY = " Write only the result, without an introduction.{language}\n\n{text}"
TEXT_LANGUAGE, OTHER_LANGUAGE = " Write in the language of the text.", " Write in {language}, whatever the text is in."


@dataclass(frozen=True, kw_only=True)
class ChatWriter:
    """Prompts for a chat model."""

    chat: ChatModel
    language: str = ""
    """Language to write in; empty for that of the text."""

    @property
    def tokenizer(self) -> Tokenizer:
        return self.chat.tokenizer

    @cached_property
    def stops(self) -> frozenset[int]:
        return frozenset(self.chat.response_stops)

    @cached_property
    def banned(self) -> tuple[int, ...]:
        return tuple(sorted(self.chat.never_sampled - self.stops))

    def facts(self) -> dict[str, Any]:
        asked = "".join(self.request("text", form) for form in (PAIRS, *ASKED))
        return {
            "format": "chat",
            "template": hashlib.sha256(self.chat.own_template.source.encode()).hexdigest()[:12],
            "prompts": hashlib.sha256(asked.encode()).hexdigest()[:12],
            "language": self.language,
            "stop_ids": sorted(self.stops),
        }

    def refusal(self, text: str) -> str | None:
        return None

    def prompt(self, chain: Sequence[Example], text: str, form: str) -> Sequence[int]:
        turns = [
            Message(role, content)
            for example in chain
            for role, content in ((USER, self.request(example.text, form)), (ASSISTANT, _response(example)))
        ]
        return self.chat.prompt_ids([*turns, Message(USER, self.request(text, form))])

    def request(self, text: str, form: str) -> str:
        """The instruction to write a form of a text."""
        language = OTHER_LANGUAGE.format(language=self.language) if self.language else TEXT_LANGUAGE
        if writes_pairs(form):
            head = PAIRS_PROMPT.format(language=language, text=SHOWN.text, pairs=write_completion(SHOWN))
            return head.replace("{text}", text)
        kept = "" if form == CONTINUE else KEEP_FACTS
        return f"{ASKED[form]}{kept}{ONLY.format(language=language, text='{text}')}".replace("{text}", text)

    def read(self, text: str, completion: str, reason: str, form: str) -> Outcome:
        if writes_pairs(form):
            return read_pairs(completion)
        if form == CONTINUE:
            return read_rewrite(text, whole_sentences(completion, reason))
        return read_rewrite(text, completion.strip() if reason == "stop" else None)


def is_chat_model(folders: Sequence[Path]) -> bool:
    """Whether a checkpoint has a chat template, and is not marked as a synthesizer.

    Args:
        folders: Of its adapter, if any, and of the checkpoint.
    """
    if any((folder / SYNTHESIZER_FILE).is_file() for folder in folders):
        return False
    for folder in folders:
        with suppress(UserError):
            load_chat_template(folder)
            return True
    return False


def check_trained_forms(folders: Sequence[Path], forms: Sequence[str]) -> None:
    """Raise UserError for rewrites that a synthesizer was not trained to write, if its folder says which it was."""
    path = next((path for folder in folders if (path := folder / SYNTHESIZER_FILE).is_file()), None)
    if path is None:
        return
    known: list[str] | None = read_object(path, {"rewrites": TEXTS}).get("rewrites")
    if known is None:
        return
    unknown = [form for form in forms if form in REPHRASINGS and form not in known]
    if unknown:
        raise UserError(
            f"This synthesizer was not trained to write {', '.join(unknown)}",
            where="--as",
            fix=f"use {', '.join(['pairs', *known])}, or an instruct model as SYNTH",
        )


def _response(example: Example) -> str:
    return example.rewrite.text if example.rewrite is not None else write_completion(example)
