"""Sample responses during training: generated with the current weights, without noise, and rendered as Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_map

from mlx_suite.adapters.lora import AdapterConfig, add_adapters
from mlx_suite.engine.response_sampling import ResponseSampling
from mlx_suite.evaluate.samples import render_samples, responses, truncate_samples, write_samples
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.neftune import add_noise
from mlx_suite.training.recompute import recompute
from tests.modeling.tiny import tiny_model
from tests.on_cpu import on_the_cpu  # noqa: F401

PROMPTS = [[1, 2, 3], list(range(20, 42)), [7]]
STOP = frozenset({49})


class Letters:
    """Token 0 is a, 1 is b and so on."""

    stop_ids = STOP
    vocab_size = 50

    def nameless_ids(self, rows: int) -> frozenset[int]:
        """No token is reserved, and no row comes after the vocabulary."""
        return frozenset(range(self.vocab_size, rows))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(97 + index) for index in ids)


def step_by_step(model: nn.Module, prompt: list[int], limit: int) -> str:
    """Greedy response, computed without a KV cache."""
    model.eval()
    text = list(prompt)
    while len(text) < len(prompt) + limit:
        token = int(mx.argmax(model(mx.array([text]))[0, -1]).item())
        if token in STOP:
            break
        text.append(token)
    return Letters().decode(text[len(prompt) :])


def answers(model: nn.Module, limit: int = 12, **how: Any) -> list[str]:
    sampling = ResponseSampling(**how)
    written = responses(model, Letters(), PROMPTS, limit=limit, stop=STOP, sampling=sampling)
    return [text for text, _ in written]


def in_training(family: str = "llama", **changes: Any) -> nn.Module:
    """A model with nonzero LoRA matrices, dropout, noise and recomputed blocks."""
    model = tiny_model(family)
    add_adapters(model, AdapterConfig(rank=4, alpha=8.0, dropout=0.5, modules=("q_proj", "down_proj")), seed=0)
    mx.random.seed(3)
    model.update(tree_map(lambda x: 0.3 * mx.random.normal(x.shape), model.trainable_parameters()))
    add_noise(model.model.embed_tokens, 50.0)
    recompute(model.layers)
    return model


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_responses_are_greedy_responses_of_the_trained_model(family: str) -> None:
    model = in_training(family)
    model.train()
    found = answers(model)
    assert model.training and model.layers[0].training
    assert found == [step_by_step(model, prompt, 12) for prompt in PROMPTS]


# Compiled, because a compiled step keeps the weights it was traced with.
def test_each_evaluation_uses_the_current_weights() -> None:
    model = in_training()
    before = answers(model)
    for scale in (-1.0, 0.5):
        model.update(tree_map(lambda x, s=scale: s * x, model.trainable_parameters()))
        assert answers(model) == [step_by_step(model, prompt, 12) for prompt in PROMPTS]
    assert answers(model) != before


def write(path: Path, step: int, texts: Sequence[str] = ("first", "second", "third")) -> None:
    write_samples(tiny_model("llama"), Letters(), PROMPTS, texts, limit=4, stop=STOP, path=path, step=step)


def test_each_evaluation_appends_one_line_per_prompt(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write(path, 0)
    write(path, 10)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["prompt"]) for line in lines] == [
        *((0, "first"), (0, "second"), (0, "third")),
        *((10, "first"), (10, "second"), (10, "third")),
    ]
    assert lines[0]["answer"] == step_by_step(tiny_model("llama"), PROMPTS[0], 4)
    assert {line["reason"] for line in lines} <= {"stop", "limit"}


def sample(step: int, prompt: str = "Name a fruit.", answer: str = "Fig.", reason: str = "stop") -> str:
    return json.dumps({"step": step, "prompt": prompt, "answer": answer, "reason": reason}) + "\n"


def test_the_page_groups_by_prompt_in_order_of_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(
        sample(0, "Name a fruit.", "a a a", "limit")
        + sample(0, "2 + 2?", "5")
        + sample(1500)
        + sample(1500, "2 + 2?", "4")
    )
    assert render_samples(path) == (
        "# Responses during training\n\n"
        "## Name a fruit.\n\n"
        "**Step 0** (cut off by the limit)\n\n```text\na a a\n```\n\n"
        "**Step 1,500**\n\n```text\nFig.\n```\n\n"
        "## 2 + 2?\n\n"
        "**Step 0**\n\n```text\n5\n```\n\n"
        "**Step 1,500**\n\n```text\n4\n```\n"
    )


def test_a_response_with_code_fences_stays_in_its_fence(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(sample(1, answer="```python\nprint(1)\n```"))
    assert "````text\n```python\nprint(1)\n```\n````\n" in render_samples(path)


def test_a_multiline_prompt_is_shown_in_full_under_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(sample(1, prompt="Fix this:\nteh cat"))
    assert "## Fix this:\n\n```text\nFix this:\nteh cat\n```\n\n**Step 1**" in render_samples(path)


def test_samples_of_repeated_steps_and_a_truncated_line_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    # U+2028 ends a line in Python but not in JSON.
    path.write_text(sample(0) + sample(10, answer="a\u2028b") + sample(20) + sample(30)[:25], encoding="utf-8")
    truncate_samples(path, 10)
    assert [json.loads(line)["step"] for line in path.read_text("utf-8").split("\n")[:-1]] == [0, 10]
    assert "a\u2028b" in render_samples(path)
    truncate_samples(path, 0)
    assert path.read_text() == ""


def test_a_line_that_is_not_a_sample_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(sample(1) + 'what is this\n["neither"]\n' + sample(2))
    truncate_samples(path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_truncating_without_a_samples_file_does_nothing(tmp_path: Path) -> None:
    truncate_samples(tmp_path / "samples.jsonl", 3)
    assert list(tmp_path.iterdir()) == []


def test_an_unchanged_response_is_shown_once(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(sample(step, answer=answer) for step, answer in ((0, "a"), (5, "a"), (10, "b"), (15, "b"))))
    shown = render_samples(path)
    assert "**Steps 0 to 5**\n\n```text\na\n```\n\n**Steps 10 to 15**\n\n```text\nb\n```\n" in shown


@pytest.mark.usefixtures("uncompiled")
def test_responses_are_sampled_as_set_with_the_same_numbers_at_each_evaluation() -> None:
    model = in_training()
    assert set("".join(answers(model, logit_bias=("3=100",)))) == {"d"}
    hot = answers(model, temperature=5.0)
    assert hot == answers(model, temperature=5.0) != answers(model)
    assert answers(model, temperature=5.0, top_k=1) == answers(model)
    pushed = {"logit_bias": ("3=100", "4=90")}
    assert set(answers(model, **pushed)[0]) == {"d"}
    assert set(answers(model, **pushed, frequency_penalty=7.0)[0]) == {"d", "e"}
    assert answers(model, **pushed, presence_penalty=50.0)[0][:2] == "de"


def test_a_bias_of_a_token_that_the_vocabulary_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="logit_bias has the token id 50, but the vocabulary ends at 49"):
        answers(tiny_model("llama"), logit_bias=("50=1",))
