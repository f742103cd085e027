"""Our logits compared with those of transformers for the checkpoints in `golden/` (see make_golden.py)."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.checkpoints.load import get_model_classes, load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.modeling import attention
from mlx_suite.modeling import fast_math as elementary
from tests.modeling.make_golden import CHECKPOINTS, GOLDEN
from tests.modeling.tiny import largest_difference

TOLERANCE = 1e-4


def golden(name: str) -> tuple[mx.array, mx.array]:
    """Tokens (B, L) and logits (B, L, V)."""
    with np.load(GOLDEN / name / "golden.npz") as arrays:
        return mx.array(arrays["tokens"]), mx.array(arrays["logits"])


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_equal_those_of_transformers(name: str) -> None:
    tokens, logits = golden(name)
    assert largest_difference(load_model(GOLDEN / name)(tokens), logits) <= TOLERANCE


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_are_the_same_with_the_operations_used_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attention, elementary):
        monkeypatch.setattr(module, "built_in_is_slow", lambda x: False)
    tokens, logits = golden(name)
    assert largest_difference(load_model(GOLDEN / name)(tokens), logits) <= TOLERANCE


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_models_loaded_through_mlx_lm_give_the_same_logits(name: str) -> None:
    from mlx_lm.utils import load_model as load_by_mlx_lm

    tokens, logits = golden(name)
    model, _ = load_by_mlx_lm(GOLDEN / name, get_model_classes=get_model_classes)
    assert type(model).__module__.startswith("mlx_suite.")
    assert largest_difference(model(tokens), logits) <= TOLERANCE


@pytest.mark.parametrize(
    "name",
    ["llama-linear", "llama-yarn", "mistral-yarn-scaled-twice", "llama-dynamic", "llama-longrope"]
    + ["llama-longrope-within-the-original-context"],
)
def test_scaled_rope_in_the_keys_of_transformers_5_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    tokens, logits = golden(name)
    config = json.loads((GOLDEN / name / "config.json").read_text())
    scaling = config.pop("rope_scaling")
    kind = scaling.pop("type", None) or scaling.pop("rope_type")
    scaling |= {"rope_type": kind, "rope_theta": config.pop("rope_theta", 10000.0)}
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_parameters": scaling}))
    (tmp_path / "model.safetensors").symlink_to(GOLDEN / name / "model.safetensors")
    model = load_model(tmp_path)
    assert model.config.rope.kind == kind != "default"
    assert largest_difference(model(tokens), logits) <= TOLERANCE


def test_mlx_lms_own_gemma_2_is_right_up_to_the_window_and_wrong_beyond_it() -> None:
    """The reason for our own Gemma 2: all layers of mlx-lm 0.32.2's are global."""
    from mlx_lm.utils import load_model as load_by_mlx_lm

    tokens, logits = golden("gemma2-window-4")
    theirs = load_by_mlx_lm(GOLDEN / "gemma2-window-4")[0](tokens)
    ours = load_model(GOLDEN / "gemma2-window-4")(tokens)
    assert largest_difference(theirs[:, :4], logits[:, :4]) <= TOLERANCE
    assert largest_difference(theirs[:, 4:], logits[:, 4:]) > 0.1
    assert largest_difference(ours[:, 4:], logits[:, 4:]) <= TOLERANCE


def test_mlx_lms_own_gemma_3_rounds_the_embedding_scale_to_bf16() -> None:
    """The reason for our own Gemma 3: transformers rounds √d to the dtype of the weights, which are fp32 here."""
    from mlx_lm.utils import load_model as load_by_mlx_lm

    tokens, logits = golden("gemma3-window-7-scaled-global-rope")
    folder = GOLDEN / "gemma3-window-7-scaled-global-rope"
    assert largest_difference(load_by_mlx_lm(folder)[0](tokens), logits) > 1e-3
    assert largest_difference(load_model(folder)(tokens), logits) <= TOLERANCE


def test_our_saved_checkpoint_is_read_correctly_by_mlx_lms_own_llama(tmp_path: Path) -> None:
    """transformers 5 writes RoPE under a key that mlx-lm 0.32.2 does not read; we write both keys."""
    from mlx_lm.utils import load_model as load_by_mlx_lm

    tokens, logits = golden("llama3-scaling")
    assert largest_difference(load_by_mlx_lm(GOLDEN / "llama3-scaling")[0](tokens), logits) > 0.1
    save_model(tmp_path / "saved", load_model(GOLDEN / "llama3-scaling"))
    assert largest_difference(load_by_mlx_lm(tmp_path / "saved")[0](tokens), logits) <= TOLERANCE


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_model_survives_saving_and_loading(name: str, tmp_path: Path) -> None:
    tokens, _ = golden(name)
    model = load_model(GOLDEN / name)
    save_model(tmp_path / "saved", model)
    again = load_model(tmp_path / "saved")
    assert again.config == model.config
    assert mx.array_equal(again(tokens), model(tokens)).item()
