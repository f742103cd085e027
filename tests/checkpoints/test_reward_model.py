"""Rewards compared with those of transformers (see make_golden_rewards.py), and rejected checkpoints."""

import json
import random
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_suite.checkpoints.load import load_reward_model
from mlx_suite.modeling import attention
from mlx_suite.modeling import fast_math as elementary
from mlx_suite.modeling.reward_model import rewards
from mlx_suite.runtime.errors import UserError
from tests.checkpoints.make_golden_rewards import CHECKPOINTS, GOLDEN, make_checkpoint, random_texts, reference_rewards

TOLERANCE = 1e-4


def golden(name: str) -> tuple[list[list[int]], list[float]]:
    """Texts without padding, and their rewards."""
    with np.load(GOLDEN / name / "golden.npz") as arrays:
        rows = zip(arrays["tokens"].tolist(), arrays["lengths"].tolist(), strict=True)
        return [row[:length] for row, length in rows], arrays["rewards"].tolist()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_rewards_equal_those_of_transformers(name: str) -> None:
    texts, expected = golden(name)
    assert rewards(load_reward_model(GOLDEN / name), texts) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_rewards_are_the_same_with_the_operations_used_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attention, elementary):
        monkeypatch.setattr(module, "built_in_is_slow", lambda x: False)
    texts, expected = golden(name)
    assert rewards(load_reward_model(GOLDEN / name), texts) == pytest.approx(expected, abs=TOLERANCE)


def test_the_reward_of_a_text_does_not_depend_on_its_batch() -> None:
    texts, expected = golden("llama")
    model = load_reward_model(GOLDEN / "llama")
    assert rewards(model, texts, batch=1) == pytest.approx(expected, abs=TOLERANCE)
    assert rewards(model, texts[2:3]) == pytest.approx(expected[2:3], abs=TOLERANCE)
    assert rewards(model, []) == []


def test_rewards_are_fp32_for_weights_of_any_dtype() -> None:
    texts, _ = golden("llama")
    found = rewards(load_reward_model(GOLDEN / "llama", dtype="bfloat16"), texts)
    assert any(value != float(mx.array(value).astype(mx.bfloat16)) for value in found)


def test_a_nan_reward_is_reported() -> None:
    model = load_reward_model(GOLDEN / "llama")
    model.score.weight = model.score.weight * float("nan")
    with pytest.raises(UserError, match="rewards contain NaN or inf"):
        rewards(model, [[1, 2]])


def test_a_quantized_reward_model_is_close_to_the_dense_one(tmp_path: Path) -> None:
    texts, _ = golden("llama")
    dense = load_reward_model(GOLDEN / "llama")
    weights = dict(mx.load(str(GOLDEN / "llama" / "model.safetensors")))
    settings = json.loads((GOLDEN / "llama" / "config.json").read_text())
    for name in [name for name in weights if name.endswith("down_proj.weight")]:
        packed, scales, biases = mx.quantize(weights[name], group_size=32, bits=8)
        weights |= {name: packed, name.replace("weight", "scales"): scales, name.replace("weight", "biases"): biases}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "quantization": {"group_size": 32, "bits": 8}}))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)

    for dequantize in (True, False):
        packed_model = load_reward_model(tmp_path, dequantize=dequantize)
        is_packed = isinstance(packed_model.model.layers[0].mlp.down_proj, nn.QuantizedLinear)
        assert is_packed is not dequantize
        assert rewards(packed_model, texts) == pytest.approx(rewards(dense, texts), abs=0.1)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "its architecture is LlamaForCausalLM"),
        ({"architectures": None}, "its architecture is not named"),
        ({"architectures": ["BertForSequenceClassification"], "model_type": "bert"}, "its model_type is 'bert'"),
    ],
)
def test_a_checkpoint_that_is_not_a_reward_model_is_rejected_with_the_reason(
    change: dict[str, object], what: str, tmp_path: Path
) -> None:
    shutil.copytree(GOLDEN / "llama", tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | change))
    with pytest.raises(UserError, match=what):
        load_reward_model(tmp_path)


def test_a_classifier_with_several_labels_is_rejected(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "llama", tmp_path, dirs_exist_ok=True)
    weights = dict(mx.load(str(tmp_path / "model.safetensors")))
    weights["score.weight"] = mx.zeros((5, 24))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    with pytest.raises(UserError, match="it gives 5 scores per text instead of one"):
        load_reward_model(tmp_path)


@pytest.mark.torch
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_new_random_reward_model_gives_the_rewards_of_transformers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    seed = random.SystemRandom().randrange(10**6)
    make_checkpoint(tmp_path, CHECKPOINTS[name], seed)
    tokens, lengths = random_texts(CHECKPOINTS[name], seed)
    texts = [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
    expected = reference_rewards(tmp_path, tokens).tolist()
    assert rewards(load_reward_model(tmp_path), texts) == pytest.approx(expected, abs=TOLERANCE), f"seed {seed}"
