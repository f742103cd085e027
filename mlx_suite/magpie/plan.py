"""What all rows of a run share: headers, stop tokens, sampling, and the tagging queries.

Derived once from the model's chat template and the settings.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.untrained_tokens import UntrainedToken
from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS
from mlx_suite.curation.tags.tagging import Tagger, make_tagger, questions_for
from mlx_suite.data.questions import TAGGED, Questions
from mlx_suite.data.steering import CATEGORY_TEXTS, LANGUAGE_TEXTS, REST, lead, steering_text
from mlx_suite.engine import Queries, Sample, Sampling, context_length
from mlx_suite.engine.never_sampled import banning, never_sampled, untrained_token
from mlx_suite.engine.scoring import query_length
from mlx_suite.magpie.drift import ROLE_QUESTIONS
from mlx_suite.magpie.sanitiser.sanitise import Sanitised, sanitise
from mlx_suite.magpie.settings import MagpieSettings, SamplingSetting
from mlx_suite.magpie.steering import Steer
from mlx_suite.modeling.head import head_function
from mlx_suite.runtime.errors import UserError, nearest_name
from mlx_suite.text import ChatTemplate, Message, PreQuery, Tokenizer, derive_pre_query
from mlx_suite.text.chat import encode_chat
from mlx_suite.text.loops import loop_check
from mlx_suite.text.message import ASSISTANT, USER
from mlx_suite.text.reasoning import OPEN, split_reasoning
from mlx_suite.text.template import dated


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """Made by `plan_rows`."""

    settings: MagpieSettings
    tokenizer: Tokenizer
    template: ChatTemplate
    pre_query: PreQuery
    """Headers and stop tokens around an instruction that only the run's own system prompt steers."""
    never_sampled: frozenset[int]
    """Special tokens, and rows of the embedding matrix without a token."""
    untrained_end: UntrainedToken | None = None
    """The sign that the model was never trained on the token that ends a user's turn; None without one."""
    banned_first: tuple[int, ...] = ()
    """Token ids that no instruction begins with."""
    tagger: Tagger | None = None
    """Queries on instructions and responses; None if there are none."""
    role: Queries | None = None
    """Query on who speaks in a further turn; None for checkpoints trained on questions of their own."""

    @property
    def name(self) -> str:
        """Model name stored in every record."""
        return self.settings.model_name or Path(self.tokenizer.origin).name

    @property
    def questions(self) -> Questions | None:
        """The tagging questions."""
        return None if self.tagger is None else self.tagger.questions

    @property
    def user_end(self) -> int:
        """The template's own stop token of a user turn."""
        return self.pre_query.user_stop_ids[0]

    @property
    def assistant_end(self) -> int:
        """The template's own stop token of an assistant turn."""
        return self.pre_query.assistant_stop_ids[0]

    @cached_property
    def response_ends(self) -> frozenset[int]:
        """Stop tokens of a complete response: the template's own, and those that end all text."""
        return self.tokenizer.stop_ids | {self.assistant_end}

    @property
    def untrained_note(self) -> str | None:
        """What an untrained end of the user's turn means for a run; None if it is trained."""
        if self.untrained_end is None or self.untrained_end.is_trained_a_little:
            return None
        name = self.tokenizer.token_of(self.user_end)
        return f"{name}, which ends a user's turn, was never trained in this model: {self.untrained_end.evidence}"

    def instruction_sample(self, setting: SamplingSetting) -> Sample:
        """Segment that samples an instruction."""
        sampling = Sampling(temperature=setting.temperature, top_p=setting.top_p, banned_first=self.banned_first)
        return self._sample(sampling, self.settings.max_instruction, self.pre_query.user_stop_ids)

    @cached_property
    def response_sample(self) -> Sample:
        """Segment that samples a response."""
        return self._sample(
            self.settings.response_sampling, self.settings.max_answer, self.pre_query.assistant_stop_ids
        )

    def _sample(self, sampling: Sampling, limit: int, stops: Iterable[int]) -> Sample:
        stop = frozenset(stops)
        sampling = banning(sampling, self.never_sampled, stop)
        return Sample(limit=limit, stop=stop, sampling=sampling, loops=self._loops)

    @cached_property
    def _loops(self) -> Callable[[Sequence[int]], bool]:
        return loop_check(self.tokenizer.decode)

    @cached_property
    def header(self) -> Callable[[Steer], tuple[int, ...]]:
        """Token ids before an instruction, by what the row is steered to."""

        @lru_cache(maxsize=4096)
        def header(steer: Steer) -> tuple[int, ...]:
            return _derive(self.tokenizer, self.template, steering_prompt(self.settings.system, steer)).header_ids

        return header

    def user_turn(self, text: str) -> tuple[int, ...]:
        """Token ids of a user turn after its header, stop token included."""
        before = lead(self.template, self.settings.system)
        ids = encode_chat(self.tokenizer, self.template, [*before, Message(USER, text)]).ids
        turn = ids[len(self.pre_query.header_ids) :]
        return tuple(turn[: turn.index(self.user_end) + 1])

    def assistant_turn(self, text: str) -> tuple[int, ...]:
        """Token ids of an earlier assistant turn, from its header to its stop token, as the template writes it."""
        before = lead(self.template, self.settings.system)
        question, again = Message(USER, "Hi"), Message(USER, "Hi")
        turns = [*before, question, Message(ASSISTANT, text), again]
        chat = encode_chat(self.tokenizer, self.template, turns)
        asked, answered = (
            max(place for place, owner in enumerate(chat.owner) if owner == number)
            for number in (len(before), len(before) + 1)
        )
        start = chat.ids.index(self.user_end, asked) + 1
        return tuple(chat.ids[start : chat.ids.index(self.assistant_end, answered) + 1])

    @cached_property
    def opens_thought(self) -> bool:
        """Whether the generation prompt begins the reasoning, as that of DeepSeek R1 does."""
        prompt = self.tokenizer.decode(self.pre_query.to_assistant_ids, skip_special=False)
        return prompt.rstrip().endswith(OPEN)

    def answer_of(self, tokens: Sequence[int]) -> tuple[str, str]:
        """The reasoning and the response in a sampled text.

        Reasoning that does not end stays in the response, after its tag (see `judge.response_problem`).
        """
        text = self.decode(tokens)
        parts = split_reasoning(text, opened=self.opens_thought)
        return ("", text if text.startswith(OPEN) else f"{OPEN}\n{text}") if parts is None else parts

    def clean(self, raw: str) -> Sanitised:
        """A sampled instruction after the sanitiser, if the run has it on."""
        return sanitise(raw) if self.settings.sanitise else Sanitised(text=raw, removed=())

    def decode(self, tokens: Sequence[int]) -> str:
        """The text without surrounding whitespace, which chat templates strip as well."""
        return self.tokenizer.decode(tokens).strip()


