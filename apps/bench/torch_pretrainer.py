"""A pretraining loop in torch of nanochat's shape, on the CPU: an optional comparison.

RoPE, RMSNorm, grouped-query attention through `scaled_dot_product_attention`, all logits in one cross-entropy, fused
AdamW, or torch's Muon for the matrices in the blocks with AdamW for the rest. No `torch.compile`, as nanochat runs on a
CPU. The block is Llama's, so that both sides train the same weights.
"""

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .turns import TurnOrder, resident_peak

if TYPE_CHECKING:
    from .pretraining import PretrainingJob

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
CLIP = 1.0


def torch_loop(job: "PretrainingJob", turns: TurnOrder) -> None:
    """Train for one round of steps per turn; the time includes making the batches."""
    import torch

    from .pretraining import Round

    model = torch_model(job.workload.shape, job.weights)
    optimizers = make_optimizers(model, job.optimizer)
    steps = job.workload.steps
    for number in range(1 + job.workload.rounds):
        turns.wait()
        total = 0.0
        start = time.perf_counter()
        for at in range(number * steps, (number + 1) * steps):
            rows = torch.from_numpy(job.rows[at])
            loss = model(rows[:, :-1], rows[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = job.rates[at]
                optimizer.step()
            model.zero_grad(set_to_none=True)
            total += loss.item()
        seconds = time.perf_counter() - start
        with torch.no_grad():
            held_out = [model(rows[:, :-1], rows[:, 1:]).item() for rows in map(torch.from_numpy, job.held_out)]
        turns.report(
            Round(
                seconds=seconds,
                loss=total / steps,
                held_out=sum(held_out) / len(held_out),
                resident_bytes=resident_peak(),
            )
        )


def make_optimizers(model: Any, name: str) -> list[Any]:
    """Fused AdamW for all parameters, or Muon for the matrices in the blocks and AdamW for the rest."""
    import torch

    inner = [p for key, p in model.named_parameters() if p.ndim == 2 and "embed" not in key]
    rest = [p for key, p in model.named_parameters() if p.ndim != 2 or "embed" in key]
    options = {"betas": BETAS, "weight_decay": WEIGHT_DECAY, "fused": True}
    if name == "adamw":
        return [torch.optim.AdamW([*inner, *rest], lr=0.0, **options)]
    muon = torch.optim.Muon(inner, lr=0.0, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=0.0, **options)]


def torch_model(shape: dict[str, Any], weights: str) -> Any:
    """A Llama with tied embeddings that returns the mean loss: tokens (B, L), targets (B, L) → scalar."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    heads, kv_heads, head_dim = shape["num_attention_heads"], shape["num_key_value_heads"], shape["head_dim"]
    width, inner, eps = shape["hidden_size"], shape["intermediate_size"], shape["rms_norm_eps"]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.self_attn = nn.ModuleDict(
                {
                    "q_proj": nn.Linear(width, heads * head_dim, bias=False),
                    "k_proj": nn.Linear(width, kv_heads * head_dim, bias=False),
                    "v_proj": nn.Linear(width, kv_heads * head_dim, bias=False),
                    "o_proj": nn.Linear(heads * head_dim, width, bias=False),
                }
            )
            self.mlp = nn.ModuleDict(
                {
                    "gate_proj": nn.Linear(width, inner, bias=False),
                    "up_proj": nn.Linear(width, inner, bias=False),
                    "down_proj": nn.Linear(inner, width, bias=False),
                }
            )
            self.input_layernorm = nn.RMSNorm(width, eps=eps)
            self.post_attention_layernorm = nn.RMSNorm(width, eps=eps)

        def forward(self, x: Any, cos: Any, sin: Any) -> Any:
            attn, mlp, h = self.self_attn, self.mlp, self.input_layernorm(x)
            rows, length, _ = h.shape
            q, k, v = (
                attn[name](h).view(rows, length, -1, head_dim).transpose(1, 2)
                for name in ("q_proj", "k_proj", "v_proj")
            )
            q, k = (rotate(each, cos, sin) for each in (q, k))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
            x = x + attn["o_proj"](y.transpose(1, 2).reshape(rows, length, -1))
            h = self.post_attention_layernorm(x)
            return x + mlp["down_proj"](F.silu(mlp["gate_proj"](h)) * mlp["up_proj"](h))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = nn.Embedding(shape["vocab_size"], width)
            self.layers = nn.ModuleList(Block() for _ in range(shape["num_hidden_layers"]))
            self.norm = nn.RMSNorm(width, eps=eps)
            frequencies = shape["rope_theta"] ** (-torch.arange(0, head_dim, 2) / head_dim)
            angles = torch.outer(torch.arange(shape["max_position_embeddings"]), frequencies)
            self.register_buffer("cos", angles.cos(), persistent=False)
            self.register_buffer("sin", angles.sin(), persistent=False)

        def forward(self, tokens: Any, targets: Any) -> Any:
            length = tokens.shape[1]
            x = self.embed_tokens(tokens)
            for layer in self.layers:
                x = layer(x, self.cos[:length], self.sin[:length])
            logits = F.linear(self.norm(x), self.embed_tokens.weight)
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    def rotate(x: Any, cos: Any, sin: Any) -> Any:
        one, other = x.chunk(2, dim=-1)
        return torch.cat([one * cos - other * sin, other * cos + one * sin], dim=-1)

    model = Model()
    with np.load(weights) as arrays:
        model.load_state_dict({name.removeprefix("model."): torch.from_numpy(arrays[name]) for name in arrays})
    return model
