"""Settings written to YAML and read back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlx_suite.finetune.settings import CHOICES, FinetuneSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.settings_file import read_settings, settings_from, settings_text

SETTINGS = FinetuneSettings(
    model="lab/llama@main",
    data="rows.jsonl",
    out="runs/mine",
    learning_rate=2e-4,
    layers=(0, 1),
    prompts=("What is 1 + 1?", "Say: yes # no", "ein Satz\nmit Umlauten: ä"),
    rslora=True,
)


def read_config(path: Path) -> dict[str, Any]:
    return read_settings(path, FinetuneSettings, "model: tiny-llama3")


def write_config(settings: Any, origin: dict[str, str]) -> str:
    return settings_text(settings, origin, "mlx-suite finetune --config config.yaml --out FOLDER")


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


# ---- nested settings


@dataclass(frozen=True, kw_only=True)
class Part:
    path: str
    weight: float | None = None
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Parts:
    data: tuple[Part, ...]
    valid: Part | None = None
    shape: Mapping[str, Any] | str | None = None


def parts(**values: Any) -> Parts:
    return Parts(**settings_from(values, "recipe.yaml", Parts))


def test_a_path_alone_or_a_list_of_paths_and_mappings_is_a_list_of_parts() -> None:
    assert parts(data="a.txt").data == (Part(path="a.txt"),)
    assert parts(data={"path": "a, b.txt", "weight": 2}).data == (Part(path="a, b.txt", weight=2.0),)
    assert parts(data=["a.txt", {"path": "b", "count": 3}], valid="c").data == (
        Part(path="a.txt"),
        Part(path="b", count=3),
    )


def test_a_setting_may_be_a_mapping_or_text() -> None:
    assert parts(data="a", shape={"hidden_size": 64}).shape == {"hidden_size": 64}
    assert parts(data="a", shape="config.json").shape == "config.json"
    assert parts(data="a", shape=None).shape is None


def test_problems_inside_a_mapping_are_named_by_its_key() -> None:
    with pytest.raises(UserError) as caught:
        parts(data=["a.txt", {"paht": "b"}, {"path": "c", "weight": "much"}, {"weight": 1}], valid=[1], shape=[2])
    assert caught.value.details == (
        "data: paht: did you mean path?",
        "data: weight is 'much': expected a number",
        "data: path is missing",
        "valid: path is [1]: expected text",
        "shape is [2]: expected a mapping, or the path of a config.json",
    )


@hypothesis_settings(max_examples=30)
@given(
    paths=st.lists(TEXTS, min_size=1, max_size=3),
    weight=st.none() | st.floats(0, 9),
    shape=st.none() | st.dictionaries(st.sampled_from(["a", "b"]), st.integers() | TEXTS),
)
def test_nested_settings_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], weight: float | None, shape: dict[str, Any] | None
) -> None:
    settings = Parts(data=tuple(Part(path=path, weight=weight) for path in paths), shape=shape)
    path = written(tmp_path_factory.getbasetemp() / "nested.yaml", write_config(settings, {}))
    assert Parts(**read_settings(path, Parts, "data: a")) == settings


@dataclass(frozen=True, kw_only=True)
class WithShape:
    size: int
    shape: Mapping[str, Any] | str | None = None


def test_numbers_in_a_mapping_may_be_written_as_yaml_does_not_parse_them(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("size: 1\nshape: {rms_norm_eps: 1e-5, name: 1e, theta: 1.0e4}\n")
    assert read_settings(path, WithShape, "size: 1")["shape"] == {"rms_norm_eps": 1e-5, "name": "1e", "theta": 1e4}