def plan_rows(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    questions: Questions | None = None,
) -> RowPlan:
    """Derive headers and stop tokens from the chat template, and encode the tagging questions.

    Args:
        questions: Tagging questions. Default: those of the settings' file, of the checkpoint, or the built-in ones.

    Raises UserError if the template does not show where a user's turn begins, if a question cannot be encoded, and
    for a quota on something that no question asks about.
    """
    template = dated(template)
    tagger = _make_tagger(model, tokenizer, template, settings, questions)
    asks_role = settings.turns > 1 and tagger is not None and tagger.questions == FULL_QUESTIONS
    pre_query = _derive(tokenizer, template, settings.system)
    return RowPlan(
        settings=settings,
        tokenizer=tokenizer,
        template=template,
        pre_query=pre_query,
        never_sampled=never_sampled(model, tokenizer),
        untrained_end=untrained_token(model, tokenizer, pre_query.user_stop_ids[0]),
        banned_first=first_token_bans(tokenizer, settings.ban_first) if settings.ban_first else (),
        tagger=tagger,
        role=make_tagger(tokenizer, template, ROLE_QUESTIONS, embed=False).instruction if asks_role else None,
    )


def row_seed(seed: int, index: int) -> int:
    """The seed of one row: 48 bits, which every JSON reader keeps exactly."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest(), "big")


def steering_prompt(system: str | None, steer: Steer) -> str | None:
    """The run's system prompt and one sentence for each thing a row is steered to; None if there is nothing to say."""
    sentences = [steering_text(*each) for each in steer if _has_sentence(*each)]
    return " ".join([*([system] if system else []), *sentences]) or None


