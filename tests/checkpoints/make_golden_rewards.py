"""Writes `golden_rewards/`: small random reward models, and their rewards as computed by transformers.

    python -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.13.0 transformers==5.24.0
    /tmp/golden/bin/python tests/checkpoints/make_golden_rewards.py

Each folder is a checkpoint (config.json, model.safetensors) with a `golden.npz`: right-padded `tokens` (B, L),
`lengths` (B,) and fp32 `rewards` (B,).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name("golden_rewards")
PAD = 0

SHAPE = {
    "vocab_size": 47,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rope_theta": 10000.0,
    "pad_token_id": PAD,
    "num_labels": 1,
}
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "llama": SHAPE | {"model_type": "llama", "rms_norm_eps": 1e-5},
    "mistral": SHAPE | {"model_type": "mistral", "rms_norm_eps": 1e-5, "sliding_window": 5},
    "gemma2": SHAPE
    | {"model_type": "gemma2", "rms_norm_eps": 1e-6, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
}


def make_checkpoint(folder: Path, settings: dict[str, Any], seed: int) -> None:
    """Write a reward model with random weights, large enough for every operation to matter."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(0.0 if settings["model_type"] == "gemma2" else 1.0, 0.3)
            elif "embed" in name:
                parameter.normal_(0.0, 0.5)
            else:
                parameter.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)
    model.save_pretrained(folder)


def reference_rewards(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """fp32 rewards (B,) of the checkpoint in `folder` by transformers; `tokens` (B, L) are padded with PAD."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = torch.from_numpy(tokens.astype(np.int64))
    with torch.no_grad():
        logits: np.ndarray = model(ids, attention_mask=(ids != PAD).long(), use_cache=False).logits.numpy()
    return logits[:, 0]


def random_texts(settings: dict[str, Any], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded tokens (4, L) and lengths (4,)."""
    random = np.random.RandomState(seed)
    lengths = np.array([19, 3, 12, 1], np.int32)
    tokens = random.randint(PAD + 1, settings["vocab_size"], (4, lengths.max())).astype(np.int32)
    tokens[np.arange(lengths.max())[None] >= lengths[:, None]] = PAD
    return tokens, lengths


def main() -> None:
    for seed, (name, settings) in enumerate(CHECKPOINTS.items()):
        folder = GOLDEN / name
        make_checkpoint(folder, settings, seed)
        tokens, lengths = random_texts(settings, seed)
        rewards = reference_rewards(folder, tokens)
        np.savez_compressed(folder / "golden.npz", tokens=tokens, lengths=lengths, rewards=rewards)
        print(f"{name:8} {np.round(rewards, 3)}")


if __name__ == "__main__":
    main()
