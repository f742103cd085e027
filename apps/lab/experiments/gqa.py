"""Multi-head, grouped-query and multi-query attention at equal numbers of parameters (arXiv 2305.13245)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import mlx.core as mx

from mlx_suite.runtime.device import device
from mlx_suite.runtime.footprint import parameter_count
from mlx_suite.runtime.memory import human_bytes

from ...bench.device_shapes import random_model
from ..decode_speed import decode_speeds, kv_bytes_per_token
from ..experiment import (
    Case,
    Experiment,
    Findings,
    LabOptions,
    ResultChart,
    ResultTable,
    Workplace,
    arms_of,
    compared,
    line_of,
    over_seeds,
    spread,
)
from ..small_pretraining import SmallTraining, train_small
from ..verdict import Result

Config = dict[str, Any]
KEY_HEADS = {"mha": 8, "gqa": 2, "mqa": 1}
"""Key-value heads of each arm; all have as many query heads as mha."""
DECODE = "decode"
"""Arm that times all others in one run."""
_LLAMA: Config = {
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
TRAINED = _LLAMA | {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "max_position_embeddings": 512,
}
"""The shape that is trained, with multi-head attention."""
TIMED = _LLAMA | {
    "vocab_size": 2048,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "head_dim": 64,
    "max_position_embeddings": 16384,
}
"""The larger shape whose decode steps are timed, with random weights."""


def with_key_heads(config: Mapping[str, Any], key_heads: int) -> Config:
    """The config with fewer key-value heads, and an MLP widened by the parameters that they had.

    A head's key and value projections have 2·d·D parameters, a column of the gated MLP has 3·d.
    """
    saved = 2 * config["head_dim"] * (config["num_key_value_heads"] - key_heads)
    return {
        **config,
        "num_key_value_heads": key_heads,
        "intermediate_size": config["intermediate_size"] + round(saved / 3),
    }


def cases(options: LabOptions) -> list[Case]:
    arms = {
        arm: {
            "training": asdict(
                SmallTraining(
                    config=with_key_heads(TRAINED, heads),
                    tokens=60_000 if options.quick else 600_000,
                    learning_rate=4e-3,
                )
            )
        }
        for arm, heads in KEY_HEADS.items()
    }
    contexts, steps = ([512, 2048], 3) if options.quick else ([512, 2048, 8192], 8)
    timed = {
        "configs": {arm: with_key_heads(TIMED, heads) for arm, heads in KEY_HEADS.items()},
        "rows": 4,
        "contexts": contexts,
        "steps": steps,
    }
    return [*over_seeds(options, arms), Case(arm=DECODE, settings=timed)]


def run(case: Case, place: Workplace) -> Mapping[str, Any]:
    if case.arm == DECODE:
        return _time(case.settings)
    training = SmallTraining(**case.settings["training"])
    trained = train_small(training, place.folder, place.shared, seed=case.seed)
    config = trained.model.config
    return trained.facts | {
        "key_heads": config.num_key_value_heads,
        "mlp_width": config.intermediate_size,
        "kv_bytes_per_token": kv_bytes_per_token(trained.model),
    }


def _time(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    dtype = mx.float32 if device().kind == "cpu" else mx.bfloat16
    models = {arm: random_model(config, dtype) for arm, config in settings["configs"].items()}
    speeds = [
        {
            "context": context,
            "tokens_per_second": decode_speeds(models, rows=settings["rows"], context=context, steps=settings["steps"]),
        }
        for context in settings["contexts"]
    ]
    kv_bytes = {arm: kv_bytes_per_token(model) for arm, model in models.items()}
    parameters = {arm: parameter_count(config) for arm, config in settings["configs"].items()}
    return {"speeds": speeds, "timed_kv_bytes": kv_bytes, "timed_parameters": parameters}


def tell(results: Sequence[Result]) -> Findings:
    arms = arms_of(results)
    timed = arms.pop(DECODE)[0]
    bits = {arm: spread(each, "bits_per_byte") for arm, each in arms.items()}
    sizes = [each[0]["parameters"] for each in arms.values()]
    quality = ResultTable(
        title="Trained alike",
        columns=("arm", "key-value heads", "MLP width", "parameters", "bits per byte", "KV cache per token"),
        rows=tuple(
            (
                arm,
                str(each[0]["key_heads"]),
                str(each[0]["mlp_width"]),
                f"{each[0]['parameters']:,}",
                bits[arm].shown(4),
                human_bytes(each[0]["kv_bytes_per_token"]),
            )
            for arm, each in arms.items()
        ),
        note=f"Parameters differ by {100 * (max(sizes) / min(sizes) - 1):.2f} %. Mean ± standard deviation over seeds.",
    )
    curves = ResultChart(
        name="loss",
        title="Bits per byte of held-out text",
        lines=tuple(line_of(arm, hue, [r["valid"][1:] for r in each]) for hue, (arm, each) in enumerate(arms.items())),
        x_label="steps",
        y_label="bits per byte",
    )
    speeds = timed["speeds"]
    decode = ResultChart(
        name="decode",
        title="Decode speed after a long context",
        lines=tuple(
            line_of(arm, hue, [[(each["context"], each["tokens_per_second"][arm]) for each in speeds]])
            for hue, arm in enumerate(KEY_HEADS)
        ),
        x_label="tokens in the cache",
        y_label="tokens per second",
        log_x=True,
    )
    return Findings(
        verdict=(
            *(compared("Bits per byte", arm, "mha", bits, 4) for arm in KEY_HEADS if arm != "mha"),
            _cache_sentence(timed["timed_kv_bytes"]),
            *(_speed_sentence(each) for each in (speeds[0], speeds[-1])),
        ),
        tables=(quality, _decode_table(timed)),
        charts=(curves, decode),
    )


def _decode_table(timed: Result) -> ResultTable:
    settings, speeds = timed["settings"], timed["speeds"]
    return ResultTable(
        title="Decoding with a larger shape, in one run",
        columns=("arm", "parameters", "KV cache per token", *(f"tokens/s at {each['context']:,}" for each in speeds)),
        rows=tuple(
            (
                arm,
                f"{timed['timed_parameters'][arm]:,}",
                human_bytes(timed["timed_kv_bytes"][arm]),
                *(f"{each['tokens_per_second'][arm]:,.1f}" for each in speeds),
            )
            for arm in KEY_HEADS
        ),
        note=f"Random weights, {settings['rows']} rows at a time, caches filled to the context. The arms take turns; "
        f"medians of {3 * settings['steps']} steps.",
    )


def _cache_sentence(kv_bytes: Mapping[str, int]) -> str:
    parts = (f"of {arm} {kv_bytes['mha'] / kv_bytes[arm]:.0f} times smaller" for arm in KEY_HEADS if arm != "mha")
    return f"The KV cache is {', '.join(parts)} than of mha."


def _speed_sentence(found: Mapping[str, Any]) -> str:
    speeds = found["tokens_per_second"]
    parts = (f"{arm} {speeds[arm] / speeds['mha']:.2f} times" for arm in KEY_HEADS if arm != "mha")
    return f"Decode speed after {found['context']:,} tokens, relative to mha: {', '.join(parts)}."


EXPERIMENT = Experiment(
    title="Multi-head, grouped-query and multi-query attention",
    about="""
    Gemma 2's report compares multi-head with grouped-query attention at 9B (50.3 against 50.8 on its benchmarks, equal
    parameters) and chooses the latter for its smaller KV cache. Here, Llama-shaped models of 0.9 million parameters
    with 8 query heads share 8 (mha), 2 (gqa) or 1 (mqa) key-value heads. The parameters that fewer heads save go into a
    wider MLP, so that all models have the same number within 1 %. They are trained on the same tokens in the same
    order: biographies of 48 people of the microworld, each in words of its own. Bits per byte are of held-out
    biographies.

    Decode speed is measured at a larger shape (width 512, 8 layers, 25 million parameters), at which the KV cache
    outweighs the weights after a few thousand tokens.
    """,
    cases=cases,
    run=run,
    tell=tell,
    not_shown="Whether the order holds for large models or long texts: these models read rows of 128 tokens, in which "
    "few heads have much to remember. Nothing was tuned for one arm, and one way of spending the saved parameters "
    "was tried.",
)
