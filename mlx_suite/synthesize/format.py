"""The instruction synthesizer's format (arXiv 2406.14491, section 2.1): tags, prompt, M-shot chains, parser.

A prompt is a text between tags; the completion is its instruction-response pairs:

    <s> <CON> {text} </CON>\n\n<QUE> {question} <ANS> {answer} </END>\n\n<QUE> … </END></s>

Several examples in a row are few-shot prompting with the model's own earlier output ("M-shot"). The space after <s> and
the blank lines are as in the reference implementation (microsoft/LMOps, instruction_pretrain); <s> and </s> stand for
the tokenizer's own BOS and EOS.

`<REW> {form} <OUT> {text} </END>` after the text is our addition: the same text rewritten in another form.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlx_suite.data.batch.rows import Document
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import TEMPLATE, Tokenizer
from mlx_suite.text.pieces import Piece

SYNTHESIZER_FILE = "synthesizer.json"
"""File beside the weights of a model that was trained on this format, with what it was trained to write."""
BLANK = "\n\n"
TAGS = ("<CON>", "</CON>", "<QUE>", "<ANS>", "</END>", "<REW>", "<OUT>")
OPTIONS = "\nOptions:"
STEPS = "\nLet's think step by step."
THEREFORE = "\nTherefore, the answer is "

Kind = Literal["free", "choice", "reasoning", "both"]
KINDS: tuple[Kind, ...] = ("free", "choice", "reasoning", "both")

CUT_OFF, NO_QUESTION, NOT_ONE_ANSWER, EMPTY, REPEATED = "cut off", "no question", "not one answer", "empty", "repeated"
_OPTION_LINES = re.compile(r"(?s)(?P<question>.*?)\nOptions:(?P<options>(?:\n- [^\n]+)+)")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An instruction about a text, and its response."""

    question: str
    """Without options and without the request to think step by step."""
    answer: str
    """The final answer, without the reasoning before it."""
    options: tuple[str, ...] = ()
    """Options of a multiple-choice question, in order."""
    reasoning: str = ""
    """Reasoning before the final answer (chain of thought)."""

    @property
    def kind(self) -> Kind:
        """free, choice (with options), reasoning, or both."""
        if self.options:
            return "both" if self.reasoning else "choice"
        return "reasoning" if self.reasoning else "free"

    @property
    def question_text(self) -> str:
        """The question with its options and the request to reason, as between <QUE> and <ANS>."""
        options = OPTIONS + "".join(f"\n- {option}" for option in self.options) if self.options else ""
        return f"{self.question}{options}{STEPS if self.reasoning else ''}"

    @property
    def answer_text(self) -> str:
        """The reasoning and the answer, as between <ANS> and </END>."""
        return f"{self.reasoning}{THEREFORE}{self.answer}" if self.reasoning else self.answer


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A text in another form, such as a table."""

    form: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text and what was written from it."""

    text: str
    pairs: tuple[Pair, ...] = ()
    rewrite: Rewrite | None = None
    """If given, the example shows a rewrite instead of pairs."""


@dataclass(frozen=True, kw_only=True)
class ParsedPairs:
    """The pairs of a completion, and its discarded pieces by reason."""

    pairs: tuple[Pair, ...]
    dropped: Counter[str]

    @property
    def pieces(self) -> int:
        return len(self.pairs) + self.dropped.total()


def read_pair(question: str, answer: str) -> Pair:
    """The pair whose `question_text` and `answer_text` these are; what fits none of the forms is a free pair."""
    question, answer = question.strip(), answer.strip()
    shown, asks, reasoning = question, question.endswith(STEPS), ""
    if asks:
        shown = question.removesuffix(STEPS)
        before, found, final = answer.rpartition(THEREFORE)
        if not (found and before.strip() and final.strip()):
            return Pair(question=question, answer=answer)
        reasoning, answer = before.strip(), final.strip()
    options: tuple[str, ...] = ()
    if match := _OPTION_LINES.fullmatch(shown):
        lines = tuple(line.removeprefix("- ").strip() for line in match["options"].strip().split("\n"))
        if match["question"].strip() and all(lines):
            shown, options = match["question"].strip(), lines
    return Pair(question=shown.strip(), answer=answer, options=options, reasoning=reasoning)


def write_pair(pair: Pair) -> str:
    """The pair between its tags."""
    return f"<QUE> {pair.question_text} <ANS> {pair.answer_text} </END>"


def write_completion(example: Example) -> str:
    """What the synthesizer writes after the text of `example`, without EOS."""
    if example.rewrite is not None:
        return f"<REW> {example.rewrite.form} <OUT> {example.rewrite.text} </END>"
    return BLANK.join(map(write_pair, example.pairs))


