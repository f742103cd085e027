"""The models that a server loads: several models, and adapters that share a model's weights."""

import asyncio
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_suite.adapters.attach import AdapterConfig, save_adapter
from mlx_suite.adapters.lora import adapted_layers, add_adapters, leaves
from mlx_suite.loading import load
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.worker import LoadedModel, Worker
from mlx_suite_apps.chat.served_models import load_models
from mlx_suite_apps.cli.checkpoint import Checkpoint, open_checkpoint
from tests.serving.conftest import answer, ask, asking

MAY = "Which month comes before May?"


def opener(name: str) -> Checkpoint:
    return open_checkpoint(name, quiet=True)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of tiny-llama3 with weights that change every text."""
    model, _ = load("tiny-llama3")
    config = AdapterConfig(rank=4, modules=("q_proj", "v_proj"))
    add_adapters(model, config)
    for number, layer in enumerate(adapted_layers(model).values()):
        for leaf in leaves(layer):
            layer[leaf] = 0.5 * mx.random.normal(layer[leaf].shape, key=mx.random.key(number))
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(folder / "run", model, config, base="tiny-llama3")
    return folder / "run"


def arrays(model: LoadedModel) -> dict[str, Any]:
    return dict(tree_flatten(model.chat.model.parameters()))


def test_an_adapter_shares_the_weights_of_its_model_and_leaves_it_unchanged(adapter: Path) -> None:
    gemma, llama, mine = load_models(["tiny-gemma2", "tiny-llama3"], {"mine": adapter}, opener)
    assert [(each.name, each.base) for each in (gemma, llama, mine)] == [
        ("tiny-gemma2", "tiny-gemma2"),
        ("tiny-llama3", "tiny-llama3"),
        ("mine", "tiny-llama3"),
    ]
    own, shared = arrays(llama), arrays(mine)
    assert not any("lora" in name for name in own)
    assert shared["model.embed_tokens.weight"] is own["model.embed_tokens.weight"]
    query = "model.layers.0.self_attn.q_proj"
    assert shared[f"{query}.linear.weight"] is own[f"{query}.weight"]


def test_each_request_chooses_its_adapter_and_no_kv_cache_is_mixed_up(adapter: Path) -> None:
    worker = Worker(lambda: load_models(["tiny-llama3"], {"mine": adapter}, opener))
    worker.start()
    service = EngineService(worker)
    try:
        without, with_adapter = ask(service, "tiny-llama3", MAY), ask(service, "mine", MAY)
        assert without.text == "The month before May is April."
        assert with_adapter.text != without.text
        assert with_adapter.ended.cached_tokens <= 1  # BOS, from the first step of its own engine

        async def both() -> list[str]:
            asked = [asking(service, model, MAY) for model in ("tiny-llama3", "mine") * 4]
            return [each.text for each in await asyncio.gather(*(answer(service, each) for each in asked))]

        assert asyncio.run(both()) == [without.text, with_adapter.text] * 4
    finally:
        worker.close()


def test_an_adapter_that_fits_no_model_is_refused(adapter: Path) -> None:
    with pytest.raises(UserError, match="The adapter does not fit this model"):
        load_models(["tiny-gemma2"], {"mine": adapter}, opener)


def test_two_models_of_one_name_are_refused(adapter: Path) -> None:
    with pytest.raises(UserError, match="tiny-llama3 is the name of two models"):
        load_models(["tiny-llama3"], {"tiny-llama3": adapter}, opener)


def test_the_context_can_be_made_shorter_but_not_longer() -> None:
    [short] = load_models(["tiny-llama3"], {}, opener, context=100)
    [long] = load_models(["tiny-llama3"], {}, opener, context=100_000)
    assert (short.chat.context, long.chat.context) == (100, 512)
