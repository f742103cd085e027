"""Resolving a model name to a folder: local, shipped, cached and remote models."""

import subprocess
import sys
from pathlib import Path

import pytest

import mlx_suite
from mlx_suite.data.read.hub import is_hub_name
from mlx_suite.hub import local_models
from mlx_suite.hub import resolve as hub
from mlx_suite.hub.pull import pull
from mlx_suite.runtime.errors import UserError
from tests.hub.server import (
    REPO,
    SHARD_2,
    Hub,
    client_environment,
)


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two shipped checkpoints, independent of the installation."""
    root = tmp_path / "shipped"
    for name in ("tiny-llama3", "tiny-gemma2"):
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text('{"model_type": "llama"}')
    monkeypatch.setattr(local_models, "shipped_roots", lambda: [root])
    return root


class TestResolve:
    def test_a_folder_with_a_config_resolves_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        assert hub.resolve(tmp_path) == tmp_path
        assert hub.resolve(str(tmp_path)) == tmp_path

    def test_a_folder_without_a_config_is_rejected_with_the_one_inside_it(self, tmp_path: Path, server: Hub) -> None:
        inside = tmp_path / "run" / "step-100"
        inside.mkdir(parents=True)
        (inside / "config.json").write_text("{}")
        with pytest.raises(UserError) as caught:
            hub.resolve(str(tmp_path / "run"))
        assert caught.value.what == "not a model folder: there is no config.json"
        assert caught.value.fix == f"did you mean {inside}?"

    def test_a_shipped_name_takes_precedence_over_a_folder_without_a_model(
        self, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere" / "tiny-llama3").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert hub.resolve("tiny-llama3") == shipped / "tiny-llama3"

    def test_a_misspelt_name_is_reported_with_the_nearest_name(self, shipped: Path, server: Hub) -> None:
        with pytest.raises(UserError) as caught:
            hub.resolve("tiny-lama3")
        assert "'tiny-lama3'" in caught.value.what
        assert caught.value.fix.startswith("did you mean tiny-llama3?")
        assert server.seen == []

    def test_an_unknown_name_is_reported_with_how_to_pull(self, shipped: Path, server: Hub) -> None:
        with pytest.raises(UserError) as caught:
            hub.resolve("zzz")
        assert caught.value.fix == (
            "shipped models: tiny-gemma2, tiny-llama3; from the hub: `mlx-suite models pull OWNER/REPO`"
        )

    @pytest.mark.parametrize("name", ["", "a/b/c", "no such/name"])
    def test_an_invalid_name_is_rejected_without_a_request(self, name: str, server: Hub) -> None:
        with pytest.raises(UserError, match="there is no model"):
            hub.resolve(name)
        assert server.seen == []

    @pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "nowhere/"])
    def test_a_missing_path_is_not_taken_for_a_hub_name(self, path: str, server: Hub) -> None:
        with pytest.raises(UserError, match="there is no such folder"):
            hub.resolve(path)
        assert server.seen == []

    def test_a_mistyped_folder_is_not_taken_for_a_hub_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Hub
    ) -> None:
        (tmp_path / "runs" / "mine").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match="there is no such folder") as caught:
            hub.resolve("runs/mime")
        assert caught.value.fix.startswith("did you mean runs/mine? For a repository of the hub: ")
        assert server.seen == []

    def test_a_weight_file_is_rejected_with_its_folder(self, tmp_path: Path) -> None:
        file = tmp_path / "model.safetensors"
        file.touch()
        with pytest.raises(UserError) as caught:
            hub.resolve(str(file))
        assert caught.value.fix == f"give the folder: {tmp_path}"

    def test_a_cached_model_is_used_without_a_request(self, server: Hub) -> None:
        folder = hub.resolve(REPO, progress=False)
        server.seen.clear()
        assert hub.resolve(REPO, progress=False) == folder
        assert server.seen == []

    def test_a_cached_model_is_found_without_the_hub_client(self, server: Hub, cache: Path) -> None:
        folder = hub.resolve(REPO, progress=False)
        code = (
            "import sys\n"
            "from mlx_suite.hub.resolve import resolve\n"
            f"print(resolve({REPO!r}))\n"
            "print({'huggingface_hub.hf_api', 'httpx2', 'httpx'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=client_environment(server, cache)
        )
        assert done.stdout == f"{folder}\nset()\n"

    def test_a_missing_small_file_is_known_from_the_list_that_the_client_stored(self, server: Hub) -> None:
        folder = hub.resolve(REPO, progress=False)
        (folder / "tokenizer.json").unlink()
        assert [model.complete for model in hub.cached_models()] == [False]

    @pytest.mark.parametrize("revision", ["v1", "branch/one"])
    def test_the_revision_after_the_at_sign_is_downloaded(self, revision: str, server: Hub) -> None:
        folder = hub.resolve(f"{REPO}@{revision}", progress=False)
        assert folder.name == server.repositories[REPO].commit
        assert [model.revision for model in hub.cached_models()] == [revision]

    def test_an_incomplete_cached_model_is_completed(self, server: Hub) -> None:
        folder = hub.resolve(REPO, progress=False)
        (folder / SHARD_2).resolve().unlink()
        (folder / SHARD_2).unlink()
        assert hub.resolve(REPO, progress=False) == folder
        assert (folder / SHARD_2).read_bytes() == server.repositories[REPO].files[SHARD_2]


def test_cached_models_are_listed_with_revision_size_and_type(server: Hub) -> None:
    folder = pull(REPO, progress=False)
    (model,) = hub.cached_models()
    files = server.repositories[REPO].files
    assert (model.repo, model.revision, model.model_type) == (REPO, "main", "llama")
    assert (model.path.resolve(), model.commit) == (folder.resolve(), folder.name)
    assert model.size_bytes == sum(len(data) for data in files.values())


def test_without_a_cache_folder_no_cached_models_are_listed(server: Hub) -> None:
    assert hub.cached_models() == []


def test_shipped_models_are_found_next_to_the_package_and_as_a_data_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root, name in (("src", "from-checkout"), ("data", "from-package")):
        (tmp_path / root).mkdir()
        folder = tmp_path / root / ("models" if root == "src" else "shipped_by_test") / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "data" / "shipped_by_test" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "data"))
    monkeypatch.setattr(local_models, "DATA_PACKAGE", "shipped_by_test")
    monkeypatch.setattr(mlx_suite, "__path__", [str(tmp_path / "src" / "mlx_suite")])
    assert [model.name for model in hub.shipped_models()] == ["from-checkout", "from-package"]


@pytest.mark.parametrize(
    ("page", "repo", "revision"),
    [
        ("https://huggingface.co/meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B", None),
        ("https://huggingface.co/meta-llama/Llama-3.2-1B/", "meta-llama/Llama-3.2-1B", None),
        ("http://www.huggingface.co/google/gemma-2-2b-it/tree/main", "google/gemma-2-2b-it", "main"),
        ("https://hf.co/google/gemma-2-2b-it/blob/main/config.json?x=1", "google/gemma-2-2b-it", "main"),
        ("https://huggingface.co/datasets/tatsu-lab/alpaca/tree/v2#top", "tatsu-lab/alpaca", "v2"),
    ],
)
def test_a_hub_url_resolves_to_its_repository(page: str, repo: str, revision: str | None) -> None:
    assert hub.split_revision(page) == (repo, revision)
    assert is_hub_name(page)


@pytest.mark.parametrize("text", ["https://example.org/owner/repo", "https://huggingface.co/owner", "owner/repo/more"])
def test_other_urls_are_not_repositories(text: str) -> None:
    assert not is_hub_name(text)


def test_the_url_of_a_cached_model_resolves_to_its_snapshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []
    monkeypatch.setattr(hub, "find_snapshot", lambda repo, revision=None: seen.append((repo, revision)) or tmp_path)
    monkeypatch.setattr(hub, "is_complete", lambda repo, folder: True)

    assert hub.resolve("https://huggingface.co/owner/repo/tree/v1") == tmp_path
    assert seen == [("owner/repo", "v1")]
