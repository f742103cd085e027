"""Adapter files: reading and writing mlx-lm's and PEFT's layouts, and errors."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.tuner.utils import load_adapters as load_by_mlx_lm
from mlx_lm.utils import load_model as load_model_by_mlx_lm

from mlx_suite.adapters.attach import (
    Adapter,
    AdapterConfig,
    adapter_of,
    apply_adapter,
    load_adapter,
    save_adapter,
    write_adapter,
)
from mlx_suite.adapters.lora import adapted_layers, add_adapters, attach
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.runtime.errors import UserError
from tests.adapters.test_lora import tiny_mixtral
from tests.export.adapted import ADAPTERS, adapted_model, shake
from tests.modeling.tiny import largest_difference, tiny_model, tokens

SHORT = tokens(5, rows=2)
"""Token ids within the sliding window: mlx-lm's Gemma 2 and Mistral have none."""

FAMILIES = ["llama", "mistral", "gemma2", "gemma3_text", "qwen3"]


def stored(file: Path) -> dict[str, tuple[int, ...]]:
    arrays: Any = mx.load(str(file))
    return {name: array.shape for name, array in arrays.items()}


def settings_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found


def one_layer(method: str = "lora", **changes: Any) -> tuple[nn.Module, AdapterConfig]:
    """A model with an adapter on the value projection (32 inputs, 32 outputs) of block 1."""
    config = AdapterConfig(
        **{"method": method, "rank": 4, "alpha": 8.0, "modules": ("v_proj",), "layers": (1,)} | changes
    )
    model = tiny_model("llama", num_key_value_heads=2)
    add_adapters(model, config)
    shake(model)
    return model, config


def equal(one: Adapter, other: Adapter) -> bool:
    same = one.arrays.keys() == other.arrays.keys() and all(
        mx.array_equal(one.arrays[name], other.arrays[name]).item() for name in one.arrays
    )
    return same and one.config == other.config and (one.base, one.tied) == (other.base, other.tied)