def _has_sentence(dimension: str, value: str) -> bool:
    """Whether a sentence steers to this value; there is none for the rest and for labels of custom questions."""
    return value != REST and value in {"category": CATEGORY_TEXTS, "language": LANGUAGE_TEXTS}.get(dimension, (value,))


def _derive(tokenizer: Tokenizer, template: ChatTemplate, text: str | None) -> PreQuery:
    if text is None or template.takes_system:
        return derive_pre_query(tokenizer, template, text)
    return derive_pre_query(tokenizer, template, before=lead(template, text))


# ---- tokens that no instruction begins with


def first_token_bans(tokenizer: Tokenizer, strings: Sequence[str]) -> tuple[int, ...]:
    """Ids of all tokens whose text, leading whitespace removed, starts with one of `strings`, ascending.

    Llama 3.1 likes to begin a user's turn with `## Step 1`, which is a response. The authors' code bans four token ids
    of that one vocabulary, magpie-ultra three more; here the same ids follow from `#` and `**`, in any vocabulary.

    Special tokens are never banned: `<` must not forbid the end of a turn. Raises UserError for strings that ban
    nothing, because they are empty or no single token starts with them.
    """
    banned: dict[str, list[int]] = {string.lstrip(): [] for string in strings}
    for token in range(tokenizer.vocab_size):
        if token in tokenizer.special_ids:
            continue
        text = _token_text(tokenizer, token).lstrip()
        for string in banned:
            if string and text.startswith(string):
                banned[string].append(token)
    problems = [
        f"no token starts with {string!r}" if string else "a string is empty"
        for string, tokens in banned.items()
        if not tokens
    ]
    if problems:
        raise UserError(
            "A ban on the first token bans nothing",
            where=tokenizer.origin,
            fix="use fewer of the first characters, for example '*' instead of '**'",
            details=problems,
        )
    return tuple(sorted({token for tokens in banned.values() for token in tokens}))


def _token_text(tokenizer: Tokenizer, token: int) -> str:
    """Text of one token, U+FFFD for part of a character; "" for an id without a token."""
    if tokenizer.token_of(token) is None:
        return ""
    if tokenizer.backend.token_bytes is None:
        return tokenizer.decode([token])
    # `decode` would strip the first space, and "▁▁#" has two.
    return tokenizer.bytes_of(token).decode("utf-8", errors="replace")


# ---- tagging queries


def _make_tagger(
    model: Any, tokenizer: Tokenizer, template: ChatTemplate, settings: MagpieSettings, given: Questions | None
) -> Tagger | None:
    embed = settings.embeddings and head_function(model) is not None
    if settings.near_meaning and not embed:
        raise UserError(
            "near_meaning compares hidden states, and this architecture's are not known",
            where="the model's architecture",
            fix="leave out --near-meaning",
        )
    file = None if settings.questions is None else Path(settings.questions)
    questions = given or questions_for(Path(tokenizer.origin), file)
    if not settings.tags:
        questions = replace(questions, questions=())
    _check_quotas(settings, questions)
    if not (questions.questions or embed):
        return None
    tagger = make_tagger(tokenizer, template, questions, embed=embed)
    longest, context = (
        max(map(query_length, (*tagger.instruction.queries, *tagger.answer.queries))),
        context_length(model),
    )
    if longest > context // 2:
        raise UserError(
            f"The longest question takes {longest} tokens, more than half of the model's context",
            where=f"a context of {context} tokens",
            fix="pass shorter ones with --questions, or turn tags and embeddings off: --no-tags --no-embeddings",
        )
    return tagger


def _check_quotas(settings: MagpieSettings, questions: Questions) -> None:
    """Raises UserError for quotas on labels that no question has."""
    problems = []
    for shares in settings.shares:
        if shares.dimension not in TAGGED:
            continue
        labels = [question.labels for question in questions.questions if question.name == shares.dimension]
        if not labels:
            problems.append(f"{shares.dimension}: no question asks for it")
            continue
        unknown = [value for value in shares.parts if value != REST and value not in labels[0]]
        problems += [
            f"{shares.dimension}: no label is {value!r}; {nearest_name(value, labels[0])}" for value in unknown
        ]
    if problems:
        raise UserError(
            "A quota names a label that no tag has",
            where="--quota",
            fix="write the labels as the questions do",
            details=problems,
        )
