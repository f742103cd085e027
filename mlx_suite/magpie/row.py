"""One row: the model writes a user's turn, then answers it, in one token sequence that is fed once.

    header → instruction → questions aside → assistant header → answer → questions aside → further turns

The header is computed once per run and shared by all rows that have it. An instruction that is certain to be rejected
ends its row: answers are what a run pays for.

What steers a row stands in the header alone, and only while the instruction is written. Then it is forgotten: the
instruction is tagged and answered as it will stand in the data, where nobody has announced what it will be.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mlx_suite.curation.duplicates.neighbours import Neighbours
from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS
from mlx_suite.curation.tags.tagging import Tagger, make_tagger
from mlx_suite.data.questions import Questions
from mlx_suite.data.steering import CATEGORY_TEXTS, LANGUAGE_TEXTS, REST, lead, steering_text
from mlx_suite.engine import Given, Program, Queries, Request, Rewind, Sample, Sampling, Written
from mlx_suite.engine.step import vocabulary_size
from mlx_suite.magpie.asides import make_asides
from mlx_suite.magpie.draft import Draft, Exchange, ending_of
from mlx_suite.magpie.drift import ROLE_QUESTIONS
from mlx_suite.magpie.first_tokens import first_token_bans
from mlx_suite.magpie.sanitiser.sanitise import Sanitised, sanitise
from mlx_suite.magpie.settings import MagpieSettings, SamplingSetting
from mlx_suite.magpie.steering import Steer
from mlx_suite.magpie.turns import Conversation, Turn, further_turns
from mlx_suite.text import ChatTemplate, Message, PreQuery, Tokenizer, derive_pre_query
from mlx_suite.text.chat import encode_chat
from mlx_suite.text.message import USER

TEMPLATE_DATE = "26 Jul 2024"
"""The date in Llama 3.1's and 3.2's system turn, their template's own default: with today's date a run could not be
continued tomorrow."""

IsLost = Callable[[Draft], bool]
"""Asked with all that is known of a row so far: whether it is certain to be rejected."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all rows of a run have in common. Made by `plan_rows`."""

    settings: MagpieSettings
    tokenizer: Tokenizer
    template: ChatTemplate
    pre_query: PreQuery
    """Around what the model writes when nothing steers it but the run's own system text."""
    unspoken: frozenset[int]
    """Ids that belong into nobody's turn: special tokens, and rows of the embedding without a token."""
    banned_first: tuple[int, ...] = ()
    """Ids that no instruction begins with."""
    tagger: Tagger | None = None
    """Asks about instructions and answers; None where nothing is asked."""
    role: Queries | None = None
    """Asks who speaks in a further turn; None for checkpoints that were trained on questions of their own."""

    @property
    def name(self) -> str:
        """Of the model, as it stands in every record."""
        return self.settings.model_name or Path(self.tokenizer.origin).name

    @property
    def questions(self) -> Questions | None:
        """What tags answer."""
        return None if self.tagger is None else self.tagger.questions

    @cached_property
    def asking(self) -> Callable[[SamplingSetting], Sample]:
        """The instruction, as it is drawn at a setting."""

        @cache
        def sample(setting: SamplingSetting) -> Sample:
            sampling = Sampling(temperature=setting.temperature, top_p=setting.top_p, banned_first=self.banned_first)
            return self._sample(sampling, self.settings.max_instruction, self.pre_query.user_stop_ids)

        return sample

    @cached_property
    def answering(self) -> Sample:
        """The answer."""
        return self._sample(self.settings.answering, self.settings.max_answer, self.pre_query.assistant_stop_ids)

    def _sample(self, sampling: Sampling, limit: int, stops: Iterable[int]) -> Sample:
        stop = frozenset(stops)
        return Sample(limit=limit, stop=stop, sampling=replace(sampling, banned=tuple(sorted(self.unspoken - stop))))

    @property
    def user_end(self) -> int:
        """The token by which the template ends a user's turn."""
        return self.pre_query.user_stop_ids[0]

    @cached_property
    def answer_ends(self) -> frozenset[int]:
        """Tokens that end a whole answer: the template's own, and those that end all text."""
        return self.tokenizer.stop_ids | {self.pre_query.assistant_stop_ids[0]}

    @cached_property
    def headers(self) -> Callable[[Steer], tuple[int, ...]]:
        """What stands before an instruction that is steered."""

        @lru_cache(maxsize=4096)
        def header(steer: Steer) -> tuple[int, ...]:
            text = steering(self.settings.system, steer)
            return _derive(self.tokenizer, self.template, text).header_ids

        return header

    def request(self, index: int, steer: Steer, is_lost: IsLost) -> Request:
        """The row of this number, as the engine runs it. Its result is a `Draft`."""

        def program() -> Program:
            return self._program(index, steer, is_lost)

        return Request(program=program(), seed=row_seed(self.settings.seed, index), renew=program)

    def _program(self, index: int, steer: Steer, is_lost: IsLost) -> Program:
        setting, header = self.settings.setting_of(index), self.headers(steer)
        yield Given(header)
        asked = yield self.asking(setting)
        raw = self._text(asked)
        cleaned = sanitise(raw) if self.settings.sanitise else Sanitised(text=raw, removed=())
        draft = Draft(
            index=index,
            raw=raw,
            instruction=cleaned.text,
            asked=ending_of(asked),
            removed=cleaned.removed,
            steer=steer,
            sampling=setting,
        )
        if is_lost(draft):
            return draft
        length = len(header) + len(asked.tokens) + 1
        plain = self.pre_query.header_ids
        # A sequence cannot be rewound to nothing: headers without a common start stay as they are.
        kept = _shared(header, plain)
        kept, rest = (kept, plain[kept:]) if kept else (len(header), ())
        if cleaned.text != raw or kept < len(header):
            said = (*asked.tokens, self.user_end) if cleaned.text == raw else self._turn(cleaned.text)
            yield Rewind(kept)
            yield Given((*rest, *said))
            length = kept + len(rest) + len(said)
        if self.tagger is not None and self.tagger.instruction.queries:
            replies = yield self.tagger.instruction
            vector = self.tagger.embedding(replies)
            embedding = None if vector is None else Neighbours(len(vector)).stored(vector).astype(np.float32)
            draft = replace(draft, tags=self.tagger.instruction_tags(replies), embedding=embedding)
            if is_lost(draft):
                return draft
        yield Given(self.pre_query.to_assistant_ids)
        answered = yield self.answering
        draft = replace(draft, answered=ending_of(answered), answer=self._text(answered))
        if is_lost(draft):
            return draft
        length += len(self.pre_query.to_assistant_ids) + len(answered.tokens) + 1
        if answered.stop_token != self.pre_query.assistant_stop_ids[0]:
            yield Rewind(length - 1)
            yield Given(self.pre_query.assistant_stop_ids[:1])
        if self.tagger is not None and self.tagger.answer.queries:
            draft = replace(draft, answer_tags=self.tagger.answer_tags((yield self.tagger.answer)))
            if is_lost(draft):
                return draft
        if self.settings.turns > 1:
            first = Turn(instruction=draft.instruction, asked=asked, answer=draft.answer, answered=answered)
            own_end = replace(first, answered=replace(answered, stop_token=self.pre_query.assistant_stop_ids[0]))
            turns, ended = yield from further_turns(self._conversation(setting), own_end, length)
            draft = replace(draft, turns=tuple(map(_exchange, turns)), ended=ended)
        return draft

    def _conversation(self, setting: SamplingSetting) -> Conversation:
        """How the row continues. Later turns are not steered: the first one already set the subject."""
        return Conversation(
            turns=self.settings.turns,
            asking=self.asking(setting),
            answering=self.answering,
            pre_query=self.pre_query,
            tokenizer=self.tokenizer,
            answer_ends=self.answer_ends,
            clean=(lambda text: sanitise(text).text) if self.settings.sanitise else (lambda text: text),
            encode=lambda text: self._turn(text)[:-1],
            role=self.role,
        )

    def _turn(self, text: str) -> tuple[int, ...]:
        """A text's tokens as they stand behind a user's header, and the token that ends the turn."""
        first = lead(self.template, self.settings.system)
        ids = encode_chat(self.tokenizer, self.template, [*first, Message(USER, text)]).ids
        said = ids[len(self.pre_query.header_ids) :]
        return tuple(said[: said.index(self.user_end) + 1])

    def _text(self, written: Written) -> str:
        return self.tokenizer.decode(written.tokens).strip()


