"""Configurations and splits of a repository: a mixture is refused, and names choose."""

from pathlib import Path

import pytest

from mlx_suite.data.dataset import read_dataset
from mlx_suite.data.read.sources import find_files
from mlx_suite.runtime.errors import UserError

CARD = """---
license: mit
configs:
- config_name: plain
  data_files:
  - split: train
    path: data/plain-*
- config_name: spoken
  data_files:
  - split: train
    path: [data/spoken-a.jsonl]
  - split: test
    path: data/spoken-b.jsonl
---
# A set
"""


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f'{{"prompt": "{name}", "completion": "b"}}\n')
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two configurations, each with a training and a test file."""
    splits = ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl")
    return write(tmp_path / "qa", *(f"{config}/{split}" for config in ("main", "socratic") for split in splits))


def parts(source: str | Path, split: str = "") -> dict[str, str]:
    return {file.name: file.part for file in find_files(source, split)}


def refused(source: str | Path, split: str = "") -> UserError:
    with pytest.raises(UserError) as caught:
        find_files(source, split)
    return caught.value


def test_a_mixture_of_configurations_is_refused_and_their_names_are_listed(repository: Path) -> None:
    error = refused(repository)
    assert error.what == "The dataset has 2 configurations, which are different datasets: main, socratic"
    assert error.fix == f"choose one: {repository}:main or {repository}:socratic"


def test_a_name_chooses_a_configuration(repository: Path) -> None:
    assert parts(f"{repository}:socratic") == {
        "socratic/test-00000-of-00001.jsonl": "test",
        "socratic/train-00000-of-00001.jsonl": "train",
    }
    assert len(read_dataset(f"{repository}:main").train) == 1


def test_an_unknown_configuration_gets_the_nearest_name(repository: Path) -> None:
    assert refused(f"{repository}:socratik").fix == "did you mean socratic?"
    single = write(repository.parent / "one", "train.jsonl")
    assert refused(f"{single}:main").what == "The dataset has no configuration 'main'"


def test_the_card_names_configurations_whose_files_are_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path, "data/plain-1.jsonl", "data/plain-2.jsonl", "data/spoken-a.jsonl", "data/spoken-b.jsonl")
    (tmp_path / "README.md").write_text(CARD)
    assert "plain, spoken" in refused(tmp_path).what
    assert parts(f"{tmp_path}:plain") == {"data/plain-1.jsonl": "train", "data/plain-2.jsonl": "train"}
    assert parts(f"{tmp_path}:spoken") == {"data/spoken-a.jsonl": "train", "data/spoken-b.jsonl": "test"}


@pytest.mark.parametrize("changed", ["  default: true\n", ""])
def test_a_default_configuration_needs_no_name(tmp_path: Path, changed: str) -> None:
    write(tmp_path, "data/plain-1.jsonl", "data/spoken-a.jsonl")
    name = "spoken" if changed else "default"
    card = CARD.replace("config_name: spoken\n", f"config_name: {name}\n{changed}")
    (tmp_path / "README.md").write_text(card)
    assert parts(tmp_path) == {"data/spoken-a.jsonl": "train"}


@pytest.mark.parametrize(
    "card", ["no front matter", "---\nconfigs: 3\n---\n", "---\n: [\n---\n", "---\nconfigs: [a]\n---"]
)
def test_a_card_without_configurations_changes_nothing(tmp_path: Path, card: str) -> None:
    write(tmp_path, "train.jsonl", "test.jsonl")
    (tmp_path / "README.md").write_text(card)
    assert parts(tmp_path) == {"train.jsonl": "train", "test.jsonl": "test"}


def test_a_mixture_of_training_splits_is_refused_and_a_name_chooses(tmp_path: Path) -> None:
    names = [f"data/{split}-00000-of-00001.jsonl" for split in ("train_sft", "train_gen", "test_sft", "val")]
    write(tmp_path, *names)
    error = refused(tmp_path)
    assert error.what == "The dataset has 2 splits to train on: train_gen, train_sft"
    assert error.fix == "choose one: --split train_gen"
    assert parts(tmp_path, "train_sft") == {
        names[0]: "train",
        names[1]: "unused",
        names[2]: "unused",
        names[3]: "valid",
    }
    assert parts(tmp_path, "val")[names[3]] == "train"
    assert refused(tmp_path, "train_sfd").fix == "did you mean train_sft?"


def test_shards_and_folders_named_by_their_split_are_one_dataset(tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl")
    assert set(parts(shards).values()) == {"train"}
    folders = write(tmp_path / "folders", "train/a.jsonl", "test/b.jsonl", "train/c.jsonl")
    assert parts(folders) == {"train/a.jsonl": "train", "train/c.jsonl": "train", "test/b.jsonl": "test"}


def test_a_plain_word_names_a_split_too_and_a_file_has_none(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", "validation.jsonl")
    assert parts(tmp_path, "validation") == {"train.jsonl": "unused", "validation.jsonl": "train"}
    assert refused(tmp_path / "train.jsonl", "train").what == "A file has no splits"
