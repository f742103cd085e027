"""Settings of a run that converts or grows a corpus."""

from dataclasses import dataclass

from mlx_suite.runtime.errors import UserError, check_rules
from mlx_suite.synthesize.rephrase import CONTINUE, PAIRS, check_forms, writes_pairs

MAX_TOKENS, CONTEXT = 400, 4096
"""Defaults of the reference implementation (microsoft/LMOps, instruction_pretrain)."""
LEAST_ROOM = 32
"""Least tokens of a text that a prompt must have room for."""


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """What to write from a corpus."""

    forms: tuple[str, ...] = (PAIRS,)
    """What to write from each text, separated by commas: pairs, pit (pairs before the text), prose, faq, table,
    tutorial, quiz, continue."""
    share: float = 1.0
    """Share of the texts to convert; the others are kept as raw text. The paper converts 0.2 of a general corpus and
    all of a domain's."""
    rounds: int = 2
    """Rounds of M-shot prompting: a text is prompted after the texts of earlier rounds and what was written from them.
    The paper uses 2 for a general corpus and 3 for a domain; 1 shows no examples."""
    max_tokens: int | None = None
    """Maximum tokens written from a text at a time. Default: 400, or half of the model's context if that is shorter."""
    max_context: int = CONTEXT
    """Maximum tokens of prompt and completion together; the model's own context if that is shorter."""
    passage: int | None = None
    """Longest text in tokens; longer ones are cut at sentence ends. Default: what the context holds, and for rewrites
    at most half of --max-tokens."""
    temperature: float = 0.8
    """Temperature of continuations and of every repeat when a corpus is grown; the rest is greedy."""
    times: float | None = None
    """Grow the corpus to this many times its tokens: texts are written from again, at --temperature, until then."""
    until_tokens: int | None = None
    """Grow the corpus to this many tokens of the synthesizer's vocabulary."""
    dedupe: bool = False
    """Drop pairs whose question nearly repeats an earlier one of any text. It is meant for corpora of up to a million
    pairs: the index is in memory, about 2 kB per question."""
    seed: int = 0
    """Seed of the texts that are converted, of sampling, and of the wordings of the pretraining texts."""

    def __post_init__(self) -> None:
        check_rules(
            self,
            {
                "share": (0 < self.share <= 1, "expected above 0 and at most 1"),
                "rounds": (self.rounds >= 1, "expected 1 or more"),
                "max_tokens": (self.max_tokens is None or self.max_tokens >= 1, "expected 1 or more"),
                "max_context": (self.max_context >= 2, "expected 2 or more"),
                "passage": (self.passage is None or self.passage >= LEAST_ROOM, f"expected {LEAST_ROOM} or more"),
                "temperature": (self.temperature > 0, "expected above 0"),
                "times": (self.times is None or self.times >= 1, "expected 1 or more"),
                "until_tokens": (self.until_tokens is None or self.until_tokens >= 1, "expected 1 or more"),
            },
            where="settings",
            command="mlx-suite synthesize run --help",
        )
        check_forms(self.forms)
        if self.times is not None and self.until_tokens is not None:
            raise UserError(
                "--times and --until-tokens both say how far to grow", where="--times", fix="use one of them"
            )

    @property
    def grows(self) -> bool:
        return self.times is not None or self.until_tokens is not None

    def lengths(self, context: int, overhead: int, form: str) -> "Lengths":
        """Limits in tokens for a form.

        Args:
            context: The model's own.
            overhead: Tokens of a prompt without its text.

        Raises UserError if the context has no room for a text.
        """
        context = min(context, self.max_context)
        written = self.max_tokens or min(MAX_TOKENS, context // 2)
        room = context - written
        if room - overhead < LEAST_ROOM:
            raise UserError(
                f"A context of {context:,} tokens has no room for a text: {written:,} are for what is written, and the "
                f"prompt around a text has {overhead:,}",
                where="--max-tokens",
                fix="write less at a time, or use a model with a longer context",
            )
        longest = room - overhead
        if not writes_pairs(form) and form != CONTINUE:
            longest = min(longest, max(LEAST_ROOM, written // 2))
        return Lengths(written=written, prompt=room, passage=min(longest, self.passage or longest))


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Limits in tokens."""

    written: int
    """Of a completion."""
    prompt: int
    passage: int
    """Of a text in a prompt."""
