"""Llama 3 and Gemma 2 on MLX: generate, Magpie, finetune, pretrain.

Importing the package loads a fast BLAS (Linux), which only works before MLX itself is imported.
"""

import logging

from .runtime.blas import load_blas

__version__ = "0.1.0"

if (_advice := load_blas().advice) is not None:
    # Without any logging set up Python prints warnings as bare lines on stderr: one line, easily
    # silenced.
    logging.getLogger(__name__).warning(_advice)
