"""Reserved, untrained and nameless ids are never sampled; stop tokens are, and a user may ask for any."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_suite import load
from mlx_suite.engine import Engine, Given, Request, Sample, Sampling
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.engine.never_sampled import banning, never_sampled, untrained, untrained_token
from mlx_suite.text import Message, Tokenizer, load_chat_template
from mlx_suite.text.reserved_tokens import reserved_ids
from tests.engine.scripted import ScriptedModel
from tests.magpie.random_checkpoint import TOKENS, write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with eight rows of padding. `<|python_tag|>` and `Q` have rows like those of reserved tokens."""
    folder = write_checkpoint(tmp_path_factory.mktemp("models") / "padded", rows=TOKENS + 8)
    model, tokenizer = load(folder)
    weights = dict(mx.load(str(folder / "model.safetensors")))
    alike = [*range(TOKENS, TOKENS + 8), *tokenizer.reserved_ids, *map(tokenizer.id_of, ("<|python_tag|>", "Q"))]
    draw = mx.random.normal((len(alike), 32), key=mx.random.key(0))
    weights["model.embed_tokens.weight"][mx.array(alike)] = mx.arange(32) % 3 - 1.0 + 0.02 * draw
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


@pytest.mark.parametrize(
    ("token", "is_reserved"),
    {
        "<unused0>": True,
        "<unused6241>": True,
        "[unused12]": True,
        "<|reserved_special_token_250|>": True,
        "[control_8]": True,
        "<|dummy_85|>": True,
        "<end_of_turn>": False,
        "<|im_end|>": False,
        "unused": False,
        "<unused>": False,
        "[INST]": False,
        "<td>": False,
    }.items(),
)
def test_reserved_tokens_are_recognised_by_their_names(token: str, is_reserved: bool) -> None:
    assert reserved_ids([token, "a"]) == ({0} if is_reserved else frozenset())


def test_an_id_without_a_token_is_reserved() -> None:
    assert reserved_ids(["a", None, "b", None]) == {1, 3}


def test_padding_reserved_tokens_and_tokens_like_them_are_never_sampled(folder: Path) -> None:
    model, tokenizer = load(folder)
    found = untrained(model, tokenizer)
    assert found >= tokenizer.reserved_ids | set(range(TOKENS, TOKENS + 8)) | {tokenizer.id_of("<|python_tag|>")}
    assert not found & tokenizer.stop_ids
    assert never_sampled(model, tokenizer) == found | tokenizer.special_ids


def test_single_bytes_stay_allowed_because_any_text_may_need_them(folder: Path) -> None:
    model, tokenizer = load(folder)
    assert untrained_token(model, tokenizer, tokenizer.id_of("Q") or 0) is not None
    assert tokenizer.id_of("Q") not in untrained(model, tokenizer)


def test_a_stop_token_with_a_reserved_name_stays_allowed(folder: Path) -> None:
    _, tokenizer = load(folder)
    reserved = min(tokenizer.reserved_ids)
    settings = replace(tokenizer.settings, stop_ids=frozenset({reserved}))
    other = Tokenizer(backend=tokenizer.backend, settings=settings, origin="")
    assert other.reserved_ids == tokenizer.reserved_ids - {reserved}


def test_stop_tokens_and_tokens_with_a_positive_bias_are_not_banned() -> None:
    sampling = Sampling(banned=(9,), logit_bias=((3, 5.0), (4, -5.0)))
    assert banning(sampling, {1, 2, 3, 4}, stop={2}).banned == (1, 4, 9)


def written(script: Mapping[int, Mapping[int, float]], sampling: Sampling) -> tuple[int, ...]:
    def program():
        yield Given((1,))
        return (yield Sample(limit=3, stop=frozenset({0}), sampling=sampling))

    [done] = Engine(ScriptedModel(script), slots=1, context=16).run([Request(program=program())])
    tokens: tuple[int, ...] = done.result.tokens
    return tokens


def test_greedy_takes_the_most_probable_token_that_is_not_banned() -> None:
    script = {1: {7: 0.6, 5: 0.3, 6: 0.1}, 5: {7: 0.9, 6: 0.1}, 6: {0: 1.0}, 7: {0: 1.0}}
    greedy = Sampling(temperature=0.0)
    assert written(script, greedy) == (7,)
    assert written(script, banning(greedy, {7}, stop={0})) == (5, 6)


def test_greedy_responses_in_any_style_have_no_reserved_token(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    weights = dict(mx.load(str(tmp_path / "model" / "model.safetensors")))
    model, tokenizer = load(folder)
    reserved = min(tokenizer.reserved_ids)
    weights["lm_head.weight"][reserved, 0] = 3.0  # by far the most probable token at every position
    mx.save_safetensors(str(tmp_path / "model" / "model.safetensors"), weights)
    model, tokenizer = load(tmp_path / "model")
    template = load_chat_template(tmp_path / "model")
    for style in ("chat", "alpaca"):
        chat = ChatModel(model=model, tokenizer=tokenizer, template=template, style=style)
        prompt = chat.styled_prompt([Message("user", "a")])
        assert int(mx.argmax(model(mx.array([prompt]))[0, -1]).item()) == reserved
        [(_, response)] = chat.respond([[Message("user", "a")]], limit=4)
        assert "reserved" not in response.text
        assert response.text
