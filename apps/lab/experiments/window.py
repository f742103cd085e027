"""Sliding windows: memory and perplexity by window size and context, ring buffers on and off, ours and mlx-lm's."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.checkpoints.load import build_model
from mlx_suite.evaluate.passages import Passage, text_passage
from mlx_suite.hub.resolve import resolve
from mlx_suite.loading import load
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.decoder import Decoder
from mlx_suite.runtime.device import device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.machine import REFERENCE_MODELS
from mlx_suite.text import Tokenizer, load_chat_template, load_tokenizer

from ...bench.device_shapes import random_model
from ...cli.bench_models import load_theirs
from ..experiment import Case, Experiment, Findings, LabOptions, Workplace, over_seeds
from ..kv_memory import cache_sides, kv_bytes, prefill_and_decode, stored_bytes
from ..verdict import Result
from ..window_findings import memory_findings, size_findings, work_findings
from ..window_perplexity import (
    NO_WINDOW,
    conversations,
    model_findings,
    perplexity,
    tiny_findings,
    with_window,
)

TINY = "tiny-gemma2"
GEMMA2_2B = REFERENCE_MODELS["Gemma 2 2B"] | {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "query_pre_attn_scalar": 256,
}
"""The shape whose caches are measured; its weights are never made."""
CUT = {"num_hidden_layers": 2, "intermediate_size": 1024, "vocab_size": 1024}
"""What is cut from the 2B shape so that prefill can be timed: one local and one global layer are left."""
TINY_ARMS = ("tiny-ours", "tiny-mlx-lm")
MODEL_TOKENS = 6000
"""Tokens of the user's text that are scored."""


def cases(options: LabOptions) -> list[Case]:
    quick = options.quick
    tiny = {"model": TINY, "tokens": 1024 if quick else 4096, "contexts": [64, 256] if quick else [64, 128, 256, 512]}
    windows = [8, 32, NO_WINDOW] if quick else [4, 8, 16, 32, 64, 128, NO_WINDOW]
    found = over_seeds(options, {"tiny-ours": tiny | {"windows": windows}, "tiny-mlx-lm": tiny | {"windows": []}})
    contexts = [1024, 4096, 8192] if quick else [1024, 2048, 4096, 8192, 16384, 32768]
    memory = {"config": GEMMA2_2B, "contexts": contexts, "windows": [1024] if quick else [512, 1024, 2048]}
    found.append(Case(arm="memory-2b", settings=memory))
    work = {"contexts": [512, 1024], "steps": 3} if quick else {"contexts": [1024, 4096, 8192, 16384], "steps": 8}
    # The window of 4,096 is reached only by the full version.
    shape = GEMMA2_2B | CUT | ({"sliding_window": 256} if quick else {})
    found.append(Case(arm="work-2b", settings={"config": shape, **work}))
    if options.model:
        found += _model_cases(options)
    elif options.text:
        raise UserError("--text is what --model is measured on", where="--text", fix="give --model too")
    return found


