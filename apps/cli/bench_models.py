"""Models for benchmarks: a checkpoint loaded as ours and as mlx-lm's, and random weights of several shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlx_suite.runtime.errors import UserError

_LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 500000.0}
_GEMMA2 = {
    "model_type": "gemma2",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 64,
    "sliding_window": 256,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}


def _shape(vocabulary: int, hidden: int, intermediate: int, layers: int, heads: int, key_heads: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    }


RANDOM: dict[str, dict[str, Any]] = {
    "random-llama-40m": _LLAMA | _shape(8192, 512, 1536, 12, 8, 4),
    "random-gemma2-40m": _GEMMA2 | _shape(8192, 512, 1536, 12, 8, 4),
}
"""Models of 40 million parameters, between the shipped models and real ones."""

SMALL: dict[str, dict[str, Any]] = {"random-llama-7m": _LLAMA | _shape(8192, 256, 768, 6, 4, 2)}
"""Models of 7 million parameters, small enough to train on a CPU."""

WIDE: dict[str, dict[str, Any]] = {
    "wide-llama": _LLAMA | _shape(128256, 256, 512, 2, 4, 2),
    "wide-gemma2": _GEMMA2 | _shape(256000, 256, 512, 2, 4, 2),
}
"""Narrow models with Llama 3's and Gemma 2's vocabularies, so that the LM head takes most of the memory."""


@contextmanager
def checkpoint_folder(name: str) -> Iterator[Path]:
    """Folder of the named checkpoint; random weights are saved to a temporary folder.

    Raises UserError if no model has this name.
    """
    shape = (RANDOM | SMALL | WIDE).get(name)
    if shape is None:
        from mlx_suite.hub.resolve import resolve

        yield resolve(name)
        return
    import mlx.core as mx

    from mlx_suite.checkpoints.load import build_model
    from mlx_suite.checkpoints.save import save_model
    from mlx_suite.modeling.config import ModelConfig

    mx.random.seed(0)
    with TemporaryDirectory() as parent:
        folder = Path(parent) / name
        save_model(folder, build_model(ModelConfig.from_dict(shape)), dtype="bfloat16")
        yield folder


def load_ours(folder: Path) -> Any:
    """Load a checkpoint as our model. Raises UserError for an architecture that only mlx-lm implements."""
    from mlx_suite.checkpoints.load import load_model

    model = load_model(folder)
    if not hasattr(model, "config"):
        raise UserError(
            what="only mlx-lm implements this model, so there is nothing to compare",
            where=str(folder),
            fix="use a Llama, Mistral, Gemma or Qwen 3 model",
        )
    return model


def load_theirs(folder: Path) -> Any:
    """Load a checkpoint as mlx-lm's model, in the precision of ours: float32 on a CPU."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    from mlx_suite.runtime.device import device

    model = load_model(folder)[0]
    if device().kind == "cpu":
        model.set_dtype(mx.float32)
        mx.eval(model.parameters())
    return model