def plan_rows(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    questions: Questions | None = None,
) -> Plan:
    """Derive header and stop tokens from the chat template, and put the questions into the checkpoint's own tokens.

    Args:
        questions: What tags answer; by default those of the settings' file, of the checkpoint, or the built-in ones.

    Raises UserError where the template does not show where a user's turn begins, where the questions cannot be asked,
    and for quotas of what no question asks.
    """
    template = replace(template, variables={"date_string": TEMPLATE_DATE, **template.variables})
    without_token = range(tokenizer.vocab_size, vocabulary_size(model))
    tagger = make_asides(model, tokenizer, template, settings, questions)
    asks_role = settings.turns > 1 and tagger is not None and tagger.questions == FULL_QUESTIONS
    return Plan(
        settings=settings,
        tokenizer=tokenizer,
        template=template,
        pre_query=_derive(tokenizer, template, settings.system),
        unspoken=tokenizer.special_ids | frozenset(without_token),
        banned_first=first_token_bans(tokenizer, settings.ban_first) if settings.ban_first else (),
        tagger=tagger,
        role=make_tagger(tokenizer, template, ROLE_QUESTIONS, embed=False).instruction if asks_role else None,
    )


def steering(system: str | None, steer: Steer) -> str | None:
    """The text before a steered instruction: the run's own, then a sentence for each thing; None without any."""
    sentences = [steering_text(*each) for each in steer if _has_words(*each)]
    return " ".join([*([system] if system else []), *sentences]) or None


def _has_words(dimension: str, value: str) -> bool:
    """Whether there is a sentence that steers to a value; there is none to the rest, or to labels of one's own."""
    return value != REST and value in {"category": CATEGORY_TEXTS, "language": LANGUAGE_TEXTS}.get(dimension, (value,))


def row_seed(seed: int, index: int) -> int:
    """The seed of one row. 48 bits, so that every JSON reader keeps it exactly."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest(), "big")


def _derive(tokenizer: Tokenizer, template: ChatTemplate, text: str | None) -> PreQuery:
    if text is None or template.takes_system:
        return derive_pre_query(tokenizer, template, text)
    return derive_pre_query(tokenizer, template, before=lead(template, text))


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens two headers begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(one), len(other)))


def _exchange(turn: Turn) -> Exchange:
    return Exchange(
        instruction=turn.instruction,
        raw=turn.raw_instruction or turn.instruction,
        asked=ending_of(turn.asked),
        answer=turn.answer,
        answered=ending_of(turn.answered),
    )
