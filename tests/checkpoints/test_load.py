"""Choice of the loader: ours, mlx-lm's, or an error that says why neither can load the folder."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_suite.checkpoints.load import get_model_classes, load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.gemma3 import Gemma3
from mlx_suite.modeling.llama import Llama
from mlx_suite.modeling.qwen3 import Qwen3
from mlx_suite.runtime.errors import UserError
from tests.modeling.make_golden import GOLDEN
from tests.modeling.tiny import FAMILIES, SHAPE, largest_difference, tiny_model, tokens

QWEN2 = SHAPE | {"model_type": "qwen2", "hidden_size": 64, "rope_theta": 10000.0, "tie_word_embeddings": False}


def qwen2(folder: Path, quantize: bool = False) -> nn.Module:
    """A checkpoint of an architecture that we do not implement."""
    from mlx_lm.models.qwen2 import Model, ModelArgs

    mx.random.seed(0)
    model: nn.Module = Model(ModelArgs.from_dict(QWEN2))
    if quantize:
        nn.quantize(model, group_size=32, bits=4, class_predicate=lambda path, _: path.endswith("up_proj"))
    save_model(folder, model, QWEN2, dtype="bfloat16")
    model.set_dtype(mx.bfloat16)
    model.set_dtype(mx.float32)
    return model


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("family", "kind"),
    [("llama", Llama), ("mistral", Llama), ("gemma2", Gemma2), ("gemma3_text", Gemma3), ("qwen3", Qwen3)],
)
def test_every_family_loads_into_our_model(family: str, kind: type, tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny_model(family))
    model = load_model(tmp_path / "model")
    assert type(model) is kind
    assert model.config.model_type == family
    assert not model.training


@pytest.mark.parametrize("quantize", [False, True], ids=["dense", "quantized"])
def test_other_architectures_load_through_mlx_lm_in_the_same_precision(tmp_path: Path, quantize: bool) -> None:
    expected = qwen2(tmp_path / "model", quantize)
    model = load_model(tmp_path / "model")
    assert type(model).__module__ == "mlx_lm.models.qwen2"
    assert not any(isinstance(module, nn.QuantizedLinear) for module in model.modules())
    logits = model(tokens(9))
    assert logits.dtype == mx.float32
    assert largest_difference(logits, expected(tokens(9))) < (1e-2 if quantize else 1e-5)


def test_an_unknown_architecture_is_rejected(tmp_path: Path) -> None:
    qwen2(tmp_path / "model")
    change_config(tmp_path / "model", model_type="gremlin")
    with pytest.raises(UserError, match="neither mlx-suite nor mlx-lm supports the architecture 'gremlin'") as error:
        load_model(tmp_path / "model")
    assert error.value.where == str(tmp_path / "model" / "config.json")


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": 4}, {"num_hidden_layers": 2}, {"hidden_size": None}], ids=str
)
def test_a_failure_of_mlx_lm_is_a_user_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    qwen2(tmp_path / "model")
    change_config(tmp_path / "model", **changes)
    with pytest.raises(UserError, match="mlx-lm, which loads 'qwen2' models, cannot load this one"):
        load_model(tmp_path / "model")


def test_truncated_weights_of_another_architecture_are_reported(tmp_path: Path) -> None:
    qwen2(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="model.safetensors is truncated"):
        load_model(tmp_path / "model")


def test_an_awq_checkpoint_loads_through_mlx_lm(tmp_path: Path) -> None:
    """AutoAWQ's layout: eight columns per word along the outputs, in the order 0 2 4 6 1 3 5 7."""
    import numpy as np

    wide = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 32, "num_hidden_layers": 1}
    model = tiny_model("llama", **wide)
    save_model(tmp_path / "model", model)
    path = tmp_path / "model" / "model.safetensors"
    arrays: Any = mx.load(str(path))
    mx.eval(arrays)
    name = "model.layers.0.mlp.up_proj"
    levels = np.random.RandomState(0).randint(0, 16, (128, 128)).astype(np.uint32)  # (inputs, outputs)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    packed = sum(levels.reshape(128, 16, 8)[:, :, order[i]] << np.uint32(4 * i) for i in range(8))
    del arrays[f"{name}.weight"]
    arrays[f"{name}.qweight"] = mx.array(packed.astype(np.uint32))
    arrays[f"{name}.scales"] = mx.full((1, 128), 0.02, dtype=mx.float16)
    mx.save_safetensors(str(path), arrays)
    change_config(tmp_path / "model", quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})
    loaded = load_model(tmp_path / "model")
    assert type(loaded) is Llama
    expected = 0.02 * (levels.T.astype(np.float32) - 8)
    assert np.abs(np.array(loaded.layers[0].mlp.up_proj.weight) - expected).max() < 1e-2


def test_mlx_lm_loads_our_quantized_checkpoint_into_our_model(tmp_path: Path) -> None:
    from mlx_lm.utils import load_model as load_by_mlx_lm

    model = tiny_model("gemma2", hidden_size=64, intermediate_size=64)
    nn.quantize(model, group_size=32, bits=4)
    save_model(tmp_path / "model", model)
    loaded, _ = load_by_mlx_lm(tmp_path / "model", get_model_classes=get_model_classes)
    assert type(loaded) is Gemma2
    assert isinstance(loaded.layers[0].mlp.up_proj, nn.QuantizedLinear)
    assert mx.array_equal(loaded(tokens(20)), model(tokens(20))).item()


def test_mlx_lm_uses_its_own_classes_for_other_architectures() -> None:
    found, _ = get_model_classes({"model_type": "qwen2"})
    assert found.__module__ == "mlx_lm.models.qwen2"
    assert {family: get_model_classes({"model_type": family})[0] for family in FAMILIES} == {
        "llama": Llama,
        "mistral": Llama,
        "gemma2": Gemma2,
        "gemma3_text": Gemma3,
        "qwen3": Qwen3,
    }


def test_our_architectures_load_without_importing_transformers_or_mlx_lm() -> None:
    """Both together take two seconds to import."""
    code = (
        "import sys; from mlx_suite.checkpoints.load import load_model; import mlx.core as mx; "
        f"mx.eval(load_model({str(GOLDEN / 'gemma2-window-4')!r})(mx.array([[1, 2, 3]]))); "
        "print(sorted({'transformers', 'mlx_lm', 'huggingface_hub', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
