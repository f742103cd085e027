"""Loading a trainable model: parameter counts, layer-wise quantization, dtypes."""

import json
from pathlib import Path

import mlx.core as mx

from mlx_suite.adapters.attach import AdapterConfig
from mlx_suite.adapters.lora import adapted_layers, add_adapters
from mlx_suite.checkpoints.load import build_model, load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import evaluate, named_parameters, parameter_count
from mlx_suite.finetune.model import load_trainable
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.llama import Llama
from mlx_suite.training.loop import TrainSettings, make_optimizer
from mlx_suite.training.train_step import TrainStep
from tests.finetune.story import sums_settings


def test_a_tied_head_is_counted_once() -> None:
    shape = {"vocab_size": 7, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "head_dim": 2, "rms_norm_eps": 1e-5, "model_type": "llama"}
    body = 7 * 4 + 4 * 4 * 4 + 3 * 4 * 6 + 3 * 4
    for tied, expected in ((True, body), (False, body + 28)):
        model = Llama(ModelConfig.from_dict({**shape, **heads, "tie_word_embeddings": tied}))
        assert parameter_count(model.parameters()) == expected


def test_a_quantized_base_counts_as_many_parameters_as_before(random_model: Path, tmp_path: Path) -> None:
    for bits in (4, 8):
        quantized = load_trainable(sums_settings(random_model, tmp_path, quantize_base=bits), random_model)
        dense = load_trainable(sums_settings(random_model, tmp_path), random_model)
        assert (quantized.trained, quantized.total) == (dense.trained, dense.total)


def test_a_quantized_base_is_never_fully_loaded_in_full_precision(random_model: Path, tmp_path: Path) -> None:
    source = json.loads((random_model / "config.json").read_text())
    wide = source | {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8}
    model = build_model(ModelConfig.from_dict(wide))
    evaluate(named_parameters(model).values())
    dense = sum(array.nbytes for array in named_parameters(model).values())
    save_model(tmp_path / "wide", model, tokenizer_from=random_model)
    del model

    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    trainable = load_trainable(sums_settings(tmp_path / "wide", tmp_path, quantize_base=4), tmp_path / "wide")
    assert trainable.trained < trainable.total
    assert mx.get_peak_memory() - before < 0.5 * dense


def test_adapters_have_the_dtype_of_the_model_and_fp32_master_copies(random_model: Path, tmp_path: Path) -> None:
    model = load_model(random_model, dtype="bfloat16")
    add_adapters(model, AdapterConfig(rank=2, modules=("q_proj",)))
    layers = adapted_layers(model).values()
    assert {layer[leaf].dtype for layer in layers for leaf in ("lora_a", "lora_b")} == {mx.bfloat16}
    train_step = TrainStep(model, make_optimizer(TrainSettings(steps=1)), clip=1.0)
    assert train_step.master["parameters"]["model"]["layers"][0]["self_attn"]["q_proj"]["lora_a"].dtype == mx.float32
