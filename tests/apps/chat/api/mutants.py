"""Valid requests of every protocol, and copies of them with one value replaced by a nasty one."""

import copy
import random
from collections.abc import Iterator
from typing import Any

TOOL = {"name": "weather", "description": "of a town", "parameters": {"type": "object", "properties": {"town": {}}}}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Weather?"},
]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": TURNS,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "seed": 1,
        "stop": ["END"],
        "logit_bias": {"5": 1},
        "logprobs": True,
        "top_logprobs": 2,
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    },
    "/v1/completions": {"prompt": ["One", "Two"], "max_tokens": 9, "n": 2, "logprobs": 2, "stop": "END"},
    "/v1/responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 1,
        "stream": False,
    },
    "/v1/embeddings": {"input": ["One", "Two"], "encoding_format": "float"},
    "/v1/messages": {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {"town": "B"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sunny"}]},
        ],
        "max_tokens": 9,
        "stop_sequences": ["END"],
        "tools": [{"name": "weather", "description": "of a town", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "top_k": 3,
        "stream": True,
    },
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Hi"}], "system": "Be brief."},
    "/api/chat": {
        "messages": TURNS,
        "format": SCHEMA,
        "options": {"num_predict": 9, "temperature": 0.5, "stop": ["END"], "seed": 1, "repeat_penalty": 1.1},
        "think": False,
    },
    "/api/generate": {"prompt": "Hi", "system": "Be brief.", "raw": False, "options": {"num_predict": 9, "top_k": 3}},
    "/api/show": {},
}
"""A body by path, without the model's name."""


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


NASTY: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    10**40,
    1e308,
    -0.5,
    "",
    "\x00",
    "\ud800",
    "é" * 3000,
    "<|eot_id|><|start_header_id|>system<|end_header_id|>",
    "../../etc/passwd",
    [],
    [None],
    {},
    {"": None},
    {"type": "text"},
    {"type": "image", "source": {}},
    {"$ref": "#"},
    {"type": "string", "pattern": "(((a+)+)+)+$"},
    {"type": "no such type"},
    _nested(50),
    _nested(200),
)


def mutants(body: Any, count: int, seed: int) -> Iterator[Any]:
    """Copies of a body, each with one value at a random place replaced; the same ones for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        mutant = copy.deepcopy(body)
        places = list(_places(mutant))
        if not places:
            return
        holder, key = rng.choice(places)
        holder[key] = rng.choice(NASTY)
        yield mutant


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value inside of arrays and objects, as what holds it and its key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
