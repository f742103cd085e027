"""The probe of the largest logits: what it measures, and that it leaves the model alone."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.checkpoints.load import build_model
from mlx_suite.modeling.fast_math import softcap
from mlx_suite_apps.lab.logit_probe import LogitProbe
from tests.modeling.tiny import WINDOW, tiny_config, tiny_model, tokens


def test_the_final_logit_is_measured_before_its_cap() -> None:
    model = tiny_model("gemma2", final_logit_softcapping=3.0)
    found = LogitProbe(model, tokens(12)).measure()
    uncapped = build_model(replace(model.config, final_logit_softcapping=None))
    uncapped.update(model.parameters())
    assert found.final == pytest.approx(float(mx.abs(uncapped(tokens(12))).max().item()))
    assert found.final > 3.0
    assert float(mx.abs(model(tokens(12))).max().item()) == pytest.approx(
        float(softcap(mx.array(found.final), 3.0).item()), rel=1e-5
    )


def test_the_attention_score_is_the_largest_of_visible_keys() -> None:
    config = tiny_config("gemma2", num_hidden_layers=1)
    model = build_model(config)
    ids = tokens(2 * WINDOW)
    attention = model.layers[0].self_attn
    x = model.layers[0].input_layernorm(model.model.embed_tokens(ids) * config.hidden_size**0.5)

    def heads(projection: mx.array, number: int) -> np.ndarray:
        return np.array(projection.reshape(1, 2 * WINDOW, number, 16).transpose(0, 2, 1, 3))

    # RoPE turns queries and keys by their distance; at distance 0 it does not matter.
    q, k = heads(attention.q_proj(x), 4), heads(attention.k_proj(x), 2)
    diagonal = np.abs((q * np.repeat(k, 2, axis=1)).sum(-1)).max() * config.scale
    found = LogitProbe(model, ids).measure().attention
    assert found >= diagonal * 0.9999
    bound = np.linalg.norm(q, axis=-1).max() * np.linalg.norm(k, axis=-1).max() * config.scale
    assert found <= bound * 1.0001


def test_the_probed_model_keeps_its_parameters_and_output() -> None:
    model = tiny_model("gemma2")
    names, before = [name for name, _ in tree_flatten(model.parameters())], np.array(model(tokens(8)))
    probe = LogitProbe(model, tokens(12))
    first = probe.measure()
    assert probe.measure() == first
    assert [name for name, _ in tree_flatten(model.parameters())] == names
    np.testing.assert_array_equal(np.array(model(tokens(8))), before)


def test_the_probe_measures_the_present_weights() -> None:
    model = tiny_model("gemma2")
    probe = LogitProbe(model, tokens(12))
    before = probe.measure().attention
    for layer in model.layers:
        layer.self_attn.q_proj.weight = 2 * layer.self_attn.q_proj.weight
    model.layers[0].self_attn.k_proj.weight = 50 * model.layers[0].self_attn.k_proj.weight
    assert probe.measure().attention > 10 * before
