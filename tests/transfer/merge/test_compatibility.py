"""Models that cannot be merged are refused with all their differences."""

import json
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.merge.merging import merge_models
from mlx_suite.transfer.merge.recipe import Recipe, whole_models
from tests.export.checkpoints import TINY_GEMMA2, random_checkpoint, without_template
from tests.transfer.merge.models import near


def merge(models: list[str], out: Path, tokenizer: str | None = None) -> None:
    merge_models(Recipe(method="linear", slices=whole_models(models), tokenizer=tokenizer), out)


def refused(models: list[str], out: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        merge(models, out)
    assert not out.exists()
    return caught.value


def test_every_difference_of_the_configs_is_listed(llamas: list[str], tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "other", "llama", num_hidden_layers=2, rope_theta=777.0, max_position_embeddings=64)
    error = refused([llamas[0], str(tmp_path / "other")], tmp_path / "out")
    keys = [detail.split()[1] for detail in error.details]
    assert keys == ["head_dim", "hidden_size", "intermediate_size", "num_hidden_layers", "rope", "windows"]
    assert f"config: hidden_size is 16 in {llamas[0]}, 32 in {tmp_path / 'other'}" in error.details


def test_vocabularies_are_compared_token_by_token(llamas: list[str], tmp_path: Path) -> None:
    shape = {"vocab_size": 2048, "hidden_size": 16, "head_dim": 8, "intermediate_size": 24}
    random_checkpoint(tmp_path / "gemma tokens", "llama", TINY_GEMMA2, **shape)
    details = refused([llamas[0], str(tmp_path / "gemma tokens")], tmp_path / "out").details
    assert [detail.partition(":")[0] for detail in details[:3]] == ["vocabulary"] * 3
    assert " tokens only in " in details[0] and " tokens only in " in details[1]
    assert " tokens with other ids in " in details[2]


def test_another_id_for_one_token_is_found(llamas: list[str], tmp_path: Path) -> None:
    other = near(llamas[0], tmp_path / "other", 1)
    file = json.loads((other / "tokenizer.json").read_text())
    vocabulary = file["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(file))
    assert refused([llamas[0], str(other)], tmp_path / "out").details == (
        f"vocabulary: 2 tokens with other ids in {other} than in {llamas[0]}: 'a', 'b'",
    )


def test_different_chat_templates_are_refused_until_one_is_chosen(llamas: list[str], tmp_path: Path) -> None:
    other = near(llamas[0], tmp_path / "other", 1)
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")
    error = refused([llamas[0], str(other)], tmp_path / "out")
    assert error.details[0].startswith(f"chat template: that of {other} (25 characters) differs from that of ")
    assert error.fix == f"choose whose tokenizer and template to keep, such as --tokenizer {llamas[0]}"
    merge([llamas[0], str(other)], tmp_path / "out", tokenizer=str(other))
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ messages[0].content }}"


def test_a_pretrained_base_without_a_template_is_no_difference(llamas: list[str], tmp_path: Path) -> None:
    base = near(llamas[0], tmp_path / "base", 1)
    without_template(base)
    merge([str(base), llamas[0]], tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").is_file()


def test_the_context_may_differ(llamas: list[str], tmp_path: Path) -> None:
    other = near(llamas[0], tmp_path / "other", 1)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 99}))
    merge([llamas[0], str(other)], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["max_position_embeddings"] == 128
