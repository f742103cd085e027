"""Writing up to a text that may begin and end within tokens."""

import pytest

from mlx_suite.engine import Engine, Request, Sampling
from mlx_suite.evaluate.text_stops import cut_before, write_until
from tests.engine.scripted import ScriptedModel
from tests.evaluate.conftest import Loaded

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def write(checkpoint: Loaded, texts: list[str], limit: int = 30, end: str = "") -> tuple[str, int]:
    """What a model that writes the alphabet has written, and how many tokens it took."""
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
    return done.result, engine.stats.sampled


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["d"], "abc"),
        (["op"], "abcdefghijklmn"),  # ends the first stretch
        (["pq"], "abcdefghijklmno"),  # lies across two
        (["x", "cd"], "ab"),
        (["", "zz"], "abcdefghijklmnopqrstuvwxyz0123"),
        ([], "abcdefghijklmnopqrstuvwxyz0123"),
    ],
)
def test_the_first_of_the_texts_ends_it(checkpoint: Loaded, texts: list[str], expected: str) -> None:
    assert write(checkpoint, texts)[0] == expected


def test_at_most_one_stretch_is_written_for_nothing(checkpoint: Loaded) -> None:
    assert write(checkpoint, ["c"])[1] == 16


def test_a_stop_token_ends_it_too(checkpoint: Loaded) -> None:
    assert write(checkpoint, ["zz"], end="e") == ("abcde", 6)


def test_text_is_cut_before_whichever_comes_first() -> None:
    assert cut_before("one. two, three", [",", "."]) == "one"
    assert cut_before("one", ["", "two"]) == "one"
