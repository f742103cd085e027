"""`from mlx_suite import load`: the front door."""

import subprocess
import sys
from pathlib import Path

import pytest

import mlx_suite
from mlx_suite import load
from mlx_suite.checkpoints.save import save_model
from mlx_suite.modeling.llama import Llama
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer
from mlx_suite.text.training import train_llama3_tokenizer
from tests.modeling.tiny import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a tokenizer that knows the 256 bytes."""
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    train_llama3_tokenizer([], tokenizer, vocab_size=256 + 16)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, tiny_model("llama", vocab_size=272), tokenizer_from=tokenizer, dtype="bfloat16")
    return folder


def test_a_model_and_its_tokenizer_are_loaded_together(folder: Path) -> None:
    import mlx.core as mx

    model, tokenizer = load(folder)
    assert isinstance(model, Llama)
    assert isinstance(tokenizer, Tokenizer)
    tokens = mx.array([tokenizer.encode_prompt("How many?")])
    assert model(tokens).shape == (1, 10, 272)
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    assert model(tokens).dtype == (mx.float32 if on_cpu else mx.bfloat16)


def test_precision_can_be_chosen(folder: Path) -> None:
    import mlx.core as mx

    model, _ = load(str(folder), dtype="float16", lazy=True)
    assert model.model.norm.weight.dtype == mx.float16


def test_a_name_that_nothing_has_is_an_error() -> None:
    with pytest.raises(UserError, match="there is no model 'tiny-llama9'"):
        load("tiny-llama9")


def test_a_checkpoint_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny_model("llama"))
    with pytest.raises(UserError, match="no tokenizer"):
        load(tmp_path / "model")


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'mlx.core', 'mlx_lm', 'transformers', 'huggingface_hub', 'tokenizers', 'numpy'}"
    code = f"import sys, mlx_suite; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_other_names_are_still_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = mlx_suite.lode
