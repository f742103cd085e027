"""Generation up to a stop text, which may begin and end inside tokens."""

import pytest

from mlx_suite.engine import Engine, Request, Sampling
from mlx_suite.evaluate.text_stops import cut_before, write_until
from tests.engine.scripted import ScriptedModel
from tests.evaluate.conftest import Loaded

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def write(checkpoint: Loaded, texts: list[str], limit: int = 30, end: str = "") -> tuple[str, str, int]:
    """The text and reason of a model that writes the alphabet, and the number of tokens sampled."""
    tokenizer = checkpoint.tokenizer
    ids = tokenizer.encode("\n" + LETTERS)
    script = dict(zip(ids, ids[1:], strict=False))
    stop = tokenizer.id_of("<|eot_id|>")
    assert stop is not None
    if end:
        script[tokenizer.encode(end)[0]] = stop
    engine = Engine(ScriptedModel(script, vocab_size=272), slots=1, context=200)
    program = write_until(
        tokenizer, ids[:1], texts, limit=limit, stop=frozenset({stop}), sampling=Sampling(temperature=0.0)
    )
    [done] = engine.run([Request(program=program)])
    return (*done.result, engine.stats.sampled)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["d"], "abc"),
        (["op"], "abcdefghijklmn"),
        (["x", "cd"], "ab"),
        (["", "zz"], "abcdefghijklmnopqrstuvwxyz0123"),
        ([], "abcdefghijklmnopqrstuvwxyz0123"),
    ],
)
def test_the_earliest_stop_text_ends_generation(checkpoint: Loaded, texts: list[str], expected: str) -> None:
    assert write(checkpoint, texts)[0] == expected


def test_no_token_follows_the_one_that_completes_a_stop_text(checkpoint: Loaded) -> None:
    assert write(checkpoint, ["c"]) == ("ab", "stop", 3)


def test_a_stop_token_ends_generation_too(checkpoint: Loaded) -> None:
    assert write(checkpoint, ["zz"], end="e") == ("abcde", "stop", 6)


def test_text_is_cut_before_the_earliest_stop_text() -> None:
    assert cut_before("one. two, three", [",", "."]) == "one"
    assert cut_before("one", ["", "two"]) == "one"
