"""A model and its tokenizer by name: where `text` and `modeling` meet."""

import os
from typing import TYPE_CHECKING

from mlx_suite.adapters.attach import apply_adapter, load_adapter
from mlx_suite.checkpoints.load import load_model
from mlx_suite.hub.resolve import resolve
from mlx_suite.text.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn


def load(
    name: str | os.PathLike[str],
    *,
    adapter: str | os.PathLike[str] | None = None,
    dtype: "mx.Dtype | str | None" = None,
    dequantize: bool | None = None,
    lazy: bool = False,
) -> "tuple[nn.Module, Tokenizer]":
    """Load a model and its tokenizer; `model(tokens)` with tokens (B, L) gives logits (B, L, V).

    Args:
        name: A shipped checkpoint (`tiny-llama3`), a folder, or a repository of the hub (`owner/repo`, with
            `@revision` if wanted), which is fetched into the cache when it is not there.
        adapter: The folder of an adapter for it, or of the run that has trained one; in mlx-lm's layout or PEFT's.
        dtype: Of the dense weights: float32, bfloat16 or float16. None follows the machine: float32 on a CPU,
            elsewhere the checkpoint's own.
        dequantize: Whether quantized layers become dense. None follows the machine: yes on a CPU.
        lazy: Leave the weights in the files until they are used.

    Raises UserError for a model that cannot be found, fetched or loaded, and for an adapter that does not fit it.
    """
    folder = resolve(name)
    tokenizer = load_tokenizer(folder)  # first: it takes no time and fails as readily
    trained = None if adapter is None else load_adapter(os.fspath(adapter))
    model = load_model(folder, dtype=dtype, dequantize=dequantize, lazy=lazy)
    if trained is not None:
        apply_adapter(model, trained, where=os.fspath(adapter or ""))
        model.eval()  # no dropout
    return model, tokenizer