class TestMlxLayout:
    def test_names_shapes_and_settings(self, tmp_path: Path) -> None:
        model, config = one_layer("dora", rslora=True, dropout=0.25, layers=(2,))
        save_adapter(tmp_path / "a", model, config, base="tiny-llama3")
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
            "adapter_config.json",
            "adapters.safetensors",
        ]
        assert stored(tmp_path / "a" / "adapters.safetensors") == {
            "model.layers.2.self_attn.v_proj.lora_a": (32, 4),
            "model.layers.2.self_attn.v_proj.lora_b": (4, 32),
            "model.layers.2.self_attn.v_proj.m": (32,),
        }
        assert settings_of(tmp_path / "a") == {
            "fine_tune_type": "dora",
            "model": "tiny-llama3",
            "num_layers": 1,
            "lora_parameters": {"rank": 4, "scale": 4.0, "dropout": 0.25, "keys": ["self_attn.v_proj"]},
            "mlx_suite": {
                "rank": 4,
                "alpha": 8.0,
                "rslora": True,
                "modules": ["v_proj"],
                "layers": [2],
                "tied": False,
            },
        }

    @pytest.mark.parametrize(
        ("layers", "modules", "number", "keys"),
        [
            (None, ("q_proj",), 3, ["self_attn.q_proj"]),
            ((1, 2), ("q_proj",), 2, ["self_attn.q_proj"]),
            ((2,), ("q_proj", "lm_head"), 1, ["self_attn.q_proj", "lm_head"]),
            ((0,), ("q_proj",), 1, ["model.layers.0.self_attn.q_proj"]),
            ((0, 2), ("q_proj",), 2, ["model.layers.2.self_attn.q_proj", "model.layers.0.self_attn.q_proj"]),
            (None, ("embed_tokens",), 1, ["model.embed_tokens"]),
        ],
    )
    def test_blocks_other_than_the_last_are_written_with_full_paths(
        self, layers: tuple[int, ...] | None, modules: tuple[str, ...], number: int, keys: list[str], tmp_path: Path
    ) -> None:
        model, config = one_layer(layers=layers, modules=modules)
        save_adapter(tmp_path / "a", model, config, base="")
        settings = settings_of(tmp_path / "a")
        assert settings["num_layers"] == number
        assert sorted(settings["lora_parameters"]["keys"]) == sorted(keys)

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("kind", ADAPTERS)
    def test_mlx_lm_gives_the_same_logits_with_our_adapter(self, kind: str, family: str, tmp_path: Path) -> None:
        # mlx-lm rounds Gemma 3's √d to bf16, where √64 is exact.
        changes = {"hidden_size": 64} if family == "gemma3_text" else {}
        model = adapted_model(family, ADAPTERS[kind], tmp_path, **changes)
        other, _ = load_model_by_mlx_lm(tmp_path / "base")
        assert largest_difference(other(SHORT), model(SHORT)) > 0.5
        other = load_by_mlx_lm(other, str(tmp_path / "adapter"))
        other.eval()
        assert largest_difference(other(SHORT), model(SHORT)) < 1e-4

    @pytest.mark.parametrize("use_dora", [False, True])
    def test_an_adapter_written_by_mlx_lm_loads_and_gives_the_same_logits(self, use_dora: bool, tmp_path: Path) -> None:
        adapted_model("llama", AdapterConfig(), tmp_path)
        other, _ = load_model_by_mlx_lm(tmp_path / "base")
        other.freeze()
        parameters = {"rank": 8, "scale": 20.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "mlp.up_proj"]}
        linear_to_lora_layers(other, 2, parameters, use_dora=use_dora)
        shake(other, 0.05)
        (tmp_path / "theirs").mkdir()
        mx.save_safetensors(
            str(tmp_path / "theirs" / "adapters.safetensors"), dict(tree_flatten(other.trainable_parameters()))
        )
        method = "dora" if use_dora else "lora"
        settings = {"fine_tune_type": method, "num_layers": 2, "lora_parameters": parameters, "iters": 1000}
        (tmp_path / "theirs" / "adapter_config.json").write_text(json.dumps(settings))
        adapter = load_adapter(tmp_path / "theirs")
        assert (adapter.config.method, adapter.config.rank, adapter.config.scale) == (method, 8, 20.0)
        assert (adapter.config.modules, adapter.config.layers) == (("q_proj", "up_proj"), (1, 2))
        assert adapter.tied is None
        model = load_model(tmp_path / "base")
        apply_adapter(model, adapter)
        assert largest_difference(model(SHORT), other(SHORT)) < 1e-4

    def test_lower_ranks_are_padded_with_zeros_without_changing_logits(self, tmp_path: Path) -> None:
        model, config = one_layer(layers=(1, 2))
        whole = adapter_of(model, config)
        path = "model.layers.2.self_attn.v_proj"
        narrow = {f"{path}.lora_a": whole.arrays[f"{path}.lora_a"][:, :1]}
        narrow[f"{path}.lora_b"] = whole.arrays[f"{path}.lora_b"][:1]
        varied = Adapter(config=config, arrays={**whole.arrays, **narrow}, tied=False)
        write_adapter(tmp_path / "a", varied, layout="mlx", blocks=3)
        assert set(stored(tmp_path / "a" / "adapters.safetensors").values()) == {(32, 4), (4, 32)}
        one, other = tiny_model("llama"), tiny_model("llama")
        apply_adapter(one, varied)
        apply_adapter(other, load_adapter(tmp_path / "a"))
        assert one.layers[2].self_attn.v_proj.lora_a.shape == (32, 1)
        assert largest_difference(one(SHORT), other(SHORT)) < 1e-5
        assert largest_difference(one(SHORT), model(SHORT)) > 0.01

    def test_adapted_experts_survive_a_round_trip(self, tmp_path: Path) -> None:
        model, again = tiny_mixtral(), tiny_mixtral()
        config = AdapterConfig(rank=3, modules=("switch_mlp.up_proj",))
        add_adapters(model, config)
        shake(model)
        save_adapter(tmp_path / "a", model, config, base="")
        apply_adapter(again, load_adapter(tmp_path / "a"))
        assert mx.array_equal(again(SHORT), model(SHORT)).item()
        other = load_by_mlx_lm(tiny_mixtral(), str(tmp_path / "a"))
        assert largest_difference(other(SHORT), model(SHORT)) < 1e-5

    def test_an_adapter_folder_is_replaced_atomically(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model, config = one_layer()
        save_adapter(tmp_path / "best", model, config, base="first")
        before = load_adapter(tmp_path / "best")

        def full(file: str, *rest: Any, **named: Any) -> None:
            Path(file).write_bytes(b"half")
            raise RuntimeError("[write] Unable to write 12 bytes")

        monkeypatch.setattr(mx, "save_safetensors", full)
        with pytest.raises(UserError, match="The disk is full"):
            save_adapter(tmp_path / "best", model, config, base="second")
        assert equal(load_adapter(tmp_path / "best"), before)
        assert [path.name for path in tmp_path.iterdir()] == ["best"]


class TestPeftLayout:
    def test_names_shapes_and_settings(self, tmp_path: Path) -> None:
        model, config = one_layer("dora", rslora=True, dropout=0.25, modules=("q_proj",))
        write_adapter(tmp_path / "p", adapter_of(model, config, "meta-llama/Llama-3.2-1B"), layout="peft")
        assert stored(tmp_path / "p" / "adapter_model.safetensors") == {
            "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight": (4, 32),
            "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight": (64, 4),
            "base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector": (64,),
        }
        assert settings_of(tmp_path / "p") == {
            "alpha_pattern": {},
            "base_model_name_or_path": "meta-llama/Llama-3.2-1B",
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "layers_to_transform": [1],
            "lora_alpha": 8,
            "lora_dropout": 0.25,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": 4,
            "rank_pattern": {},
            "target_modules": ["q_proj"],
            "task_type": "CAUSAL_LM",
            "use_dora": True,
            "use_rslora": True,
        }

    def test_a_tied_embedding_is_written_as_embedding_and_head(self, tmp_path: Path) -> None:
        model = tiny_model("gemma2")
        config = AdapterConfig(rank=4, modules=("embed_tokens",))
        add_adapters(model, config)
        shake(model)
        adapter = adapter_of(model, config)
        write_adapter(tmp_path / "p", adapter, layout="peft")
        assert stored(tmp_path / "p" / "adapter_model.safetensors") == {
            "base_model.model.model.embed_tokens.lora_embedding_A": (4, 50),
            "base_model.model.model.embed_tokens.lora_embedding_B": (32, 4),
            "base_model.model.lm_head.lora_A.weight": (4, 32),
            "base_model.model.lm_head.lora_B.weight": (50, 4),
        }
        assert settings_of(tmp_path / "p")["target_modules"] == ["embed_tokens", "lm_head"]
        assert equal(load_adapter(tmp_path / "p"), adapter)

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("kind", ADAPTERS)
    def test_a_peft_adapter_survives_a_round_trip(self, kind: str, family: str, tmp_path: Path) -> None:
        adapted_model(family, ADAPTERS[kind], tmp_path)
        adapter = load_adapter(tmp_path / "adapter")
        write_adapter(tmp_path / "peft", adapter, layout="peft")
        again = load_adapter(tmp_path / "peft")
        assert again.arrays.keys() == adapter.arrays.keys()
        assert all(mx.array_equal(again.arrays[name], adapter.arrays[name]).item() for name in adapter.arrays)
        assert again.config.scale == adapter.config.scale

    def test_matrices_are_transposed_even_if_both_shapes_fit(self, tmp_path: Path) -> None:
        """mlx-lm#1119: if rank, inputs and outputs are equal, untransposed matrices load without an error."""
        model, config = one_layer(rank=32, alpha=32.0)
        adapter = adapter_of(model, config)
        write_adapter(tmp_path / "p", adapter, layout="peft")
        path = "model.layers.1.self_attn.v_proj"
        theirs: Any = mx.load(str(tmp_path / "p" / "adapter_model.safetensors"))
        a, b = theirs[f"base_model.model.{path}.lora_A.weight"], theirs[f"base_model.model.{path}.lora_B.weight"]
        assert a.shape == b.shape == (32, 32)
        assert mx.array_equal(a, adapter.arrays[f"{path}.lora_a"].T).item()
        assert mx.array_equal(b, adapter.arrays[f"{path}.lora_b"].T).item()
        # The weight update (outputs, inputs) by PEFT's documentation: B · A.
        x = mx.random.normal((3, 32), key=mx.random.key(0))
        layer = model.layers[1].self_attn.v_proj
        assert largest_difference(layer(x) - layer.linear(x), x @ (b @ a).T) < 1e-4
        again = tiny_model("llama")
        apply_adapter(again, load_adapter(tmp_path / "p"))
        assert mx.array_equal(again(SHORT), model(SHORT)).item()

    def test_ranks_and_alphas_by_layer_become_one_scale(self, tmp_path: Path) -> None:
        settings = {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"v_proj": 2, r"layers\.0\.self_attn\.q_proj": 1},
            "alpha_pattern": {"v_proj": 3, "q_proj": 4},
        }
        arrays = {}
        for name, rank, outputs in (("0.self_attn.q_proj", 1, 64), ("0.self_attn.v_proj", 2, 32)):
            arrays[f"layers.{name}.lora_A.weight"] = mx.ones((rank, 32))
            arrays[f"layers.{name}.lora_B.weight"] = mx.ones((outputs, rank))
        adapter = load_adapter(write_peft_folder(tmp_path, arrays, **settings))
        assert adapter.config.scale == 2.0
        # The layers' own scales are 4 / 1 and 3 / 2; the ratio to the common scale goes into lora_b.
        assert adapter.arrays["model.layers.0.self_attn.q_proj.lora_b"].tolist() == [[2.0] * 64]
        assert adapter.arrays["model.layers.0.self_attn.v_proj.lora_b"].tolist() == [[0.75] * 32] * 2
        write_adapter(tmp_path / "again", adapter, layout="peft")
        written = settings_of(tmp_path / "again")
        assert written["rank_pattern"] == {
            r"model\.layers\.0\.self_attn\.q_proj": 1,
            r"model\.layers\.0\.self_attn\.v_proj": 2,
        }
        assert list(written["alpha_pattern"].values()) == [2, 4]
        assert equal(load_adapter(tmp_path / "again"), adapter)

    def test_all_unsupported_settings_are_listed(self, tmp_path: Path) -> None:
        folder = write_peft_folder(
            tmp_path,
            {"layers.0.self_attn.q_proj.lora_A.weight": mx.ones((4, 32))},
            bias="all",
            modules_to_save=["lm_head"],
            init_lora_weights="pissa_niter_4",
        )
        with pytest.raises(UserError) as caught:
            load_adapter(folder)
        assert caught.value.details == (
            "bias is 'all': trained biases are not supported",
            "modules_to_save is set: fully trained layers in addition to the adapter",
            "init_lora_weights is 'pissa_niter_4', which changes the model's own weights",
        )

    def test_other_peft_methods_are_refused(self, tmp_path: Path) -> None:
        folder = write_peft_folder(tmp_path, {"layers.0.mlp.up_proj.lora_A.weight": mx.ones((4, 32))}, peft_type="IA3")
        with pytest.raises(UserError) as caught:
            load_adapter(folder)
        assert caught.value.details == ("peft_type is 'IA3': only LORA (LoRA, rsLoRA and DoRA) is supported",)

    def test_unknown_arrays_and_wrong_ranks_are_listed(self, tmp_path: Path) -> None:
        arrays = {
            "layers.0.mlp.up_proj.lora_A.weight": mx.ones((3, 32)),
            "layers.0.mlp.up_proj.lora_B.weight": mx.ones((48, 3)),
            "layers.0.mlp.up_proj.lora_B.bias": mx.ones((48,)),
            "layers.0.mlp.up_proj.lora_E": mx.ones((3, 1)),
        }
        with pytest.raises(UserError) as caught:
            load_adapter(write_peft_folder(tmp_path, arrays))
        assert caught.value.details == (
            "base_model.model.model.layers.0.mlp.up_proj.lora_B.bias (48,) is not part of a LoRA adapter",
            "base_model.model.model.layers.0.mlp.up_proj.lora_E (3, 1) is not part of a LoRA adapter",
            "model.layers.0.mlp.up_proj has rank 3, but the settings say 4",
        )

    def test_an_embedding_adapted_without_its_tied_head_is_refused(self, tmp_path: Path) -> None:
        arrays = {"embed_tokens.lora_embedding_A": mx.ones((4, 50)), "embed_tokens.lora_embedding_B": mx.ones((32, 4))}
        adapter = load_adapter(write_peft_folder(tmp_path, arrays))
        model = tiny_model("gemma2")
        with pytest.raises(UserError) as caught:
            apply_adapter(model, adapter)
        assert caught.value.details == (
            "model.embed_tokens is adapted without the head, which is the same matrix in this model",
        )
        apply_adapter(tiny_model("llama"), adapter)

    def test_a_stored_embedding_that_differs_from_the_models_is_refused(self, tmp_path: Path) -> None:
        model = tiny_model("llama")
        weight = model.model.embed_tokens.weight
        arrays = {
            "embed_tokens.lora_embedding_A": mx.ones((4, 50)),
            "embed_tokens.lora_embedding_B": mx.ones((32, 4)),
        }
        own = load_adapter(write_peft_folder(tmp_path, arrays | {"embed_tokens.base_layer.weight": weight}))
        other = load_adapter(write_peft_folder(tmp_path, arrays | {"embed_tokens.base_layer.weight": weight + 1}))
        longer = load_adapter(write_peft_folder(tmp_path, arrays | {"embed_tokens.weight": mx.ones((51, 32))}))
        for adapter, words in ((other, "differs from the model's"), (longer, r"is \(51, 32\), the model's \(50, 32\)")):
            with pytest.raises(UserError, match=words):
                apply_adapter(model, adapter)
        apply_adapter(model, own)

    def test_converting_mlx_lms_adapted_embedding_to_peft_needs_the_model(self, tmp_path: Path) -> None:
        model = tiny_model("llama")
        config = AdapterConfig(modules=("embed_tokens",))
        add_adapters(model, config)
        arrays = adapter_of(model, config).arrays
        with pytest.raises(UserError, match="whether its embedding is tied to the head"):
            write_adapter(tmp_path / "p", Adapter(config=config, arrays=arrays), layout="peft")
        assert not (tmp_path / "p").exists()
        write_adapter(tmp_path / "p", Adapter(config=config, arrays=arrays).on(tied=False), layout="peft")

    def test_adapted_experts_are_refused(self, tmp_path: Path) -> None:
        model = tiny_mixtral()
        config = AdapterConfig(modules=("switch_mlp.up_proj",))
        add_adapters(model, config)
        with pytest.raises(UserError, match="experts"):
            write_adapter(tmp_path / "p", adapter_of(model, config), layout="peft")


