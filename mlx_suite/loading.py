"""Loading of a model with its tokenizer, by name."""

import os
from typing import TYPE_CHECKING

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
            optional `@revision`), which is downloaded into the cache if it is not there.
        adapter: Folder of an adapter, or of the run that trained it, in mlx-lm's or PEFT's layout.
        dtype: dtype of the dense weights: float32, bfloat16 or float16. None: float32 on a CPU, the checkpoint's on a
            GPU.
        dequantize: Whether to expand quantized layers. None: only on a CPU.
        lazy: Read weights from the files when they are first used.

    Raises UserError for a model that cannot be found, downloaded or loaded, or an adapter that does not fit it.
    """
    folder = resolve(name)
    tokenizer = load_tokenizer(folder)  # first, because it is fast and may fail
    if adapter is None:
        return load_model(folder, dtype=dtype, dequantize=dequantize, lazy=lazy), tokenizer
    from mlx_suite.adapters.attach import apply_adapter, load_adapter

    trained = load_adapter(os.fspath(adapter))
    model = load_model(folder, dtype=dtype, dequantize=dequantize, lazy=lazy)
    apply_adapter(model, trained, where=os.fspath(adapter))
    model.eval()  # no dropout
    return model, tokenizer
