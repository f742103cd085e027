"""Checkpoints for the server benchmark: random weights that write words, with a tokenizer and a long context.

The shipped models hold 512 tokens and end their turns when they want. These hold 8,192 and never end a turn, so that
every server writes the same number of tokens. Only tokens that are a space and a word can be sampled: such text is
tokenized as it was sampled, so a server that keeps a finished turn in its prefix cache finds it again in the next turn.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.text import load_tokenizer

CONTEXT = 8192
_40M = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 8}
_7M = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4}
_LLAMA = {"max_position_embeddings": CONTEXT}
_GEMMA2 = _LLAMA | {"sliding_window": 256}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "random-llama-40m": ("tiny-llama3", _LLAMA | _40M | {"num_key_value_heads": 4}),
    "random-gemma2-40m": ("tiny-gemma2", _GEMMA2 | _40M | {"num_key_value_heads": 4}),
    "random-llama-7m": ("tiny-llama3", _LLAMA | _7M | {"num_key_value_heads": 2}),
    "random-gemma2-7m": ("tiny-gemma2", _GEMMA2 | _7M | {"num_key_value_heads": 2}),
}
"""By name: the shipped model that lends tokenizer, chat template and config, and what differs in the config."""

_WORD = re.compile(" [a-z]{2,}")


def words_of(folder: Path) -> dict[int, str]:
    """Tokens that are a space and a word, by id."""
    tokenizer = load_tokenizer(folder)
    texts = {token: tokenizer.bytes_of(token).decode("utf-8", "replace") for token in range(tokenizer.vocab_size)}
    return {token: text for token, text in texts.items() if _WORD.fullmatch(text)}


def context_of(folder: Path) -> int:
    """Tokens that the model's context holds."""
    return int(read_config(folder)["max_position_embeddings"])


@contextmanager
def serving_folder(name: str) -> Iterator[Path]:
    """Folder of a checkpoint that all servers load; on a CPU its weights are float32, which is what ours computes in.

    Raises UserError if no model has this name.
    """
    from mlx_suite.runtime.device import device

    dtype = "float32" if device().kind == "cpu" else "bfloat16"
    with TemporaryDirectory() as parent:
        folder = Path(parent) / Path(name).name
        if name in SHAPES:
            _save_random(name, folder, dtype)
        else:
            source = resolve(name)
            if dtype == "bfloat16":
                yield source
                return
            _save_copy(source, folder, dtype)
        yield folder


def _save_random(name: str, folder: Path, dtype: str) -> None:
    import mlx.core as mx

    from mlx_suite.checkpoints.load import build_model
    from mlx_suite.checkpoints.save import save_model
    from mlx_suite.modeling.config import ModelConfig

    lender, changes = SHAPES[name]
    source = resolve(lender)
    config = ModelConfig.from_dict(read_config(source) | changes)
    mx.random.seed(0)
    model = build_model(config)
    _let_it_write(model, sorted(words_of(source)))
    # Some servers strip a turn's text and some do not; a template that strips would hide the first word of a turn.
    template = (source / "chat_template.jinja").read_text().replace(" | trim", "")
    save_model(folder, model, config, dtype=dtype, tokenizer_from=source, chat_template=template)


def _let_it_write(model: Any, words: list[int]) -> None:
    """Change random weights so that greedy text consists of `words`, depends on the prompt, and does not repeat one."""
    import mlx.core as mx

    # The embedding is also the LM head: a token whose row is zero has the logit 0, which is never the largest.
    embedding, norm = model.model.embed_tokens, model.model.norm
    embedding.weight = embedding.weight * mx.zeros((embedding.weight.shape[0], 1)).at[mx.array(words)].add(1.0)
    # Random signs between the last layer and the head: without them a token's own logit is the largest.
    signs = mx.where(mx.random.uniform(shape=norm.weight.shape) < 0.5, -1.0, 1.0)
    norm.weight = signs - 1.0 if isinstance(model, Gemma2) else signs
    # Attention that looks at few tokens and counts for more.
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight *= 10.0
        layer.self_attn.o_proj.weight *= 4.0


def _save_copy(source: Path, folder: Path, dtype: str) -> None:
    from mlx_suite.checkpoints.load import load_model
    from mlx_suite.checkpoints.save import save_model

    save_model(folder, load_model(source), dtype=dtype, tokenizer_from=source)
