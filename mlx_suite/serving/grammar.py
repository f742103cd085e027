"""Constraints to a JSON schema or a grammar, by llguidance (an Earley parser on the bytes of tokens).

A grammar is compiled once for a vocabulary, beside the event loop; each choice gets a copy of the compiled state. The
copy follows its choice token by token, so a mask costs the same at any length of the text.

V: rows of the model's embedding.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer

Schema = Mapping[str, Any]
SPACING: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON on one line, as Python and most training data write it. With free whitespace a small model can write spaces
until its limit, and less of the text is forced."""
KEPT_VOCABULARIES = 8
"""Vocabularies that stay prepared; one of 128,256 tokens takes half a second."""
TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
"""Tags that grammars spell as text, also where they are special tokens of a vocabulary."""
BLAMED_DEPTH = 12
"""Levels of a schema that are searched for the part at fault."""
NESTED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
"""Keywords with schemas by name."""
NESTED_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
"""Keywords with lists of schemas."""
NESTED = ("items", "additionalProperties", "not", "if", "then", "else")
"""Keywords with one schema."""

_log = logging.getLogger("mlx_suite")
_lock = Lock()
_vocabularies: dict[tuple[int, int], tuple[Tokenizer, LLTokenizer]] = {}


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A grammar that was compiled for a vocabulary."""

    start: LLMatcher = field(repr=False)
    """State before the first token; only copies of it advance."""
    rows: int
    """V."""

    def constraint(self, stop: Sequence[int]) -> "GrammarConstraint":
        """A new constraint. Stop tokens may follow where the grammar accepts; the first is preferred."""
        return GrammarConstraint(self.start.deep_copy(), self.rows, stop)


class GrammarConstraint:
    """Follows one choice; implements the engine's `Constraint`.

    A text that the grammar cannot continue, or for which it becomes too complex, may only stop.
    """

    def __init__(self, matcher: LLMatcher, rows: int, stop: Sequence[int]) -> None:
        assert stop, "a constrained text needs a stop token"
        self._matcher, self._rows, self._stop = matcher, rows, list(stop)
        self._text: list[int] = []

    def forced(self, text: Sequence[int]) -> Sequence[int]:
        """Tokens that must follow; the first stop token after a text that cannot be continued."""
        self._follow(text)
        if self._matcher.is_error():
            return ()
        if self._matcher.is_stopped():
            return self._stop[:1]
        return self._matcher.compute_ff_tokens()

    def allowed(self, text: Sequence[int]) -> npt.NDArray[np.bool_]:
        """(V,) tokens that may follow."""
        self._follow(text)
        matcher = self._matcher
        if matcher.is_error() or matcher.is_stopped():
            return self._only_stop()
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        if matcher.is_error():
            return self._only_stop()
        mask = np.unpackbits(bits, count=self._rows, bitorder="little").view(np.bool_)
        mask[self._stop] = matcher.is_accepting()
        return mask if mask.any() else self._only_stop()

    def _only_stop(self) -> npt.NDArray[np.bool_]:
        mask = np.zeros(self._rows, dtype=np.bool_)
        mask[self._stop] = True
        return mask

    def _follow(self, text: Sequence[int]) -> None:
        """Advance the matcher by the tokens it has not seen; from the start if earlier ones were dropped."""
        known = len(self._text)
        if list(text[:known]) != self._text:
            self._matcher.reset()
            self._text, known = [], 0
        new = list(text[known:])
        self._text += new
        if new and not self._matcher.is_error() and not self._matcher.consume_tokens(new):
            _log.warning("a constrained text ends early: %s", self._matcher.get_error().splitlines()[0])


def schema_grammar(tokenizer: Tokenizer, rows: int, schema: Schema) -> Grammar:
    """Compile a JSON schema; {} accepts any JSON. Raises UserError that names the part which cannot be used."""
    vocabulary = vocabulary_of(tokenizer, rows)
    problem = schema_problem(schema)
    if problem:
        part, reason = _blamed(schema, "", schema) or ("", problem)
        raise UserError(
            f"the JSON schema cannot be used{f' at {part}' if part else ''}: {reason}",
            "",
            "change this part, or leave it out and validate the response yourself",
        )
    return _compiled(vocabulary, rows, _grammar_of(schema, lenient=False), "the JSON schema")


def lark_grammar(tokenizer: Tokenizer, rows: int, lark: str) -> Grammar:
    """Compile a grammar in llguidance's dialect of Lark. Raises UserError if it is not valid."""
    return _compiled(vocabulary_of(tokenizer, rows), rows, LLMatcher.grammar_from_lark(lark), "the grammar")


