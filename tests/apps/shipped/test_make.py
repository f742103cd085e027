"""Training a small plan into a checkpoint folder, and properties of the shipped plans."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite import load
from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import parameter_count
from mlx_suite.data.questions import read_questions
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import derive_pre_query, load_chat_template
from mlx_suite_apps.shipped.make import Beginning, finish_tokenizer, make_model, make_tokenizer, special_ids
from mlx_suite_apps.shipped.plans import PLANS, TrainingPlan
from mlx_suite_apps.shipped.tagged import BRIEF
from tests.apps.shipped.conftest import Made, toy_plan

NAMES = ["tiny-llama3", "tiny-gemma2"]


def losses(run: Path, phase: int) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / f"phase-{phase}" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_trains_into_a_folder_that_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run, folder = toy_plan(name), tmp_path / "run", tmp_path / name
    model = make_model(plan, run)
    save_model(folder, model, dtype="bfloat16", tokenizer_from=finish_tokenizer(plan, run))

    assert [len(losses(run, phase)) for phase in (1, 2)] == [3, 2]
    loaded, tokenizer = load(folder, dtype="float32")
    template = load_chat_template(folder)
    assert tokenizer.vocab_size == plan.config["vocab_size"] == loaded.config.vocab_size
    header = derive_pre_query(tokenizer, template)
    tokens = mx.array([list(header.header_ids)])
    assert loaded(tokens).shape == (1, len(header.header_ids), plan.config["vocab_size"])
    # The saved model equals the trained one up to rounding to bf16.
    difference = mx.abs(loaded(tokens) - model(tokens)).max().item()
    assert difference < 0.02 * mx.abs(model(tokens)).max().item()
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == sorted(tokenizer.stop_ids)
    assert tokenizer.stop_ids >= {header.assistant_stop_ids[0]}

    # A finished plan is not trained again but loaded.
    monkeypatch.setattr("mlx_suite.training.loop.save_checkpoint", None)
    again = make_model(plan, run)
    for (key, one), (_, other) in zip(tree_flatten(model.parameters()), tree_flatten(again.parameters()), strict=True):
        assert np.array_equal(np.array(one), np.array(other)), key


def later_plan(name: str, steps: int = 2) -> TrainingPlan:
    """A toy plan whose second phase trains tagging and can start from a shipped checkpoint."""
    plan = toy_plan(name)
    later = replace(plan.phases[1], tag_share=0.3, steer_share=0.2, drill_share=0.0, from_shipped=True)
    return replace(plan, phases=(plan.phases[0], replace(later, train=replace(later.train, steps=steps))))


@pytest.mark.usefixtures("uncompiled")
def test_starting_at_a_later_phase_gives_the_weights_of_a_complete_run(tmp_path: Path) -> None:
    plan, whole, later = later_plan("tiny-llama3"), tmp_path / "whole", tmp_path / "later"
    expected = make_model(plan, whole)

    half = replace(plan, phases=plan.phases[:1])
    save_model(
        tmp_path / "half", make_model(half, whole), dtype="bfloat16", tokenizer_from=finish_tokenizer(half, whole)
    )
    found = make_model(plan, later, Beginning(checkpoint=tmp_path / "half", phase=2))
    assert not (later / "phase-1").exists()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (later / "tokenizer" / name).read_bytes() == (whole / "tokenizer" / name).read_bytes()
    pairs = zip(tree_flatten(expected.parameters()), tree_flatten(found.parameters()), strict=True)
    for (key, one), (_, other) in pairs:
        assert np.array_equal(np.array(one), np.array(other)), key


def test_only_a_phase_that_starts_from_a_checkpoint_can_be_started_at(tmp_path: Path) -> None:
    plan = later_plan("tiny-llama3")
    with pytest.raises(UserError, match="cannot start at phase 1.*\n.*start at phase 2"):
        make_model(plan, tmp_path, Beginning(checkpoint=tmp_path, phase=1))


def test_a_checkpoint_trained_to_tag_contains_its_questions(made: Callable[[str], Made], tmp_path: Path) -> None:
    for tags, plan in ((False, toy_plan("tiny-llama3")), (True, later_plan("tiny-llama3"))):
        assert plan.tags == tags
        make_tokenizer(plan, tmp_path / str(tags) / "tokenizer")
        folder = finish_tokenizer(plan, tmp_path / str(tags))
        model = build_model(ModelConfig.from_dict(plan.config | special_ids(plan, made("tiny-llama3").tokenizer)))
        save_model(tmp_path / "saved", model, tokenizer_from=folder)
        assert (tmp_path / "saved" / "tag_questions.json").is_file() == tags
    assert read_questions(tmp_path / "saved" / "tag_questions.json") == BRIEF


@pytest.mark.parametrize(
    ("name", "bos", "ends", "pad"),
    [("tiny-llama3", 368, [369, 376, 377], 372), ("tiny-gemma2", 2, [1, 107], 0)],
)
def test_the_generation_config_contains_the_stop_tokens(
    name: str, bos: int, ends: list[int], pad: int, made: Callable[[str], Made], tmp_path: Path
) -> None:
    plan = made(name).plan
    make_tokenizer(plan, tmp_path / "tokenizer")
    folder = finish_tokenizer(plan, tmp_path)
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings == {"bos_token_id": bos, "eos_token_id": ends, "pad_token_id": pad}


def test_tokenizer_training_is_reproducible(made: Callable[[str], Made], tmp_path: Path) -> None:
    for name in NAMES:
        one = made(name)
        make_tokenizer(one.plan, tmp_path / name)
        for path in one.folder.iterdir():
            if path.name != "generation_config.json":
                assert (tmp_path / name / path.name).read_bytes() == path.read_bytes()


# ---- the shipped plans


@pytest.mark.parametrize(("name", "count"), [("tiny-llama3", 2_607_168), ("tiny-gemma2", 1_682_080)])
def test_the_plans_have_the_parameter_counts_on_their_cards(name: str, count: int) -> None:
    model = build_model(ModelConfig.from_dict(PLANS[name].config))
    assert parameter_count(model.parameters()) == count


@pytest.mark.parametrize("name", NAMES)
def test_a_bf16_checkpoint_is_smaller_than_10_megabytes(name: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    model = build_model(ModelConfig.from_dict(PLANS[name].config))
    save_model(tmp_path / name, model, dtype="bfloat16", tokenizer_from=made(name).folder)
    size = sum(path.stat().st_size for path in (tmp_path / name).iterdir())
    # A tokenizer with 2,048 ids takes at most 400 bytes per id.
    assert size + 2048 * 400 < 10_000_000


def test_the_plans_keep_the_properties_of_their_families() -> None:
    llama, gemma = (ModelConfig.from_dict(PLANS[name].config) for name in NAMES)
    assert (llama.rope.theta, llama.tie_word_embeddings, llama.windows) == (500000.0, True, (None,) * 5)
    assert (gemma.attn_logit_softcapping, gemma.final_logit_softcapping) == (50.0, 30.0)
    assert gemma.windows == (32, None, 32, None)
    for plan, config in zip(PLANS.values(), (llama, gemma), strict=True):
        assert config.num_attention_heads == 2 * config.num_key_value_heads
        assert plan.row_length <= config.max_position_embeddings
        assert all(window < plan.row_length for window in config.windows if window)
