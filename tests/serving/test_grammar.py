"""Constraints to grammars: which tokens may follow, which must, and what schemas are refused."""

import json
from typing import Any

import numpy as np
import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.grammar import GrammarConstraint, lark_grammar, schema_grammar
from mlx_suite.text import Tokenizer, load_tokenizer
from tests.serving.tool_templates import MODELS, PERSON

TOKENIZERS = {name: load_tokenizer(MODELS / name) for name in ("tiny-llama3", "tiny-gemma2")}
LLAMA = TOKENIZERS["tiny-llama3"]
PADDING = 5
"""Embedding rows without a token."""


def constraint(schema: dict[str, Any], tokenizer: Tokenizer = LLAMA, stop: tuple[int, ...] = ()) -> GrammarConstraint:
    rows = tokenizer.vocab_size + PADDING
    return schema_grammar(tokenizer, rows, schema).constraint(stop or sorted(tokenizer.stop_ids))


def text_of(ids: Any, tokenizer: Tokenizer = LLAMA) -> str:
    return b"".join(tokenizer.bytes_of(int(index)) for index in ids).decode()


def test_keys_are_forced_and_values_are_free() -> None:
    one = constraint(PERSON)
    start = list(one.forced([]))
    assert text_of(start) == '{"name":'
    assert text_of(np.flatnonzero(one.allowed(start))) == '  "'  # two tokens: a space, with or without the quote
    name = [*start, *LLAMA.encode(' "Ada"')]
    assert text_of(one.forced(name)) == ', "age": '


def test_stop_tokens_may_follow_exactly_where_the_schema_is_satisfied() -> None:
    stop = (LLAMA.vocab_size - 1, LLAMA.vocab_size - 2)
    one = constraint({"type": "integer"}, stop=stop)
    assert not one.allowed([])[list(stop)].any()
    digits = LLAMA.encode("12")
    mask = one.allowed(digits)
    assert mask[list(stop)].all() and mask[LLAMA.encode("3")].all()


def test_a_text_that_is_complete_must_stop_with_the_first_stop_token() -> None:
    stop = (LLAMA.vocab_size - 1, LLAMA.vocab_size - 2)
    one = constraint(PERSON, stop=stop)
    text = LLAMA.encode('{"name": "Ada", "age": 36}')
    assert one.forced(text) == [stop[0]]
    assert sorted(np.flatnonzero(one.allowed(text))) == sorted(stop)


def test_special_tokens_and_rows_without_a_token_never_follow() -> None:
    mask = constraint({"type": "string"}).allowed(LLAMA.encode('"'))
    assert mask.shape == (LLAMA.vocab_size + PADDING,)
    assert not mask[LLAMA.vocab_size :].any()
    assert not mask[sorted(LLAMA.special_ids)].any()


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_sampled_the_text_satisfies_the_schema(name: str, seed: int) -> None:
    tokenizer, random = TOKENIZERS[name], np.random.default_rng(seed)
    one, stops = constraint(PERSON, tokenizer), tokenizer.stop_ids
    text: list[int] = []
    while len(text) < 100 and not stops & set(text):
        text += list(one.forced(text)) or [int(random.choice(np.flatnonzero(one.allowed(text))))]
    person = json.loads(text_of(text[:-1], tokenizer))
    assert set(person) == {"name", "age"}
    assert len(person["name"]) <= 8 and 0 <= person["age"] <= 150


def test_constraints_of_one_grammar_advance_apart() -> None:
    grammar = schema_grammar(LLAMA, LLAMA.vocab_size, PERSON)
    stop = sorted(LLAMA.stop_ids)
    first, second = grammar.constraint(stop), grammar.constraint(stop)
    first.forced(LLAMA.encode('{"name": "Ada"'))
    assert text_of(second.forced([])) == '{"name":'


def test_a_text_that_was_shortened_is_followed_from_its_start() -> None:
    one = constraint({"enum": ["ab", "cd"]})
    assert text_of(one.forced(LLAMA.encode('"a'))) == 'b"'
    assert text_of(one.forced(LLAMA.encode('"c'))) == 'd"'


def test_a_text_outside_the_grammar_may_only_stop(caplog: pytest.LogCaptureFixture) -> None:
    one = constraint(PERSON)
    text = LLAMA.encode("Hello")
    assert one.forced(text) == ()
    assert set(np.flatnonzero(one.allowed(text))) == LLAMA.stop_ids
    assert "a constrained text ends early" in caplog.text


def test_an_empty_schema_accepts_any_json() -> None:
    for text in ('{"a": [1, null, {"b": "c"}]}', "[]", '"x"', "-1.5"):
        assert constraint({}).allowed(LLAMA.encode(text))[sorted(LLAMA.stop_ids)].all()


@pytest.mark.parametrize(
    ("schema", "part", "what"),
    [
        ({"type": "objekt"}, "", "Invalid type: objekt"),
        ({"properties": {"a": {"type": "string", "pattern": "(?=x)"}}}, "properties.a", "look-around"),
        ({"properties": {"a": {"items": {"not": {}}}}}, "properties.a.items", 'Unimplemented keys: ["not"]'),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]}, "anyOf.1", "Pointer '/$defs/x' does not exist"),
        ({"$defs": {"x": {"format": "odd", "type": "string"}}, "$ref": "#/$defs/x"}, "$defs.x", "Unknown format: odd"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "", "Unsatisfiable"),
        ({"type": "object", "properties": {f"p{number}": {} for number in range(3000)}}, "", "max is 2000"),
        ({"$ref": "#"}, "", "no text satisfies it"),
        ({"properties": {"a": object()}}, "", "not JSON serializable"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_part(schema: dict[str, Any], part: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        schema_grammar(LLAMA, LLAMA.vocab_size, schema)
    assert caught.value.what.startswith(f"the JSON schema cannot be used{part and ' at ' + part}: ")
    assert what in caught.value.what


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(UserError, match="recursion"):
        schema_grammar(LLAMA, LLAMA.vocab_size, schema)


def test_a_grammar_that_is_not_valid_is_refused() -> None:
    with pytest.raises(UserError, match="the grammar cannot be used"):
        lark_grammar(LLAMA, LLAMA.vocab_size, "start: missing_rule")
