"""Judge whether a rewritten text is better than the old one, in both orders.

Judges favour a position (MT-Bench, arXiv 2306.05685, section 3.3), so a rewrite counts as better only if it is
preferred both in first and in second position. The judge's choice is read off two labels' log-probabilities: nothing is
generated or parsed.

A judge that knows nothing prefers the rewrite in both orders once in four times, and all of those would be kept. So it
must first pass a sanity check on pairs whose order is beyond doubt: a response against another instruction's response,
an instruction against its own words shuffled. The check needs no labels, and a judge that fails it is not trusted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from mlx_suite.engine import Given, Program, Queries, Query, Reply, Request, Rewind
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.evaluate.judging import BothOrders, verdict_of
from mlx_suite.magpie.drift import words_of
from mlx_suite.text import Message
from mlx_suite.text.message import USER

LABELS = ("A", "B")

MAX_CHECKS = 50
"""Maximum comparisons in a sanity check: enough to measure the share to within about six points."""
PASS_SHARE = 0.75
"""Share of the checks in which the better text must win in both orders. Guessing wins a quarter."""
_MIN_WORDS = 4

ANSWERS = """\
Two assistants, A and B, have answered the same message. Which answer is better?

What counts is whether it is right, whether it does what was asked, and whether it says enough and not too much. A
longer answer is not better for being longer, and the order of the two means nothing.

### The message
{question}

### Answer A
{first}

### Answer B
{second}

Reply with one letter, A or B."""

INSTRUCTIONS = """\
Two versions, A and B, of a message to an assistant. Which one is better to learn from?

What counts is whether it is clear what is wanted, whether all that is needed is there, and whether a good answer takes
knowledge or thought. A longer message is not better for being longer, and the order of the two means nothing.

### Message A
{first}

### Message B
{second}

Reply with one letter, A or B."""


@dataclass(frozen=True, kw_only=True)
class RewriteComparison:
    """An old text and its rewrite."""

    row: int
    old: str
    new: str
    question: str | None = None
    """The instruction that both texts respond to; None if they are instructions themselves."""

    def messages(self, *, new_first: bool) -> tuple[Message, ...]:
        """The judge's prompt."""
        first, second = (self.new, self.old) if new_first else (self.old, self.new)
        text = INSTRUCTIONS if self.question is None else ANSWERS
        # Placeholders are protected first: the texts may contain braces themselves.
        text = text.replace("{first}", "\0first").replace("{second}", "\0second").replace("{question}", "\0question")
        for field, value in (("first", first), ("second", second), ("question", self.question or "")):
            text = text.replace(f"\0{field}", value.replace("\0", ""))
        return (Message(USER, text),)


@dataclass(frozen=True, kw_only=True)
class Preference:
    """The judge's preference in both orders."""

    row: int
    first: float | None
    """Log odds of the new text in first position, in nats; None if the prompt exceeds the context."""
    second: float | None
    """Log odds of the new text in second position, in nats."""

    @property
    def outcome(self) -> str:
        """`both`: the new text wins in both orders. `old`: the old one does. `one`: position decides."""
        return {"A": "both", "B": "old", "unread": "unasked"}.get(self._verdicts.outcome, "one")

    @property
    def first_places(self) -> int:
        """In how many of the two orders the first position was preferred."""
        return self._verdicts.first_positions

    @property
    def _verdicts(self) -> BothOrders:
        """Verdicts with the new text as A."""
        backward = None if self.second is None else -self.second
        return BothOrders(forward=verdict_of(self.first), backward=verdict_of(backward))


def judge_rewrites(judge: ChatModel, comparisons: Iterable[RewriteComparison]) -> Iterator[Preference]:
    """Yield the preference in each comparison as it finishes."""
    labels = tuple((*judge.tokenizer.encode(label), judge.response_end) for label in LABELS)
    return judge.run(Request(program=_program(judge, each, labels)) for each in comparisons)


def _program(judge: ChatModel, comparison: RewriteComparison, labels: Sequence[tuple[int, ...]]) -> Program:
    prompts = [judge.prompt(comparison.messages(new_first=new_first)) for new_first in (True, False)]
    if prompts[0] is None or prompts[1] is None:
        return Preference(row=comparison.row, first=None, second=None)
    one, other = prompts[0], prompts[1]
    yield Given(one[:-1])
    first = yield Queries((Query(tokens=one[-1:], labels=tuple(labels)),))
    shared = _shared(one, other)
    yield Rewind(shared)
    yield Given(other[shared:-1])
    second = yield Queries((Query(tokens=other[-1:], labels=tuple(labels)),))
    odds = _odds(second)
    return Preference(row=comparison.row, first=_odds(first), second=None if odds is None else -odds)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix, the last token excluded."""
    most = min(len(one), len(other)) - 1
    return next((place for place in range(most) if one[place] != other[place]), most)


def _odds(replies: Sequence[Reply] | None) -> float | None:
    """Log odds of the first label against the second."""
    if not replies:
        return None
    first, second = replies[0].log_probs
    return first - second


def response_checks(rows: Sequence[tuple[str, str]]) -> list[RewriteComparison]:
    """Comparisons of responses with other instructions' responses, from (instruction, response) of each row."""
    checks = []
    for number, (question, answer) in enumerate(rows):
        other = rows[(number + 1) % len(rows)][1]
        if words_of(other) != words_of(answer):
            checks.append(RewriteComparison(row=number, old=answer, new=other, question=question))
    return checks[:MAX_CHECKS]


def instruction_checks(instructions: Sequence[str]) -> list[RewriteComparison]:
    """Comparisons of instructions with their own words shuffled."""
    checks = []
    for number, text in enumerate(instructions):
        words = text.split()
        shuffled = Random(number).sample(words, len(words))
        if len(words) >= _MIN_WORDS and shuffled != words:
            checks.append(RewriteComparison(row=number, old=text, new=" ".join(shuffled)))
    return checks[:MAX_CHECKS]


def passed_share(preferences: Iterable[Preference]) -> float | None:
    """Share of the checks in which the better text won in both orders; None if none could be judged."""
    outcomes = [each.outcome for each in preferences if each.outcome != "unasked"]
    return outcomes.count("old") / len(outcomes) if outcomes else None
