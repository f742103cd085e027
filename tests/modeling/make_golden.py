"""Writes `golden/`: small random checkpoints, and their logits as computed by transformers.

    python -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.13.0 transformers==5.23.0
    /tmp/golden/bin/python tests/modeling/make_golden.py

Each folder is an ordinary checkpoint (config.json, model.safetensors) with a `golden.npz`: `tokens` (B, L), longer than
three windows, and fp32 `logits` (B, L, V). Tests read the folders with our loader, without torch.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name("golden")
BATCH = 2

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA = SHAPE | {"model_type": "llama", "rms_norm_eps": 1e-5}
MISTRAL = SHAPE | {"model_type": "mistral", "rms_norm_eps": 1e-5}
GEMMA2 = SHAPE | {"model_type": "gemma2", "rms_norm_eps": 1e-6, "head_dim": 16, "num_hidden_layers": 3}
GEMMA3 = SHAPE | {"model_type": "gemma3_text", "rms_norm_eps": 1e-6, "head_dim": 16, "num_hidden_layers": 3}
QWEN3 = SHAPE | {"model_type": "qwen3", "rms_norm_eps": 1e-6, "head_dim": 16}

# With a trained context of 64, the 4 to 8 frequencies include kept, blended and stretched ones.
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
ORIGINAL = {"original_max_position_embeddings": 16}
YARN = {"beta_fast": 4.0, "beta_slow": 0.25, "truncate": False, "attention_factor": 1.3}
DIVISORS = {"short_factor": [1.0, 1.1, 1.3, 2.0], "long_factor": [1.0, 1.5, 3.0, 6.0]}

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "llama-untied": LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "llama-tied": LLAMA | {"rope_theta": 500000.0, "rope_scaling": None, "tie_word_embeddings": True},
    "llama3-scaling": LLAMA
    | {"head_dim": 16, "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0} | LLAMA3},
    "llama3-scaling-older-keys": LLAMA
    | {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3"} | LLAMA3 | {"factor": 32.0}}
    | {"head_dim": 16, "tie_word_embeddings": True},
    "llama-linear": LLAMA | {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama-one-key-head-and-biases": LLAMA
    | {"head_dim": 20, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    "mistral-window-5": MISTRAL
    | {"sliding_window": 5, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "mistral-window-8-wide-heads": MISTRAL
    | {"sliding_window": 8, "head_dim": 24, "num_key_value_heads": 4, "rope_theta": 1000000.0},
    "mistral-no-window": MISTRAL | {"sliding_window": None, "rope_theta": 10000.0},
    "mistral-mixed-layers": MISTRAL
    | {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"], "rope_theta": 10000.0}
    | {"head_dim": 8},
    "gemma2-window-4": GEMMA2
    | {"sliding_window": 4, "query_pre_attn_scalar": 9}
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "gemma2-window-7": GEMMA2
    | {"sliding_window": 7, "query_pre_attn_scalar": 16, "rope_theta": 10000.0}
    | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma2-window-8-one-head-each": GEMMA2
    | {"sliding_window": 8, "query_pre_attn_scalar": 8, "rope_theta": 10000.0, "num_key_value_heads": 4},
    "gemma2-no-caps-global-first": GEMMA2
    | {"sliding_window": 6, "query_pre_attn_scalar": 16, "rope_theta": 10000.0}
    | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    | {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
    # Six layers: five local and one global, by the default pattern.
    "gemma3-window-4-older-keys": GEMMA3
    | {"sliding_window": 4, "query_pre_attn_scalar": 9, "num_hidden_layers": 6}
    | {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": None},
    "gemma3-window-7-scaled-global-rope": GEMMA3
    | {"sliding_window": 7, "query_pre_attn_scalar": 16, "sliding_window_pattern": 2, "rope_theta": 5000.0}
    | {"rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "gemma3-window-5-nested-rope": GEMMA3
    | {"sliding_window": 5, "query_pre_attn_scalar": 16}
    | {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}
    | {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 7000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
        }
    },
    "qwen3-untied": QWEN3 | {"rope_theta": 1000000.0, "rope_scaling": None},
    "qwen3-tied": QWEN3
    | {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    | {"head_dim": 12, "num_key_value_heads": 1},
    "qwen3-window-6-in-the-last-layer": QWEN3
    | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1, "rope_theta": 10000.0}
    | {"num_key_value_heads": 4},
    # The 29 tokens are more than the original context.
    "llama-yarn": LLAMA
    | {"head_dim": 16, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0} | ORIGINAL},
    "qwen3-yarn-with-options": QWEN3
    | {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 8.0} | ORIGINAL | YARN},
    "mistral-yarn-scaled-twice": MISTRAL
    | {"sliding_window": None, "rope_theta": 10000.0}
    | {"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 2.0, "mscale_all_dim": 0.5} | ORIGINAL},
    "llama-dynamic": LLAMA
    | {"max_position_embeddings": 16, "rope_theta": 10000.0, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "llama-longrope": LLAMA
    | {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "longrope", "factor": 4.0} | ORIGINAL | DIVISORS},
    "llama-longrope-within-the-original-context": LLAMA
    | {"original_max_position_embeddings": 64, "rope_scaling": {"rope_type": "longrope"} | DIVISORS},
}
"""`config.json` by folder name: every family, both generations of RoPE keys, windows of 4 to 8."""


def length(settings: dict[str, Any]) -> int:
    """An odd number of tokens, more than three windows."""
    return 2 * (3 * (settings.get("sliding_window") or 8) // 2) + 5


def make_checkpoint(folder: Path, settings: dict[str, Any], seed: int) -> None:
    """Write a checkpoint with random weights, large enough for every operation to matter."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    unit_offset = settings["model_type"].startswith("gemma")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(0.0 if unit_offset else 1.0, 0.3)
            elif "embed" in name or name.endswith("bias"):
                parameter.normal_(0.0, 0.5)
            else:
                # Large queries and keys make attention selective and Gemma's soft cap nonlinear.
                gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.2
                parameter.normal_(0.0, gain / parameter.shape[1] ** 0.5)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if "rope_parameters" not in settings:
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")


def reference_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """fp32 logits (B, L, V) of the checkpoint in `folder` by transformers' eager attention."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(tokens.astype(np.int64)), use_cache=False).logits.numpy()
    return logits


def random_tokens(settings: dict[str, Any], seed: int) -> np.ndarray:
    """(B, L) token ids."""
    shape = (BATCH, length(settings))
    return np.random.RandomState(seed).randint(0, settings["vocab_size"], shape).astype(np.int32)


def main() -> None:
    for seed, (name, settings) in enumerate(CHECKPOINTS.items()):
        folder = GOLDEN / name
        make_checkpoint(folder, settings, seed)
        tokens = random_tokens(settings, seed)
        logits = reference_logits(folder, tokens)
        np.savez_compressed(folder / "golden.npz", tokens=tokens, logits=logits)
        print(f"{name:32} {tokens.shape[1]:3} tokens, logits within ±{np.abs(logits).max():.1f}")


if __name__ == "__main__":
    main()
