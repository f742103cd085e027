"""Random two-layer models whose text is not uniform noise, and the text that mlx-lm generates with them."""

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map_with_path

from mlx_suite.engine import Done, Engine, Given, Program, Request, Sample, Sampling
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.gemma3 import Gemma3
from mlx_suite.modeling.llama import Llama

GREEDY = Sampling(temperature=0.0)
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
}


def randomized(model: Any, seed: int, scale: float = 0.3, embedding_scale: float = 0.1) -> Any:
    """Give `model` normal weights: large in the layers, so that context decides the next token, and small in the
    embedding, since a tied head would repeat the last token forever.
    """
    keys = iter(mx.random.split(mx.random.key(seed), 1000))

    def random(path: str, each: mx.array) -> mx.array:
        size = embedding_scale if "embed" in path else scale
        return size * mx.random.normal(each.shape, key=next(keys)) + (each.ndim == 1)

    model.update(tree_map_with_path(random, model.parameters()))
    mx.eval(model.parameters())
    return model


def small_llama(seed: int = 0, **changes: Any) -> Llama:
    return randomized(Llama(ModelConfig.from_dict({"model_type": "llama", **SHAPE, **changes})), seed)


def small_mistral(window: int = 8, seed: int = 0) -> Llama:
    """All layers have a sliding window."""
    config = {"model_type": "mistral", "sliding_window": window, **SHAPE}
    return randomized(Llama(ModelConfig.from_dict(config)), seed)


def small_gemma(window: int = 8, seed: int = 0, **changes: Any) -> Gemma2:
    """Layer 0 has a sliding window, layer 1 none; the soft caps are low enough to matter."""
    config = {
        "model_type": "gemma2",
        **SHAPE,
        "sliding_window": window,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 8.0,
    }
    return randomized(Gemma2(ModelConfig.from_dict(config | changes)), seed)


def small_gemma3(window: int = 8, seed: int = 0) -> Gemma3:
    """Layer 0 has a sliding window and a RoPE base of its own, layer 1 neither."""
    config = {"model_type": "gemma3_text", "sliding_window": window, "sliding_window_pattern": 2, **SHAPE}
    return randomized(Gemma3(ModelConfig.from_dict(config)), seed)


def one_text(prompt: Sequence[int], sample: Sample) -> Program:
    """A prompt, then sampled text; returns (tokens, reason)."""
    yield Given(tuple(prompt))
    written = yield sample
    return written.tokens, written.reason


def results(done: Iterable[Done]) -> dict[int, Any]:
    """Results by the requests' seeds."""
    return {each.request.seed: each.result for each in done}


def write(engine: Engine, prompt: Sequence[int], sample: Sample, seed: int = 0) -> tuple[int, ...]:
    """The sampled tokens of one row."""
    (done,) = engine.run([Request(program=one_text(prompt, sample), seed=seed)])
    tokens: tuple[int, ...] = done.result[0]
    return tokens


def written_by_mlx_lm(model: Any, prompt: Sequence[int], count: int) -> tuple[int, ...]:
    """Greedy tokens from mlx-lm's `generate_step`."""
    from mlx_lm.generate import generate_step

    return tuple(int(token) for token, _ in generate_step(mx.array(list(prompt)), model, max_tokens=count))


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    """Token ids between 4 and 63."""
    ids: Any = mx.random.randint(4, 64, (length,), key=mx.random.key(1000 + seed)).tolist()
    return tuple(ids)