def write_peft_folder(parent: Path, arrays: dict[str, mx.array], **settings: Any) -> Path:
    """Write a folder like PEFT's; `arrays` are named without the common prefix."""
    folder = parent / f"peft-{len(list(parent.iterdir()))}"
    folder.mkdir()
    named = {f"base_model.model.model.{name}": array for name, array in arrays.items()}
    mx.save_safetensors(str(folder / "adapter_model.safetensors"), named)
    usual = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(usual | settings))
    return folder


TWO_BLOCKS = [
    f"model.layers.{block}.{name}"
    for block in range(2)
    for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
]


@settings(max_examples=8, deadline=None)
@given(
    ranks=st.dictionaries(st.sampled_from(TWO_BLOCKS), st.integers(1, 5), min_size=1),
    method=st.sampled_from(["lora", "dora"]),
    rslora=st.booleans(),
)
def test_any_choice_of_layers_and_ranks_survives_both_layouts(ranks: dict[str, int], method: str, rslora: bool) -> None:
    config = AdapterConfig(method=method, rank=3, alpha=6.0, rslora=rslora)
    model, base = (tiny_model("llama", num_hidden_layers=2) for _ in range(2))
    attach(model, ranks, config)
    shake(model)
    adapter = adapter_of(model, config)
    with TemporaryDirectory() as parent:
        for layout in ("peft", "mlx"):
            folder = Path(parent) / layout
            write_adapter(folder, adapter, layout=layout, blocks=2)
            again = tiny_model("llama", num_hidden_layers=2)
            apply_adapter(again, load_adapter(folder))
            assert sorted(adapted_layers(again)) == sorted(ranks)
            assert largest_difference(again(SHORT), model(SHORT)) < 1e-4
        other = load_by_mlx_lm(base, str(Path(parent) / "mlx"))
        assert sorted(adapted_layers(other)) == sorted(ranks)
        assert largest_difference(other(SHORT), model(SHORT)) < 1e-4


