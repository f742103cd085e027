"""The checkpoints that come with mlx-suite: small, whole, described, and able to answer."""

import re
from pathlib import Path
from typing import Any

import pytest

from mlx_suite import load
from mlx_suite.checkpoints.weights import parameter_count
from mlx_suite.data.questions import read_questions
from mlx_suite.data.steering import steering_text
from mlx_suite.evaluate import answer_all, measure_accuracy
from mlx_suite.hub.resolve import resolve, shipped_models
from mlx_suite.microworld import Verdict, check, heldout_examples, is_heldout, make_world
from mlx_suite.text import derive_pre_query, load_chat_template
from mlx_suite_apps.shipped.drawing import category_of, draw_rows
from mlx_suite_apps.shipped.plans import PLANS
from mlx_suite_apps.shipped.tagged import BRIEF
from mlx_suite_apps.shipped.tags import agreement, choose_labels, heldout_tagged

MODELS = Path(__file__).parents[1] / "models"
INSTRUCTION = "What is the right thing to use when I cut bread?"
OTHERS = ["What is 2 plus 2?", "Who is older?", "What kind of thing is a guitar?"]
SAMPLE = 60
"""Unseen instructions that are asked again."""


@pytest.fixture(params=list(PLANS))
def folder(request: pytest.FixtureRequest) -> Path:
    found = MODELS / request.param
    assert (found / "config.json").is_file(), f"{request.param} is not there: make models"
    return found


@pytest.fixture(scope="module")
def loaded() -> Any:
    """Gives model, tokenizer and template of a folder, loaded once."""
    known: dict[Path, tuple[Any, Any, Any]] = {}

    def of(folder: Path) -> tuple[Any, Any, Any]:
        if folder not in known:
            known[folder] = (*load(folder), load_chat_template(folder))
        return known[folder]

    return of


def test_a_shipped_model_is_found_by_its_name(folder: Path) -> None:
    [found] = [model for model in shipped_models() if model.name == folder.name]
    assert found.path.samefile(folder)
    assert Path(resolve(folder.name)).samefile(folder)
    assert found.model_type == PLANS[folder.name].config["model_type"]


def test_it_takes_at_most_10_megabytes(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 10_000_000


def test_it_loads_and_is_what_its_plan_says(folder: Path, loaded: Any) -> None:
    model, tokenizer, _ = loaded(folder)
    plan = PLANS[folder.name]
    assert tokenizer.vocab_size == model.config.vocab_size == plan.config["vocab_size"]
    for name in ("hidden_size", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps"):
        assert getattr(model.config, name) == plan.config[name]
    assert f"{parameter_count(model.parameters()):,} parameters" in (folder / "README.md").read_text()


def test_its_card_names_an_accuracy_that_a_sample_confirms(folder: Path, loaded: Any) -> None:
    card = (folder / "README.md").read_text()
    stated = re.search(r"\*\*(\d+\.\d)%\*\* of 1,000 greedy answers to unseen instructions are right", card)
    assert stated is not None
    assert f"python -m mlx_suite_apps.shipped make {folder.name}" in card
    by_category, _ = measure_accuracy(*loaded(folder), heldout_examples(0, SAMPLE), make_world())
    # Three standard deviations of the share of so few.
    assert by_category.share == pytest.approx(float(stated[1]) / 100, abs=0.19)


def test_the_header_of_its_chat_template_checks_itself(folder: Path, loaded: Any) -> None:
    _, tokenizer, template = loaded(folder)
    header = derive_pre_query(tokenizer, template)
    opened = tokenizer.decode(header.header_ids, skip_special=False)
    expected = {
        "llama": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        "gemma2": "<bos><start_of_turn>user\n",
    }
    assert opened == expected[PLANS[folder.name].config["model_type"]]
    assert set(header.assistant_stop_ids[:1]) <= tokenizer.stop_ids


def test_an_unseen_instruction_has_the_same_right_answer_alone_and_beside_others(folder: Path, loaded: Any) -> None:
    assert is_heldout(INSTRUCTION)
    model, tokenizer, template = loaded(folder)
    [alone] = answer_all(model, tokenizer, template, [INSTRUCTION], slots=1)
    assert check(INSTRUCTION, alone, make_world()) is Verdict.RIGHT, alone
    beside = answer_all(model, tokenizer, template, [*OTHERS, INSTRUCTION, *OTHERS], slots=4)
    assert beside[3] == alone


def test_one_that_learned_to_tag_carries_its_questions_and_the_others_have_none(folder: Path) -> None:
    plan, file = PLANS[folder.name], folder / "tag_questions.json"
    assert file.is_file() == plan.tags
    if plan.tags:
        assert read_questions(file) == BRIEF


@pytest.mark.slow
def test_its_card_tells_how_well_it_tags_and_a_sample_confirms_it(folder: Path, loaded: Any) -> None:
    if not PLANS[folder.name].tags:
        pytest.skip("it has not learned to tag")
    card = (folder / "README.md").read_text()
    for name in ("category", "safety"):
        stated = re.search(rf"^\| {name} \| (\d+\.\d)% \| 0\.\d\d \|", card, re.MULTILINE)
        assert stated is not None
        examples = heldout_tagged(name, SAMPLE)
        pairs = [(each.instruction, each.answer) for each in examples]
        found = choose_labels(*loaded(folder), BRIEF, BRIEF.named(name), pairs)
        share = agreement(found, [each.labels[name] for each in examples]).share
        assert share == pytest.approx(float(stated[1]) / 100, abs=0.19)


def test_it_asks_for_what_it_is_steered_to(folder: Path, loaded: Any) -> None:
    if not any(phase.steer_share for phase in PLANS[folder.name].phases):
        pytest.skip("it has not learned to be steered")
    rows = draw_rows(*loaded(folder), 24, steering=steering_text("category", "Role playing"))
    obeyed = sum(category_of(row.instruction) == "Role playing" for row in rows)
    # Unsteered it is one in thirty.
    assert obeyed >= 6


@pytest.mark.torch
def test_transformers_loads_it_and_agrees_to_1e_4(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    import mlx.core as mx
    import numpy as np
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chat = [{"role": "user", "content": INSTRUCTION}, {"role": "assistant", "content": "A knife. " * 60}]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(chat, tokenize=True, return_dict=False)
    assert len(ids) > 3 * 32  # past three windows of tiny-gemma2
    with torch.no_grad():
        expected = theirs(torch.tensor([ids]), use_cache=False).logits.numpy()
    model, _ = load(folder, dtype="float32")
    assert np.abs(np.array(model(mx.array([ids]))) - expected).max() <= 1e-4
