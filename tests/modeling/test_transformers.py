"""Comparison with transformers, if it and PyTorch are installed: random checkpoints, and our saved ones."""

import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from tests.modeling.make_golden import CHECKPOINTS, GOLDEN, make_checkpoint, random_tokens, reference_logits
from tests.modeling.tiny import largest_difference

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

TOLERANCE = 1e-4


def fresh_settings(choose: random.Random) -> dict[str, Any]:
    """A random `config.json` of any family and generation of keys."""
    kind = choose.choice(["llama", "mistral", "gemma2", "gemma3_text", "qwen3"])
    key_heads = choose.choice([1, 2, 3])
    settings: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": choose.randint(30, 90),
        "hidden_size": (heads := key_heads * choose.choice([1, 2, 4])) * choose.choice([4, 6, 8]),
        "intermediate_size": choose.randint(16, 60),
        "num_hidden_layers": choose.randint(1, 4),
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": choose.choice([4, 8, 14, 16]),
        "max_position_embeddings": 128,
        "rms_norm_eps": choose.choice([1e-5, 1e-6]),
        "tie_word_embeddings": choose.choice([True, False]),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    scaling: dict[str, Any] | None = choose.choice(
        [
            None,
            {"rope_type": "linear", "factor": choose.uniform(1.5, 8)},
            {"rope_type": "llama3", "factor": choose.uniform(2, 32), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            | {"original_max_position_embeddings": choose.choice([32, 64])},
        ]
    )
    theta = choose.choice([10000.0, 500000.0])
    if choose.random() < 0.5:
        settings |= {"rope_theta": theta, "rope_scaling": scaling}
    else:
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": theta} | (scaling or {})
    if kind == "gemma3_text":
        if "rope_parameters" in settings:
            local = {"rope_type": "default", "rope_theta": choose.choice([100.0, 10000.0])}
            settings["rope_parameters"] = {
                "full_attention": settings["rope_parameters"],
                "sliding_attention": local,
            }
        else:
            settings["rope_local_base_freq"] = choose.choice([100.0, 10000.0])
        settings["sliding_window_pattern"] = choose.choice([2, 3, 6])
    if kind == "qwen3":
        settings |= {"use_sliding_window": choose.choice([True, False]), "max_window_layers": choose.randint(0, 3)}
    if kind != "llama":
        settings["sliding_window"] = choose.randint(4, 9)
    if kind.startswith("gemma"):
        settings["query_pre_attn_scalar"] = choose.randint(4, 24)
    if kind == "gemma2":
        settings["attn_logit_softcapping"] = choose.choice([50.0, 3.0, None])
        settings["final_logit_softcapping"] = choose.choice([30.0, 5.0, None])
    else:
        settings["attention_bias"] = kind in ("llama", "qwen3", "gemma3_text") and choose.random() < 0.3
    return settings


@pytest.mark.parametrize("attempt", range(10))
def test_a_new_random_checkpoint_gives_the_logits_of_transformers(attempt: int, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    settings = fresh_settings(random.Random(seed))
    make_checkpoint(tmp_path, settings, seed)
    tokens = random_tokens(settings, seed)
    difference = largest_difference(
        load_model(tmp_path)(mx.array(tokens)), mx.array(reference_logits(tmp_path, tokens))
    )
    print(f"seed {seed}: {settings['model_type']}, {difference:.1e}")
    assert difference <= TOLERANCE, f"seed {seed}: {settings}"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_golden_logits_are_still_those_of_transformers(name: str) -> None:
    with np.load(GOLDEN / name / "golden.npz") as golden:
        assert np.abs(reference_logits(GOLDEN / name, golden["tokens"]) - golden["logits"]).max() <= 1e-5


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000], ids=["one file", "shards"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_transformers_loads_what_we_save(name: str, shard_bytes: int, tmp_path: Path) -> None:
    with np.load(GOLDEN / name / "golden.npz") as golden:
        tokens, logits = golden["tokens"], golden["logits"]
    save_model(tmp_path / "saved", load_model(GOLDEN / name), max_shard_bytes=shard_bytes)
    assert np.abs(reference_logits(tmp_path / "saved", tokens) - logits).max() <= 1e-5


def test_transformers_reads_our_saved_dtype(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = load_model(GOLDEN / "llama-tied")
    save_model(tmp_path / "saved", model, dtype="bfloat16")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype="auto")
    assert theirs.dtype == torch.bfloat16
    ours: nn.Module = load_model(tmp_path / "saved", dtype="bfloat16")
    weight = theirs.model.embed_tokens.weight.detach().float().numpy()
    assert np.array_equal(weight, np.array(ours.model.embed_tokens.weight.astype(mx.float32)))
