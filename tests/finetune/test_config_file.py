"""Settings written to YAML and read back."""

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlx_suite.finetune.config_file import read_config, write_config
from mlx_suite.finetune.settings import CHOICES, FinetuneSettings
from mlx_suite.runtime.errors import UserError

SETTINGS = FinetuneSettings(
    model="lab/llama@main",
    data="rows.jsonl",
    out="runs/mine",
    learning_rate=2e-4,
    layers=(0, 1),
    prompts=("What is 1 + 1?", "Say: yes # no", "ein Satz\nmit Umlauten: ä"),
    rslora=True,
)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_written_settings_read_back_the_same(tmp_path: Path) -> None:
    text = write_config(SETTINGS, {"model": "flag", "rslora": "recipe.yaml"})
    assert FinetuneSettings(**read_config(written(tmp_path / "config.yaml", text))) == SETTINGS


def test_each_line_says_where_its_value_was_set() -> None:
    lines = write_config(SETTINGS, {"model": "flag", "rslora": "recipe.yaml"}).splitlines()
    assert lines[1] == "model: lab/llama@main                     # flag"
    assert "rslora: true                              # recipe.yaml" in lines
    assert "learning_rate: 0.0002                     # default" in lines
    assert len(lines) == 1 + len(asdict(SETTINGS))


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


@hypothesis_settings(max_examples=40)
@given(
    prompts=st.lists(TEXTS, max_size=3).map(tuple),
    data=TEXTS,
    rate=st.floats(1e-8, 10.0) | st.none(),
    optimizer=st.sampled_from(CHOICES["optimizer"]),
    layers=st.none() | st.lists(st.integers(0, 99), max_size=3).map(tuple),
)
def test_any_settings_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    prompts: tuple[str, ...],
    data: str,
    rate: float | None,
    optimizer: str,
    layers: tuple[int, ...] | None,
) -> None:
    settings = FinetuneSettings(
        model="m", data=data, prompts=prompts, learning_rate=rate, optimizer=optimizer, layers=layers
    )
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    assert FinetuneSettings(**read_config(written(path, write_config(settings, {})))) == settings


def test_a_recipe_accepts_numbers_in_any_notation(tmp_path: Path) -> None:
    recipe = "learning_rate: 2e-4\nmax-length: 512   # with a hyphen, as the flag\nmodules: q_proj, v_proj\nsteps:\n"
    assert read_config(written(tmp_path / "r.yaml", recipe)) == {
        "learning_rate": 2e-4,
        "max_length": 512,
        "modules": ("q_proj", "v_proj"),
        "steps": None,
    }


def test_the_error_names_the_line_that_is_not_yaml(tmp_path: Path) -> None:
    path = written(tmp_path / "r.yaml", "model: tiny-llama3\nrank: [16\nbatch: 4\n")
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert caught.value.where.startswith(f"{path}:") and "is not YAML" in caught.value.what


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "just text"])
def test_a_file_without_settings_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="not a mapping of settings"):
        read_config(written(tmp_path / "r.yaml", text))


def test_a_missing_file_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_config(tmp_path / "r.yaml")


def test_python_objects_in_yaml_are_not_constructed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not YAML"):
        read_config(written(tmp_path / "r.yaml", "model: !!python/object/apply:os.getcwd []\n"))
