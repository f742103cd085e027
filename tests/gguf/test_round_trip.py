"""Our GGUF export, imported again, is the same model: equal logits, tokens, template and stop tokens."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.checkpoints.load import load_model
from mlx_suite.export.gguf import export_gguf
from mlx_suite.gguf.importing import import_gguf
from mlx_suite.text import load_chat_template, load_tokenizer
from mlx_suite.text.message import Message
from tests.export.checkpoints import LLAMA_SHAPES, TINY_GEMMA2, TINY_LLAMA3, VOCABULARY, random_checkpoint

BOUND = 5e-5


def apart(folder: Path, length: int = 100) -> float:
    """Largest difference of logits between a checkpoint and its export, imported again in fp32."""
    export_gguf(folder, folder.parent / "f32.gguf", type="f32")
    import_gguf(folder.parent / "f32.gguf", folder.parent / "again", packed=False)
    ids = mx.array([np.random.RandomState(0).randint(110, VOCABULARY - 20, length).tolist()])
    one, other = (load_model(each)(ids) for each in (folder, folder.parent / "again"))
    return float(mx.abs(one - other).max().item())


@pytest.mark.parametrize("shape", LLAMA_SHAPES.values(), ids=LLAMA_SHAPES)
def test_a_llama(shape: dict[str, Any], tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "llama", **shape)
    assert apart(tmp_path / "model") < BOUND


def test_a_mistral_within_its_window(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "mistral", sliding_window=64)
    assert apart(tmp_path / "model", length=64) < BOUND


@pytest.mark.parametrize("scalar", [16, 8])
def test_a_gemma2_beyond_its_window_at_any_scale(scalar: int, tmp_path: Path) -> None:
    shape = {"sliding_window": 32, "query_pre_attn_scalar": scalar}
    random_checkpoint(tmp_path / "model", "gemma2", TINY_GEMMA2, **shape)
    assert apart(tmp_path / "model") < BOUND


@pytest.mark.parametrize("scalar", [16, 8])
def test_a_gemma3_beyond_its_window_at_any_scale(scalar: int, tmp_path: Path) -> None:
    pattern = {"sliding_window_pattern": 6, "num_hidden_layers": 7}
    shape = {"sliding_window": 32, "query_pre_attn_scalar": scalar, **pattern}
    random_checkpoint(tmp_path / "model", "gemma3_text", TINY_GEMMA2, **shape)
    assert apart(tmp_path / "model") < BOUND


def test_a_qwen3(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "qwen3")
    assert apart(tmp_path / "model") < BOUND


@pytest.mark.parametrize("folder", [TINY_LLAMA3, TINY_GEMMA2], ids=lambda folder: folder.name)
def test_a_shipped_model_with_its_tokenizer_and_template(folder: Path, tmp_path: Path) -> None:
    export_gguf(folder, tmp_path / "tiny.gguf", type="bf16")
    imported = import_gguf(tmp_path / "tiny.gguf", tmp_path / "again", packed=False)
    assert (imported.dtype, imported.missing) == ("bfloat16", ())
    ours, again = load_tokenizer(folder), load_tokenizer(tmp_path / "again")
    text = "  Übergröße, 日本語:\n\tdef f(x): return x**2  # 12,345"
    assert again.encode(text) == ours.encode(text)
    assert again.stop_ids == ours.stop_ids
    conversation = [Message("user", "Hello"), Message("assistant", "Hi!"), Message("user", "Which day is it?")]
    rendered = [load_chat_template(each).render(conversation) for each in (folder, tmp_path / "again")]
    assert rendered[0] == rendered[1]
    ids = mx.array([ours.encode(text)])
    assert mx.array_equal(load_model(folder)(ids), load_model(tmp_path / "again")(ids)).item()