def parse_pairs(completion: str) -> ParsedPairs:
    """Read the pairs of a completion; whatever is malformed is dropped and counted by reason.

    A piece ends with </END>, starts with <QUE> and has one <ANS>; neither side is empty. A question that occurred
    before, in whatever case, is dropped.
    """
    dropped: Counter[str] = Counter()
    pairs: dict[str, Pair] = {}
    *pieces, tail = completion.split("</END>")
    if tail.strip():
        dropped[CUT_OFF] += 1
    for piece in map(str.strip, pieces):
        if not piece.startswith("<QUE>"):
            dropped[NO_QUESTION] += 1
            continue
        question, *answers = piece.removeprefix("<QUE>").split("<ANS>")
        if len(answers) != 1 or "<QUE>" in piece.removeprefix("<QUE>"):
            dropped[NOT_ONE_ANSWER] += 1
        elif not question.strip() or not answers[0].strip():
            dropped[EMPTY] += 1
        elif (key := question.strip().lower()) in pairs:
            dropped[REPEATED] += 1
        else:
            pairs[key] = read_pair(question, answers[0])
    return ParsedPairs(pairs=tuple(pairs.values()), dropped=dropped)


def parse_rewrite(completion: str, form: str) -> str | None:
    """The rewritten text of a completion; None if it is cut off, empty, or not of this form."""
    head, found, text = completion.strip().partition("<OUT>")
    text, ended, rest = text.partition("</END>")
    is_whole = bool(found and ended and not rest.strip() and text.strip())
    return text.strip() if is_whole and head.split() == ["<REW>", *form.split()] else None


def contains_tags(text: str) -> bool:
    """Whether a text holds one of the format's tags, which would break its example apart."""
    return any(tag in text for tag in TAGS)


def encode_prompt(tokenizer: Tokenizer, chain: Sequence[Example], text: str, form: str | None = None) -> list[int]:
    """Token ids of the examples of `chain` and the beginning of the example of `text`.

    With `form`, the model is to write a `Rewrite` of that form; otherwise pairs.

    Raises UserError if the tokenizer has no EOS to separate examples with.
    """
    apart = _can_cut(tokenizer)
    asked = () if form is None else (Piece(text=f"<REW> {form} <OUT>", owner=TEMPLATE, apart=apart),)
    pieces = [
        *(piece for example in chain for piece in _pieces(tokenizer, example, apart)),
        *_context(tokenizer, text),
        *asked,
    ]
    return tokenizer.encode_pieces(pieces).ids


def encode_chain(tokenizer: Tokenizer, chain: Sequence[Example], *, context: bool = False) -> Document:
    """A training document: examples of one kind in a row, with the loss on what follows each text, and on its EOS.

    With `context`, the texts and tags are trained too. Raises UserError if the tokenizer has no EOS.
    """
    apart = _can_cut(tokenizer)
    encoded = tokenizer.encode_pieces([piece for example in chain for piece in _pieces(tokenizer, example, apart)])
    end = _end(tokenizer)[0]
    # BOS may be the same token: EOS is the one that follows another token.
    trained = [
        owner == _WRITTEN or (token == end and before not in (None, end))
        for owner, token, before in zip(encoded.owner, encoded.ids, [None, *encoded.ids], strict=False)
    ]
    return Document(encoded.ids, [1.0 if context or here else 0.0 for here in trained])


_READ, _WRITTEN = 0, 1
"""Owners of the tokens of a text and of what is written from it."""


def _pieces(tokenizer: Tokenizer, example: Example, apart: bool) -> list[Piece]:
    end = _end(tokenizer)[1]
    written = Piece(text=write_completion(example), owner=_WRITTEN, apart=apart)
    return [*_context(tokenizer, example.text), written, Piece(text=end, owner=TEMPLATE)]


def _context(tokenizer: Tokenizer, text: str) -> list[Piece]:
    # Pieces of the text cannot become special tokens, whatever they spell.
    begin = "" if tokenizer.bos_id is None else tokenizer.token_of(tokenizer.bos_id) or ""
    return [
        Piece(text=f"{begin} <CON> ", owner=TEMPLATE),
        Piece(text=text, owner=_READ),
        Piece(text=f" </CON>{BLANK}", owner=TEMPLATE),
    ]


def _can_cut(tokenizer: Tokenizer) -> bool:
    """Whether a completion can be encoded apart from its prompt, as it is when a model writes it.

    Llama's and Mistral's tokenizers put a space before every text, so there it must be encoded with what precedes it;
    as newlines are bytes in them, the tokens of the prompt are the same in both cases.
    """
    pieces = [Piece(text=BLANK, owner=TEMPLATE), Piece(text="<QUE>", owner=_WRITTEN, apart=True)]
    return tokenizer.decode(tokenizer.encode_pieces(pieces).ids, skip_special=False).endswith(f"{BLANK}<QUE>")


def _end(tokenizer: Tokenizer) -> tuple[int, str]:
    """EOS: id and spelling."""
    name = tokenizer.settings.roles.get("eos_token")
    index = None if name is None else tokenizer.id_of(name)
    if name is None or index is None:
        raise UserError(
            "The tokenizer has no EOS token, which separates the examples of a synthesizer",
            where=tokenizer.origin,
            fix="use the tokenizer of a base model such as Mistral 7B v0.1, or of tiny-synthesizer",
        )
    return index, name