class TestLoading:
    def test_every_mismatch_is_listed_and_the_model_is_unchanged(self) -> None:
        model, config = one_layer(modules=("v_proj", "up_proj"), layers=None)
        arrays = dict(adapter_of(model, config).arrays)
        arrays["model.layers.0.self_attn.v_proj.lora_b"] = mx.ones((4, 31))
        arrays["model.layers.1.mlp.up_proj.lora_a"] = mx.ones((48, 4))
        arrays["model.layers.1.mlp.up_proj.m"] = mx.ones((48,))
        arrays["model.layers.3.mlp.up_proj.lora_a"] = mx.ones((32, 4))
        arrays["model.norm.lora_a"] = mx.ones((32, 4))
        del arrays["model.layers.2.self_attn.v_proj.lora_b"]
        other = tiny_model("llama")
        before = named_parameters(other)
        with pytest.raises(UserError) as caught:
            apply_adapter(other, Adapter(config=config, arrays=arrays, base="tiny-llama3"), where="runs/mine")
        assert sorted(caught.value.details) == [
            "model.layers.0.self_attn.v_proj.lora_b is (4, 31), not (4, 32)",
            "model.layers.1.mlp.up_proj.lora_a is (48, 4), not (32, 4)",
            "model.layers.1.mlp.up_proj.m (48,) is not part of a lora adapter",
            "model.layers.2.self_attn.v_proj.lora_b (4, 32) is missing",
            "model.layers.3.mlp.up_proj is not a layer of this model that can be adapted",
            "model.norm is not a layer of this model that can be adapted",
        ]
        assert (caught.value.where, caught.value.fix) == ("runs/mine", "use the model it was trained on: tiny-llama3")
        assert list(named_parameters(other)) == list(before)
        assert adapted_layers(other) == {}

    def test_a_run_folder_gives_its_best_adapter_or_else_its_last(self, tmp_path: Path) -> None:
        model, config = one_layer()
        save_adapter(tmp_path / "last", model, config, base="the last")
        assert load_adapter(tmp_path).base == "the last"
        save_adapter(tmp_path / "best", model, config, base="the best")
        assert load_adapter(tmp_path).base == "the best"

    def test_a_run_that_trained_the_full_model_has_no_adapter(self, tmp_path: Path) -> None:
        (tmp_path / "best").mkdir()
        (tmp_path / "best" / "config.json").write_text("{}")
        with pytest.raises(UserError, match="trained the full model") as caught:
            load_adapter(tmp_path)
        assert caught.value.fix == f"use {tmp_path / 'best'} as the model, without --adapter"

    def test_a_folder_without_an_adapter_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_model.bin").write_bytes(b"")
        with pytest.raises(UserError, match="neither adapters.safetensors") as caught:
            load_adapter(tmp_path)
        assert caught.value.details[0].startswith("adapter_model.bin is a PyTorch pickle")
        with pytest.raises(UserError, match="no such folder"):
            load_adapter(tmp_path / "nowhere")

    def test_a_truncated_file_is_reported(self, tmp_path: Path) -> None:
        model, config = one_layer()
        save_adapter(tmp_path / "a", model, config, base="")
        file = tmp_path / "a" / "adapters.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(UserError) as caught:
            load_adapter(tmp_path / "a")
        assert "adapters.safetensors is truncated" in caught.value.details[0]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "adapter_config.json is not JSON"),
            ("[]", "contains a list, not an object"),
            ('{"fine_tune_type": "full"}', "a fully finetuned model"),
            ('{"lora_parameters": {"rank": 4}}', "has no scale"),
            ('{"fine_tune_type": "lokr", "lora_parameters": {"rank": 4, "scale": 2}}', "fine_tune_type is 'lokr'"),
            ('{"lora_parameters": {"rank": 4, "scale": 20}, "mlx_suite": {"alpha": 8}}', "scale is 20 for mlx-lm"),
            ('{"lora_parameters": [4]}', "lora_parameters is [4], not an object"),
            ('{"lora_parameters": {"rank": "4", "scale": 2}}', 'rank is "4", not a positive whole number'),
            (
                '{"lora_parameters": {"rank": 4, "scale": 2}, "mlx_suite": {"layers": [0, "1"]}}',
                'layers is [0, "1"], not a list of whole numbers',
            ),
        ],
    )
    def test_unusable_settings_are_reported(self, text: str, words: str, tmp_path: Path) -> None:
        model, config = one_layer()
        save_adapter(tmp_path / "a", model, config, base="")
        (tmp_path / "a" / "adapter_config.json").write_text(text)
        with pytest.raises(UserError) as caught:
            load_adapter(tmp_path / "a")
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("lora_alpha", "16", 'lora_alpha is "16", not a number'),
            ("lora_dropout", "none", 'lora_dropout is "none", not a number'),
            ("rank_pattern", 8, "rank_pattern is 8, not an object of numbers by pattern"),
            ("alpha_pattern", {"(": 8}, 'alpha_pattern is {"(": 8}, not an object of numbers by pattern'),
            (
                "layers_to_transform",
                "all",
                'layers_to_transform is "all", not a whole number or a list of whole numbers',
            ),
        ],
    )
    def test_settings_of_peft_of_a_wrong_type_are_named(
        self, name: str, value: object, problem: str, tmp_path: Path
    ) -> None:
        settings = {"peft_type": "LORA", "r": 4, name: value}
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        mx.save_safetensors(str(tmp_path / "adapter_model.safetensors"), {"a": mx.zeros((2, 2))})
        with pytest.raises(UserError) as caught:
            load_adapter(tmp_path)
        assert caught.value.what.startswith(problem)

    def test_an_adapter_trained_with_a_tied_head_fits_a_model_with_an_untied_head(self) -> None:
        tied = tiny_model("llama", tie_word_embeddings=True)
        untied = tiny_model("llama")
        untied.model.load_weights(list(named_parameters(tied.model).items()))
        untied.lm_head.weight = tied.model.embed_tokens.weight
        config = AdapterConfig(rank=4, modules=("embed_tokens",))
        add_adapters(tied, config)
        shake(tied)
        apply_adapter(untied, adapter_of(tied, config))
        assert sorted(adapted_layers(untied)) == ["lm_head", "model.embed_tokens"]
        assert largest_difference(untied(SHORT), tied(SHORT)) < 1e-4