def schema_problem(schema: Schema, *, lenient: bool = False) -> str:
    """Why a schema cannot be compiled; empty if it can. `lenient` ignores keywords that are not supported."""
    try:
        grammar = _grammar_of(schema, lenient=lenient)
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    try:
        failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=_limits())
    except BaseException as error:
        # It panics when it shortens its message about a long value outside ASCII; a panic is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return "a value in it has the wrong type"
    return " ".join(messages[0].split()) if failed else ""


def vocabulary_of(tokenizer: Tokenizer, rows: int) -> LLTokenizer:
    """The vocabulary in llguidance's form, prepared once. Raises UserError if the bytes of tokens are not known."""
    key = (id(tokenizer), rows)
    with _lock:
        if key in _vocabularies:
            return _vocabularies[key][1]
        if tokenizer.backend.token_bytes is None:
            raise UserError(
                "responses of this model cannot be constrained: the bytes of its tokens are not known",
                tokenizer.origin,
                "ask without a schema and without a required tool",
            )
        prepared = LLTokenizer(TokenizerWrapper(_Bytes(tokenizer, rows)))
        while len(_vocabularies) >= KEPT_VOCABULARIES:
            del _vocabularies[next(iter(_vocabularies))]
        # The tokenizer is kept, because another one could get its id.
        _vocabularies[key] = (tokenizer, prepared)
        return prepared


class _Bytes:
    """A tokenizer as llguidance's wrapper expects it."""

    def __init__(self, tokenizer: Tokenizer, rows: int) -> None:
        size = min(tokenizer.vocab_size, rows)
        self.tokens = [tokenizer.bytes_of(index) for index in range(size)] + [b""] * (rows - size)
        marks = tokenizer.backend.marks
        self._tags = {tag: marks[tag].id for tag in TAGS if tag in marks and marks[tag].id < size}
        self.special_token_ids = sorted(tokenizer.special_ids - set(self._tags.values()))
        self.eos_token_id = min(tokenizer.stop_ids, default=min(tokenizer.special_ids, default=0))
        self.bos_token_id = tokenizer.bos_id
        self._backend = tokenizer.backend

    def __call__(self, text: str | bytes) -> list[int]:
        plain = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
        ids: list[int] = []
        for part in re.split(f"({'|'.join(self._tags)})", plain) if self._tags else [plain]:
            ids += [self._tags[part]] if part in self._tags else self._backend.encode(part, at_start=False).ids
        return ids


def _limits() -> LLParserLimits:
    return LLParserLimits(verbose_errors=False)


def _compiled(vocabulary: LLTokenizer, rows: int, grammar: str, name: str) -> Grammar:
    """Compile a grammar and take a first step. Raises UserError if it is not valid, too complex, or allows no text."""
    start = LLMatcher(vocabulary, grammar, log_level=0, limits=_limits())
    trial = start.deep_copy()
    trial.consume_tokens(trial.compute_ff_tokens())
    possible = trial.is_stopped() or any(trial.compute_bitmask())
    if trial.is_error() or not possible:
        message = trial.get_error().partition("\n")[0]
        reason = "no text satisfies it" if not message or message.startswith("NoExtension") else message
        raise UserError(f"{name} cannot be used: {reason}", "", "make it simpler, or leave it out")
    return Grammar(start=start, rows=rows)


def guided(schema: Schema, *, lenient: bool = False) -> Schema:
    """The schema with llguidance's options: SPACING, and whether keywords that are not supported are ignored."""
    return {**schema, "x-guidance": {**SPACING, "lenient": lenient, **schema.get("x-guidance", {})}}


def _grammar_of(schema: Schema, *, lenient: bool) -> str:
    return LLMatcher.grammar_from_json_schema(json.dumps(guided(schema, lenient=lenient)))


def _blamed(schema: Any, path: str, root: Schema, depth: int = BLAMED_DEPTH) -> tuple[str, str] | None:
    """The innermost part of a schema that cannot be compiled by itself, and why; at most `depth` levels down."""
    if not isinstance(schema, Mapping):
        return None
    for place, part in _parts(schema) if depth else ():
        found = _blamed(part, f"{path}.{place}" if path else place, root, depth - 1)
        if found:
            return found
    shared = {key: root[key] for key in ("$defs", "definitions") if key in root and schema is not root}
    problem = schema_problem({**schema, **shared})
    return (path, problem) if problem else None


def _parts(schema: Schema) -> Iterator[tuple[str, Any]]:
    """The schemas inside a schema, with their places."""
    for key, value in schema.items():
        if key in NESTED_SCHEMAS and isinstance(value, Mapping):
            yield from ((f"{key}.{name}", part) for name, part in value.items())
        elif key in NESTED_LISTS and isinstance(value, list):
            yield from ((f"{key}.{number}", part) for number, part in enumerate(value))
        elif key in NESTED:
            yield key, value
