"""Merged checkpoints: weights, dtype, tied heads, shards, adapters, and what is refused."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.adapters.attach import save_adapter
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.adapters.token_rows import add_token_rows
from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import load_file, named_parameters
from mlx_suite.export.fuse import fuse_checkpoint
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer
from mlx_suite.transfer.merge.merging import Merged, merge_models
from mlx_suite.transfer.merge.recipe import METHODS, Recipe, whole_models
from mlx_suite.transfer.merge.schedule import Schedule, constant, from_yaml
from tests.export.adapted import ADAPTERS, shake
from tests.export.checkpoints import TINY_LLAMA3, quantized_checkpoint, random_checkpoint
from tests.transfer.merge.models import differences, near, weights_of


def merged(
    method: str, models: list[str], out: Path, base: str | None = None, block: int = 1 << 23, **more: Any
) -> Merged:
    given = more.pop("parameters", {})
    parameters = {name: each if isinstance(each, Schedule) else constant(each) for name, each in given.items()}
    recipe = Recipe(method=method, slices=whole_models(models), base=base, parameters=parameters, **more)
    return merge_models(recipe, out, block=block)


def refused(method: str, models: list[str], out: Path, base: str | None = None, **more: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        merged(method, models, out, base, **more)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))
    return caught.value


def test_linear_averages_every_tensor(llamas: list[str], tmp_path: Path) -> None:
    _, one, two, three = llamas
    result = merged("linear", [one, two, three], tmp_path / "out")
    parts = [weights_of(each) for each in (one, two, three)]
    found = weights_of(tmp_path / "out")
    assert found.keys() == parts[0].keys()
    for name, array in found.items():
        assert np.abs(array - sum(part[name] for part in parts) / 3).max() < 1e-6
    assert result.parameters == sum(array.size for array in found.values())


def test_the_merged_model_runs_with_its_tokenizer_and_template(llamas: list[str], tmp_path: Path) -> None:
    merged("linear", llamas[1:], tmp_path / "out")
    model, tokenizer = load_model(tmp_path / "out"), load_tokenizer(tmp_path / "out")
    assert model(mx.array([tokenizer.encode("Why?")])).shape[-1] == 2048
    template = (Path(llamas[0]) / "chat_template.jinja").read_text()
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == template


WITH_BASE = [name for name, method in METHODS.items() if method.base]
SEVERAL = [name for name, method in METHODS.items() if method.most is None and name != "ema"]


@pytest.mark.parametrize("method", SEVERAL)
def test_blocks_of_a_few_rows_give_the_same_as_whole_tensors(method: str, llamas: list[str], tmp_path: Path) -> None:
    base = llamas[0] if method in WITH_BASE else None
    whole = merged(method, llamas[1:], tmp_path / "whole", base)
    small = merged(method, llamas[1:], tmp_path / "blocks", base, block=500)
    assert max(differences(tmp_path / "whole", tmp_path / "blocks").values()) < 1e-6
    assert small.facts.digests == whole.facts.digests


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("task", {"lambda": 1.0}), ("ties", {"density": 1.0}), ("dare", {"density": 1.0}), ("liti", {"eta": 1.0})],
)
def test_methods_with_a_base_return_a_single_model(
    method: str, parameters: dict[str, float], llamas: list[str], tmp_path: Path
) -> None:
    merged(method, [llamas[1]], tmp_path / "out", llamas[0], parameters=parameters)
    assert max(differences(tmp_path / "out", llamas[1]).values()) < 1e-6


@pytest.mark.parametrize("method", ["task", "ties", "dare", "liti"])
def test_with_factor_0_the_base_remains_bit_for_bit(method: str, llamas: list[str], tmp_path: Path) -> None:
    factor = "eta" if method == "liti" else "lambda"
    merged(method, [llamas[1]], tmp_path / "out", llamas[0], parameters={factor: 0.0})
    assert set(differences(tmp_path / "out", llamas[0]).values()) == {0.0}


def test_task_arithmetic_with_a_negative_weight_forgets_a_task(llamas: list[str], tmp_path: Path) -> None:
    base, one = llamas[:2]
    merged("task", [one], tmp_path / "out", base, parameters={"weight": -1.0})
    before, task, found = (weights_of(each) for each in (base, one, tmp_path / "out"))
    assert max(np.abs(found[name] - (2 * before[name] - task[name])).max() for name in found) < 1e-6


def test_weights_may_differ_by_layer_and_tensor_name(llamas: list[str], tmp_path: Path) -> None:
    base, one = llamas[:2]
    weight = from_yaml([{"filter": "mlp", "value": [0.0, 1.0]}, {"value": 0.0}])
    merged("task", [one], tmp_path / "out", base, parameters={"weight": weight})
    changed = {name for name, value in differences(tmp_path / "out", base).items() if value}
    assert changed == {
        f"model.layers.{layer}.mlp.{name}_proj.weight" for layer in (1, 2) for name in ("gate", "up", "down")
    }
    same = {name for name, value in differences(tmp_path / "out", one).items() if value < 1e-6}
    assert same == {f"model.layers.2.mlp.{name}_proj.weight" for name in ("gate", "up", "down")}


def test_dare_repeats_with_its_seed_and_only_with_it(llamas: list[str], tmp_path: Path) -> None:
    base, *models = llamas
    digests = [
        merged("dare", models, tmp_path / name, base, seed=seed).facts.result
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "base", "gemma2", tie_word_embeddings=True)
    models = [str(near(tmp_path / "base", tmp_path / name, seed)) for seed, name in enumerate("ab", start=1)]
    merged("slerp", models, tmp_path / "out")
    assert "lm_head.weight" not in weights_of(tmp_path / "out")
    assert "lm_head" not in load_model(tmp_path / "out")


def test_the_dtype_is_the_bases_or_the_one_given(llamas: list[str], tmp_path: Path) -> None:
    half = str(near(llamas[0], tmp_path / "half", 0, dtype="bfloat16"))
    merged("task", llamas[1:], tmp_path / "own", half)
    merged("task", llamas[1:], tmp_path / "given", half, dtype="float16")
    for name, dtype in (("own", "bfloat16"), ("given", "float16")):
        kinds = {str(array.dtype) for array in load_file(tmp_path / name / "model.safetensors").values()}
        assert kinds == {f"mlx.core.{dtype}"}
        assert json.loads((tmp_path / name / "config.json").read_text())["dtype"] == dtype


def test_sums_of_bfloat16_models_are_rounded_once(llamas: list[str], tmp_path: Path) -> None:
    models = [str(near(llamas[0], tmp_path / name, seed, dtype="bfloat16")) for seed, name in enumerate("abc", start=1)]
    merged("linear", models, tmp_path / "out")
    parts = [weights_of(model) for model in models]
    for name, found in weights_of(tmp_path / "out").items():
        exact = sum(part[name].astype(np.float64) for part in parts) / 3
        assert (np.abs(found - exact) <= 2**-8 * np.abs(exact) + 1e-7).all()


def test_shards_are_read_and_written(llamas: list[str], tmp_path: Path) -> None:
    recipe = Recipe(method="linear", slices=whole_models(llamas[1:]))
    result = merge_models(recipe, tmp_path / "shards", max_shard_bytes=60_000)
    assert result.shards == len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    merged("linear", llamas[1:], tmp_path / "one")
    assert max(differences(tmp_path / "one", tmp_path / "shards").values()) == 0.0
    merged("slerp", [str(tmp_path / "shards"), llamas[1]], tmp_path / "again")
    assert load_model(tmp_path / "again") is not None


def test_quantized_layers_are_dequantized_with_a_note(tmp_path: Path) -> None:
    quantized_checkpoint(tmp_path / "packed")
    dense = load_model(tmp_path / "packed", dequantize=True)
    save_model(tmp_path / "dense", dense, tokenizer_from=TINY_LLAMA3)
    other = str(near(tmp_path / "dense", tmp_path / "other", 1))
    result = merged("linear", [str(tmp_path / "packed"), other], tmp_path / "out", dtype="float32")
    merged("linear", [str(tmp_path / "dense"), other], tmp_path / "same", dtype="float32")
    assert max(differences(tmp_path / "out", tmp_path / "same").values()) < 1e-6
    assert result.facts.notes == {str(tmp_path / "packed"): ("23 quantized layers are dequantized",)}
    assert "quantization" not in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "some blocks and the embedding"])
def test_adapters_are_merged_as_fused_models_are(kind: str, llamas: list[str], tmp_path: Path) -> None:
    base = llamas[0]
    fused = []
    for name in ("a", "b"):
        model = load_model(base)
        add_adapters(model, ADAPTERS[kind], seed=ord(name))
        shake(model, 0.3)
        save_adapter(tmp_path / name / "best", model, ADAPTERS[kind], base=base)
        fuse_checkpoint(Path(base), tmp_path / name, tmp_path / f"fused-{name}")
        fused.append(str(tmp_path / f"fused-{name}"))
    adapters = [str(tmp_path / name) for name in ("a", "b")]
    merged("ties", adapters, tmp_path / "out", parameters={"density": 0.5}, block=700)
    merged("ties", fused, tmp_path / "same", base, parameters={"density": 0.5})
    found = differences(tmp_path / "out", tmp_path / "same")
    assert sum(value > 1e-5 for value in found.values()) == 0


def test_trained_rows_of_new_tokens_replace_those_of_the_base(llamas: list[str], tmp_path: Path) -> None:
    for seed, name in enumerate("ab", start=1):
        model = load_model(llamas[0])
        add_adapters(model, ADAPTERS["LoRA"])
        rows = add_token_rows(model, [2040, 7])
        for layer in rows.values():
            layer.token_rows = mx.full(layer.token_rows.shape, float(seed))
        save_adapter(tmp_path / name, model, ADAPTERS["LoRA"], base=llamas[0])
    merged("linear", [str(tmp_path / name) for name in "ab"], tmp_path / "out", block=3000)
    found, before = weights_of(tmp_path / "out"), weights_of(llamas[0])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert (found[name][[7, 2040]] == 1.5).all()
        others = np.delete(np.abs(found[name] - before[name]), [7, 2040], axis=0)
        assert others.max() < 1e-6


def test_digests_are_those_of_the_models(llamas: list[str], tmp_path: Path) -> None:
    result = merged("task", llamas[1:3], tmp_path / "out", llamas[0], block=500)
    expected = {name: weights_digest(load_model(name)) for name in llamas[:3]}
    assert result.facts.digests == expected
    assert result.facts.result == weights_digest(load_model(tmp_path / "out"))


def test_the_card_names_models_digests_method_parameters_and_command(llamas: list[str], tmp_path: Path) -> None:
    recipe = Recipe(method="dare", slices=whole_models(llamas[1:3]), base=llamas[0], seed=7)
    result = merge_models(recipe, tmp_path / "out", command="mlx-suite merge dare …")
    card = (tmp_path / "out" / "README.md").read_text()
    for text in (*result.facts.digests, *result.facts.digests.values(), result.facts.result):
        assert text in card
    for line in ("merge_method: dare_linear", "  density: 0.5", "  seed: 7", "mlx-suite merge dare …"):
        assert line in card


def test_models_of_other_architectures_are_merged_by_the_names_in_their_files(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        config = {"model_type": "phi", "tie_word_embeddings": True, "hidden_size": 4, "transformers_version": name}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        tensors = {"model.layers.0.fc1.bias": mx.full((4,), value), "lm_head.weight": mx.full((2, 4), value)}
        mx.save_safetensors(str(tmp_path / name / "model.safetensors"), tensors)
    merged("linear", [str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out")
    assert {name: array.tolist() for name, array in weights_of(tmp_path / "out").items()} == {
        "model.layers.0.fc1.bias": [2.0] * 4
    }


def test_nan_is_refused_by_model_and_tensor(llamas: list[str], tmp_path: Path) -> None:
    model = load_model(llamas[1])
    weights = named_parameters(model)
    weights["model.layers.1.mlp.up_proj.weight"][2, 3] = float("nan")
    save_model(tmp_path / "bad", model, tokenizer_from=llamas[0])
    for method in ("linear", "karcher"):
        error = refused(method, [llamas[2], str(tmp_path / "bad")], tmp_path / "out")
        assert error.details == (f"model.layers.1.mlp.up_proj.weight of {tmp_path / 'bad'}",)


def test_an_overflow_is_refused_by_tensor(llamas: list[str], tmp_path: Path) -> None:
    error = refused("task", llamas[1:2], tmp_path / "out", llamas[0], dtype="float16", parameters={"lambda": 1e7})
    assert error.what == "The merged model.embed_tokens.weight overflows float16"


def test_an_interrupted_merge_leaves_nothing(llamas: list[str], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_models(Recipe(method="linear", slices=whole_models(llamas[1:])), tmp_path / "out", on_tensor=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_never_overwritten_by_its_merge(llamas: list[str]) -> None:
    with pytest.raises(UserError, match="The output folder is the model"):
        merged("linear", llamas[1:], Path(llamas[1]))


def test_weights_that_add_up_to_0_are_refused(llamas: list[str], tmp_path: Path) -> None:
    recipe = Recipe(
        method="linear",
        slices=whole_models(llamas[1:3], [{"weight": constant(1.0)}, {"weight": constant(-1.0)}]),
    )
    with pytest.raises(UserError, match="add up to 0"):
        merge_models(recipe, tmp_path / "out")
