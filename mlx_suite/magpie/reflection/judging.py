"""Whether a new text is better than the old one, asked in both orders.

A judge favours a place (MT-Bench, arXiv 2306.05685, section 3.3). Asked once, it would take its habit for a judgement;
so a new text counts as better only if it is preferred from the first place and from the second. Labels are weighed,
nothing is generated and nothing has to be parsed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlx_suite.engine import Aside, Given, Program, Query, Reply, Request, Rewind
from mlx_suite.magpie.author import Author
from mlx_suite.text import Message
from mlx_suite.text.message import USER

LABELS = ("A", "B")

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
class Contest:
    """An old text and a new one."""

    row: int
    old: str
    new: str
    question: str | None = None
    """What both texts answer; None where they are instructions themselves."""

    def messages(self, *, new_first: bool) -> tuple[Message, ...]:
        """What the judge is asked."""
        first, second = (self.new, self.old) if new_first else (self.old, self.new)
        text = INSTRUCTIONS if self.question is None else ANSWERS
        # The question last: what it holds must not be taken for a field.
        text = text.replace("{first}", "\0first").replace("{second}", "\0second").replace("{question}", "\0question")
        for field, value in (("first", first), ("second", second), ("question", self.question or "")):
            text = text.replace(f"\0{field}", value.replace("\0", ""))
        return (Message(USER, text),)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge said, in both orders."""

    row: int
    first: float | None
    """Log odds for the new text where it stands first, in nats; None where there was no room to ask."""
    second: float | None
    """Log odds for the new text where it stands second."""

    @property
    def outcome(self) -> str:
        """`both`: the new text is better. `old`: the old one is, from either place. `one`: the place decides."""
        if self.first is None or self.second is None:
            return "unasked"
        if self.first > 0 and self.second > 0:
            return "both"
        return "old" if self.first < 0 and self.second < 0 else "one"

    @property
    def first_places(self) -> int:
        """How often, of two, what stands first was preferred."""
        return int((self.first or 0.0) > 0) + int((self.second or 0.0) < 0)


def judge_contests(judge: Author, contests: Iterable[Contest]) -> Iterator[Verdict]:
    """The verdict on each contest, as they end."""
    labels = tuple((*judge.speaker.tokenizer.encode(label), judge.own_end) for label in LABELS)
    return judge.run(Request(program=_program(judge, contest, labels)) for contest in contests)


def _program(judge: Author, contest: Contest, labels: Sequence[tuple[int, ...]]) -> Program:
    prompts = [judge.prompt(contest.messages(new_first=new_first)) for new_first in (True, False)]
    if prompts[0] is None or prompts[1] is None:
        return Verdict(row=contest.row, first=None, second=None)
    one, other = prompts[0], prompts[1]
    yield Given(one[:-1])
    first = yield Aside((Query(tokens=one[-1:], labels=tuple(labels)),))
    shared = _shared(one, other)
    yield Rewind(shared)
    yield Given(other[shared:-1])
    second = yield Aside((Query(tokens=other[-1:], labels=tuple(labels)),))
    odds = _odds(second)
    return Verdict(row=contest.row, first=_odds(first), second=None if odds is None else -odds)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with, all but the last at most."""
    most = min(len(one), len(other)) - 1
    return next((place for place in range(most) if one[place] != other[place]), most)


def _odds(replies: Sequence[Reply] | None) -> float | None:
    """Of the first label against the second."""
    if not replies:
        return None
    first, second = replies[0].log_probs
    return first - second
