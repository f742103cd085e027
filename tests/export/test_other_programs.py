"""Files are exchanged with transformers and PEFT in both directions with equal logits in fp32."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_suite.adapters.attach import AdapterConfig, adapter_of, apply_adapter, load_adapter, write_adapter
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.export.fuse import fuse, fuse_checkpoint
from tests.export.adapted import ADAPTERS, adapted_model, shake
from tests.magpie.random_checkpoint import write_checkpoint
from tests.modeling.tiny import tiny_model, tokens

pytestmark = pytest.mark.exports
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

BOUND = 1e-4
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama, tied": {"model_type": "llama", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral"},
    "gemma2": {"model_type": "gemma2"},
    "gemma3": {"model_type": "gemma3_text"},
    "qwen3": {"model_type": "qwen3"},
}


def of_family(name: str) -> tuple[str, dict[str, Any]]:
    changes = dict(FAMILIES[name])
    return changes.pop("model_type"), changes


def in_torch(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def torch_logits(model: Any, ids: mx.array) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor(np.array(ids)), use_cache=False).logits.numpy()
    return found


def apart(model: nn.Module, other: Any, vocabulary: int = 50) -> float:
    """The largest difference between the logits of our model and torch's."""
    ids = tokens(15, rows=2) % vocabulary
    return float(np.abs(np.array(model(ids)) - torch_logits(other, ids)).max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_peft_computes_the_same_with_our_adapter(kind: str, family: str, tmp_path: Path) -> None:
    name, changes = of_family(family)
    model = adapted_model(name, ADAPTERS[kind], tmp_path, **changes)
    write_adapter(tmp_path / "peft", load_adapter(tmp_path / "adapter"), layout="peft")
    base = in_torch(tmp_path / "base")
    assert apart(model, base) > 1.0, "the adapter does nothing"
    other = peft.PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    found = apart(model, other)
    print(f"ours in PEFT, {family}, {kind}: {found:.2g}")
    assert found < BOUND


TRAINED: dict[str, dict[str, Any]] = {
    "LoRA": {"target_modules": ["q_proj", "v_proj", "down_proj"]},
    "rsLoRA": {"target_modules": ["q_proj", "up_proj"], "use_rslora": True},
    "DoRA": {"target_modules": ["k_proj", "o_proj"], "use_dora": True},
    "ranks and alphas by layer": {
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "rank_pattern": {"v_proj": 2, r"layers\.1\.mlp\.up_proj": 7},
        "alpha_pattern": {"v_proj": 3, "layers.0.self_attn.q_proj": 20},
    },
    "rsLoRA, ranks by layer": {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v": 2}, "use_rslora": True},
    "DoRA, alphas by layer": {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 3}, "use_dora": True},
    "some blocks": {"target_modules": ["q_proj"], "layers_to_transform": [0, 2]},
    "an expression": {"target_modules": r".*layers\.[12]\.mlp\.(up|down)_proj"},
    "all linear layers": {"target_modules": "all-linear"},
    "embedding and head": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
}
"""Configurations for PEFT."""


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("kind", TRAINED)
def test_we_compute_the_same_with_an_adapter_of_peft(kind: str, family: str, tmp_path: Path) -> None:
    # Gemma 2 untied: with tied weights PEFT's embedding and head are adapted apart.
    model = tiny_model(family, tie_word_embeddings=False)
    save_model(tmp_path / "base", model)
    trained = trained_by_peft(tmp_path, **TRAINED[kind])
    apply_adapter(model, load_adapter(tmp_path / "peft"))
    found = apart(model, trained)
    print(f"PEFT's in ours, {family}, {kind}: {found:.2g}")
    assert found < BOUND
    assert apart(load_model(tmp_path / "base"), trained) > 0.1, "the adapter does nothing"


def test_an_embedding_that_peft_ties_to_the_head_is_one_layer(tmp_path: Path) -> None:
    model = tiny_model("gemma2")
    save_model(tmp_path / "base", model)
    trained = trained_by_peft(tmp_path, target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True)
    apply_adapter(model, load_adapter(tmp_path / "peft"))
    assert apart(model, trained) < BOUND


def trained_by_peft(folder: Path, **settings: Any) -> Any:
    """PEFT's model on `folder`/base with random arrays, which it saves to `folder`/peft."""
    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **settings)
    model = peft.get_peft_model(in_torch(folder / "base"), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.mul_(torch.rand_like(parameter) * 0.6 + 0.7)
            elif "lora_" in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder / "peft")
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "embedding and head"])
def test_transformers_computes_the_same_with_the_fused_model(kind: str, family: str, tmp_path: Path) -> None:
    name, changes = of_family(family)
    model = adapted_model(name, ADAPTERS[kind], tmp_path, **changes)
    merged = load_model(tmp_path / "base")
    apply_adapter(merged, load_adapter(tmp_path / "adapter"))
    fuse(merged)
    save_model(tmp_path / "fused", merged)
    found = apart(model, in_torch(tmp_path / "fused"))
    print(f"fused in transformers, {family}, {kind}: {found:.2g}")
    assert found < BOUND


def test_a_fused_checkpoint_has_its_tokenizer_and_opens_in_transformers(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = write_checkpoint(tmp_path / "base")
    model = load_model(base)
    config = AdapterConfig(rank=2)
    add_adapters(model, config)
    shake(model, 0.05)
    write_adapter(tmp_path / "adapter", adapter_of(model, config), layout="peft")
    fuse_checkpoint(base, tmp_path / "adapter", tmp_path / "fused")
    assert apart(model, in_torch(tmp_path / "fused")) < BOUND
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "fused")
    assert tokenizer.decode(tokenizer.encode("abc", add_special_tokens=False)) == "abc"
