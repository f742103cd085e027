"""A GGUF file is a model wherever a model is named: imported once, into a cache."""

import os
from pathlib import Path

import pytest

import mlx_suite
from mlx_suite.hub import imported_models
from mlx_suite.hub.resolve import resolve, resolve_texts
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.lock import folder_lock
from tests.gguf.files import write_file
from tests.hub.stores import OllamaStore


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mlx-suite" / "gguf"


def test_a_gguf_file_is_imported_once_and_said_so(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_file(tmp_path / "tiny.gguf")
    folder = resolve(str(file))
    assert folder.parent == cache and folder.name.startswith("tiny-")
    first = capsys.readouterr().err
    assert f"Importing {file} once, into {folder}" in first
    assert "note: The file has no chat template" in first
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve(str(file)) == resolve_texts(str(file)) == folder
    assert capsys.readouterr().err.startswith(f"Using {file} as imported into {folder}\n")
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_without_progress_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolve(write_file(tmp_path / "tiny.gguf"), progress=False)
    assert capsys.readouterr().err == ""


def test_a_changed_file_replaces_its_import(cache: Path, tmp_path: Path) -> None:
    folder = resolve(write_file(tmp_path / "tiny.gguf"))
    before = (folder / "config.json").read_text()
    write_file(tmp_path / "tiny.gguf", num_hidden_layers=1)
    assert resolve(tmp_path / "tiny.gguf") == folder
    assert (folder / "config.json").read_text() != before
    written = (folder / "config.json").stat().st_mtime_ns
    os.utime(tmp_path / "tiny.gguf", (1, 1))  # another time is another file: its bytes may differ after the first ones
    resolve(tmp_path / "tiny.gguf")
    assert (folder / "config.json").stat().st_mtime_ns > written
    assert sorted(path.name for path in cache.iterdir()) == [".locks", folder.name]


def test_a_model_in_ollamas_store_is_imported_under_its_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OllamaStore(tmp_path / "ollama")
    monkeypatch.setenv("OLLAMA_MODELS", str(store.root))
    weights = write_file(tmp_path / "tiny.gguf").read_bytes()
    store.add("registry.ollama.ai/library/tiny/latest", {"model": weights})
    folder = resolve("ollama:tiny")
    assert folder.parent == cache and folder.name.startswith("ollama-tiny-")
    assert mlx_suite.load("ollama:tiny")[0].config.vocab_size == 260


def test_two_files_of_one_name_have_two_imports(tmp_path: Path) -> None:
    folders = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        folders.add(resolve(write_file(tmp_path / name / "tiny.gguf")))
    assert len(folders) == 2


def test_a_file_that_another_process_imports_is_waited_for_by_the_user(cache: Path, tmp_path: Path) -> None:
    file = write_file(tmp_path / "tiny.gguf")
    name = resolve(file).name
    os.utime(file, (1, 1))
    with folder_lock(cache / imported_models.LOCKS / name), pytest.raises(UserError, match="Another run is using it"):
        resolve(file)


def test_the_front_door_takes_a_gguf_file(tmp_path: Path) -> None:
    model, tokenizer = mlx_suite.load(write_file(tmp_path / "tiny.gguf", type="Q8_0"))
    assert model.config.model_type == "llama"
    assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"


def test_a_damaged_file_is_told_and_not_cached(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "half.gguf").write_bytes(write_file(tmp_path / "tiny.gguf").read_bytes()[:-4000])
    with pytest.raises(UserError, match="the file is truncated"):
        resolve(tmp_path / "half.gguf")
    (tmp_path / "text.gguf").write_text("Not Found")
    with pytest.raises(UserError, match="this is not a GGUF file"):
        resolve(tmp_path / "text.gguf")
    assert [path.name for path in cache.iterdir()] == [".locks"]


def test_a_folder_of_gguf_files_is_no_model_but_they_are(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    file = write_file(tmp_path / "models" / "tiny.gguf")
    with pytest.raises(UserError) as caught:
        resolve(tmp_path / "models")
    assert caught.value.fix == f"did you mean {file}?"