def _model_cases(options: LabOptions) -> Iterator[Case]:
    config = _config_of(options.model)
    _passage(options, load_tokenizer(resolve(options.model)), 1)  # refused before anything is measured
    [window] = {each for each in config.windows if each}
    context = min(2048, 2 * window, config.max_position_embeddings)
    about = {"model": _name(options.model), "text": Path(options.text).name, "trained": window}
    tokens = 1024 if options.quick else MODEL_TOKENS
    windows = [window // 4, window, NO_WINDOW]
    if not options.quick:
        windows = [window // 16, window // 8, window // 4, window // 2, window, 2 * window, NO_WINDOW]
        context = min(8 * window, 4096, config.max_position_embeddings)
    for each in windows if window >= 16 else (window, NO_WINDOW):
        name = "none" if each == NO_WINDOW else str(each)
        yield Case(arm=f"model-window-{name}", settings=about | {"window": each, "context": context, "tokens": tokens})
    yield Case(arm="model-mlx-lm", settings=about | {"window": None, "context": context, "tokens": tokens})
    most = 4096 if options.quick else 32768
    contexts = [each for each in (1024, 2048, 4096, 8192, 16384, 32768) if each <= most]
    yield Case(arm="model-memory", settings=about | {"contexts": contexts})
    work = {"contexts": [512, 1024], "steps": 3} if options.quick else {"contexts": [512, 2048, 4096], "steps": 8}
    yield Case(arm="model-work", settings=about | work)


def _config_of(name: str) -> ModelConfig:
    model, _ = load(name, lazy=True)
    config = getattr(model, "config", None)
    if config is None or not any(config.windows):
        raise UserError("This model has no sliding window", where=name, fix="use a Gemma 2 or 3, or a Mistral")
    found: ModelConfig = config
    return found


def _name(model: str) -> str:
    return Path(model).name or model


def run(case: Case, place: Workplace) -> Mapping[str, Any]:
    settings = case.settings
    if case.arm in TINY_ARMS:
        return _tiny(case)
    if case.arm == "memory-2b":
        return {
            "memory": list(kv_bytes(*_unmade(settings["config"]), settings["contexts"])),
            "windows": list(_window_bytes(settings)),
        }
    if case.arm == "work-2b":
        ours = random_model(settings["config"], _dtype())
        theirs = _unmade(settings["config"])[1]
        theirs.update(ours.parameters())
        return {"work": _work(ours, theirs, settings)}
    name = place.options.model
    if case.arm == "model-mlx-lm":
        return _model_perplexity(load_theirs(resolve(name)), case, place.options)
    ours, _ = load(name)
    assert isinstance(ours, Decoder)
    if case.arm == "model-memory":
        return {"memory": list(kv_bytes(ours, load_theirs(resolve(name)), settings["contexts"]))}
    if case.arm == "model-work":
        return {"work": _work(ours, load_theirs(resolve(name)), settings)}
    return _model_perplexity(with_window(ours, settings["window"]), case, place.options)


def _tiny(case: Case) -> Mapping[str, Any]:
    """Perplexities of the shipped model by window and context, on one text per seed."""
    settings = case.settings
    model, tokenizer = load(settings["model"])
    passage = conversations(tokenizer, load_chat_template(resolve(settings["model"])), settings["tokens"], case.seed)
    if case.arm == "tiny-ours":
        assert isinstance(model, Decoder)
        models = {window: with_window(model, window) for window in settings["windows"]}
    else:
        models = {None: load_theirs(resolve(settings["model"]))}
    return {
        "perplexity": [
            {"window": window, "context": context, "value": perplexity(each, tokenizer, passage, context).perplexity}
            for window, each in models.items()
            for context in settings["contexts"]
        ]
    }


def _unmade(config: Mapping[str, Any]) -> tuple[Decoder, Any]:
    """Ours and mlx-lm's model of a shape; MLX makes weights when they are first used, so none are made."""
    from mlx_lm.models.gemma2 import Model, ModelArgs

    return build_model(ModelConfig.from_dict(config)), Model(ModelArgs.from_dict(dict(config)))


def _window_bytes(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Bytes of our caches with rings of other sizes."""
    for window in settings["windows"]:
        ours, _ = _unmade({**settings["config"], "sliding_window": window})
        for row in stored_bytes(ours.make_cache(), ours, settings["contexts"]):
            yield {"window": window, **row}
        mx.clear_cache()


def _dtype() -> mx.Dtype:
    return mx.float32 if device().kind == "cpu" else mx.bfloat16


def _work(ours: Any, theirs: Any, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    contexts, steps = settings["contexts"], settings["steps"]
    tokens = mx.random.randint(3, 1000, (1, contexts[-1] + steps), key=mx.random.key(0))
    return list(prefill_and_decode(cache_sides(ours, theirs), tokens, contexts, steps=steps))


def _model_perplexity(model: Any, case: Case, options: LabOptions) -> Mapping[str, Any]:
    tokenizer = load_tokenizer(resolve(options.model))
    passage = _passage(options, tokenizer, case.settings["tokens"])
    found = perplexity(model, tokenizer, passage, case.settings["context"])
    return {"value": found.perplexity, "tokens": found.tokens}


def _passage(options: LabOptions, tokenizer: Tokenizer, most: int) -> Passage:
    """The beginning of the user's text, or conversations of the microworld."""
    if not options.text:
        try:
            template = load_chat_template(resolve(options.model))
        except UserError as error:
            raise UserError(
                "This model has no chat template for conversations of the microworld",
                where=options.model,
                fix="give a text to measure it on with --text",
            ) from error
        return conversations(tokenizer, template, most, seed=0)
    path = Path(options.text)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("The text cannot be read", where=str(path), fix="give a UTF-8 text file") from error
    whole = text_passage(tokenizer, text)
    return Passage(tokens=whole.tokens[:most], scored=whole.scored[:most])


def tell(results: Sequence[Result]) -> Findings:
    found = {result["arm"]: result for result in results}
    told = tiny_findings([result for result in results if result["arm"] in TINY_ARMS])
    memory = found["memory-2b"]
    trained = memory["settings"]["config"]["sliding_window"]
    told += memory_findings(memory["memory"], "Gemma 2 2B", "2b")
    told += size_findings(memory["memory"], memory["windows"], trained, "Gemma 2 2B")
    work = found["work-2b"]
    window = work["settings"]["config"]["sliding_window"]
    told += work_findings(work["work"], f"two layers of Gemma 2 2B, window {window:,}", "2b")
    own = [result for result in results if result["arm"].startswith("model-window")]
    if own:
        model = str(own[0]["settings"]["model"])
        told += model_findings(own, found.get("model-mlx-lm"))
        told += memory_findings(found["model-memory"]["memory"], model, "model")
        told += work_findings(found["model-work"]["work"], model, "model")
    return told


EXPERIMENT = Experiment(
    title="Sliding windows: what they save and what they cost",
    about="""
    Every second layer of Gemma 2 sees a window of 4,096 tokens only. Such a layer needs no more than 4,096 keys and
    values, which a ring buffer holds; without one the cache grows with the text although the old keys are masked.
    mlx-lm's Gemma 2 has no sliding window at all: it caches every key, and all layers see everything, which is another
    model once a text is longer than the window. (Its Gemma 3 has windows and rings.) The report finds that Gemma 2 9B
    hardly suffers when the window shrinks at inference: perplexity 1.63, 1.63, 1.64 with 4,096, 2,048, 1,024 tokens.

    Perplexity: the shipped tiny-gemma2, trained with a window of 32 on rows of 128 tokens, reads conversations of the
    microworld whose instructions were held out, with other windows and contexts than it was trained with; seeds draw
    other conversations. Memory: bytes of the cache arrays of the shape of Gemma 2 2B in bf16, for one row. Time and
    peak memory: prefill and decode of two layers of that shape (one local, one global; MLP and vocabulary cut) with
    random weights, the sides in turn. With --model, the same of a checkpoint of one's own.
    """,
    cases=cases,
    run=run,
    tell=tell,
    not_shown="How models trained with other windows compare: windows are changed at inference only, and tiny-gemma2 "
    "read no text longer than 128 tokens in training. Times are of one machine, and of whole models only with --model.",
    takes_model=True,
)
