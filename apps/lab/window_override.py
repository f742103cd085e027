"""The perplexity of a trained model whose sliding windows are changed at inference."""

from dataclasses import replace
from random import Random
from typing import Any

from mlx_suite.checkpoints.load import build_model
from mlx_suite.evaluate.passages import Passage
from mlx_suite.evaluate.perplexity import Perplexity, measure
from mlx_suite.microworld.conversations import is_heldout, sample_example
from mlx_suite.microworld.world import make_world
from mlx_suite.modeling.decoder import Decoder
from mlx_suite.text import ChatTemplate, Message, Tokenizer, encode_chat

NO_WINDOW = 1 << 20
"""A window that no text fills. Not None: a layer without a window would rotate by the global base in Gemma 3."""


def with_window(model: Decoder, window: int) -> Decoder:
    """The same weights with another window on all layers that have one."""
    config = model.config
    changed: Any = build_model(replace(config, windows=tuple(each and window for each in config.windows)))
    changed.update(model.parameters())
    changed.eval()
    decoder: Decoder = changed
    return decoder


def conversations(tokenizer: Tokenizer, template: ChatTemplate, length: int, seed: int) -> Passage:
    """At least `length` tokens of successive conversations of the microworld whose instructions were held out."""
    rng, world, ids = Random(f"window {seed}"), make_world(), list[int]()
    while len(ids) < length:
        example = sample_example(rng, world)
        if is_heldout(example.instruction):
            messages = [Message("user", example.instruction), Message("assistant", example.answer)]
            ids += [each for each in encode_chat(tokenizer, template, messages).ids if each != tokenizer.bos_id]
    return Passage(tokens=tuple(ids), scored=(True,) * len(ids))


def perplexity(model: Any, tokenizer: Tokenizer, passage: Passage, context: int) -> Perplexity:
    """The perplexity of a passage that is read `context` tokens at a time; half of them are context only."""
    return measure(model, tokenizer, [passage], context=context)
