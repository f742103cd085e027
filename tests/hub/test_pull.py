"""Downloads from a hub on loopback that can misbehave."""

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants

from mlx_suite.hub import download, local_models
from mlx_suite.hub import resolve as hub
from mlx_suite.hub.pull import pull
from mlx_suite.runtime.errors import UserError
from tests.hub.server import (
    CHUNK,
    PATIENCE,
    REPO,
    SHARD_1,
    SHARD_2,
    Hub,
    Repository,
    checkpoint,
    client_environment,
    point_client_at,
)


def refusal(repo: str = REPO, revision: str | None = None) -> UserError:
    """The error that `pull` raises."""
    with pytest.raises(UserError) as caught:
        pull(repo, revision, progress=False)
    return caught.value


class TestPull:
    def test_only_the_files_of_a_checkpoint_are_downloaded(self, server: Hub) -> None:
        extra = {
            "consolidated.safetensors": b"a second copy",
            "pytorch_model.bin": b"pickle",
            "modeling_custom.py": b"import os",
            "README.md": b"words",
            "original/params.json": b"{}",
            ".gitattributes": b"",
        }
        files = server.repositories[REPO].files
        server.repositories[REPO] = Repository(files | extra)
        folder = pull(REPO, progress=False)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        assert [model.complete for model in hub.cached_models()] == [True]

    def test_the_index_names_the_weight_files(self, server: Hub) -> None:
        files = checkpoint()
        index = files["model.safetensors.index.json"].replace(b"model-0000", b"weights-0000")
        files = {name.replace("model-0000", "weights-0000"): data for name, data in files.items()}
        server.repositories[REPO] = Repository(files | {"model.safetensors.index.json": index})
        folder = pull(REPO, progress=False)
        assert (folder / SHARD_1.replace("model", "weights")).is_file()

    def test_a_second_pull_checks_for_updates_and_downloads_nothing(self, server: Hub) -> None:
        folder = pull(REPO, progress=False)
        server.sent.clear()
        assert pull(REPO, progress=False) == folder
        assert server.sent.total() == 0

    def test_a_new_commit_is_downloaded_without_its_unchanged_files(self, server: Hub) -> None:
        old = pull(REPO, progress=False)
        files = server.repositories[REPO].files | {"chat_template.jinja": b"{{ new }}"}
        server.repositories[REPO] = Repository(files)
        server.sent.clear()
        new = pull(REPO, progress=False)
        assert new != old
        assert (new / "chat_template.jinja").read_bytes() == b"{{ new }}"
        assert server.sent[SHARD_1] == server.sent[SHARD_2] == 0

    def test_the_access_token_is_sent_to_the_hub_and_never_to_the_file_store(
        self, server: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        pull(REPO, progress=False)
        tokens = {(seen.server, seen.authorization) for seen in server.seen}
        assert tokens == {("hub", "Bearer hf_secret"), ("cdn", None)}

    def test_two_concurrent_pulls_download_each_weight_file_once(self, server: Hub) -> None:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: pull(REPO, progress=False), range(2))
        assert first == second
        for name in (SHARD_1, SHARD_2):
            assert server.sent[name] == len(server.repositories[REPO].files[name])

    def test_the_weights_can_be_downloaded_by_the_hub_client(
        self, server: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(constants, "HF_XET_HIGH_PERFORMANCE", True)
        monkeypatch.setattr(download, "http_get", None)
        folder = pull(REPO, progress=False)
        assert (folder / SHARD_1).read_bytes() == server.repositories[REPO].files[SHARD_1]


class TestInterruption:
    def test_an_interrupted_update_leaves_the_old_copy_in_use(
        self, server: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = pull(REPO, progress=False)
        server.repositories[REPO] = Repository(checkpoint(rows=1300))
        server.cut_after[SHARD_1], server.stay_down = 150_000, True
        refusal()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert hub.resolve(REPO, progress=False) == old

    def test_a_broken_connection_is_resumed_within_the_same_pull(self, server: Hub) -> None:
        server.cut_after[SHARD_1] = 150_000
        folder = pull(REPO, progress=False)
        data = server.repositories[REPO].files[SHARD_1]
        assert (folder / SHARD_1).read_bytes() == data
        assert len(data) <= server.sent[SHARD_1] <= len(data) + CHUNK

    def test_after_a_lost_connection_the_next_pull_downloads_only_the_rest(
        self, server: Hub, cache: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.cut_after[SHARD_1] = 150_000
        server.stay_down = True
        error = refusal()
        assert capsys.readouterr().err == ""
        assert error.what.startswith("the connection was lost during the download")
        assert error.fix == ("the received data is kept; resume with: mlx-suite models pull lab/llama")
        (partial,) = cache.glob("*/blobs/*.incomplete")
        kept = partial.stat().st_size
        assert 150_000 - CHUNK <= kept <= 150_000
        assert [model.complete for model in hub.cached_models()] == [False]

        server.dead.clear()
        server.seen.clear()
        folder = pull(REPO, progress=False)
        data = server.repositories[REPO].files[SHARD_1]
        assert (folder / SHARD_1).read_bytes() == data
        assert [seen.range for seen in server.gets(SHARD_1) if seen.server == "cdn"] == [f"bytes={kept}-"]
        assert server.sent[SHARD_1] == 150_000 + len(data) - kept
        assert list(cache.glob("*/blobs/*.incomplete")) == []

    @pytest.mark.slow  # on a busy machine the killed process may not have written all that it received
    def test_a_killed_pull_resumes_where_it_stopped(self, server: Hub, cache: Path) -> None:
        server.stall_after[SHARD_1] = 150_000
        code = (
            "from huggingface_hub import constants\n"
            f"constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}\n"
            "from mlx_suite.hub.pull import pull\n"
            f"pull({REPO!r})\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], env=client_environment(server, cache))
        try:
            assert server.stalled.wait(PATIENCE)
            wait_until_kept(cache, 150_000 - CHUNK)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
        server.go_on.set()
        server.sent.clear()
        folder = pull(REPO, progress=False)
        data = server.repositories[REPO].files[SHARD_1]
        assert (folder / SHARD_1).read_bytes() == data
        asked = [seen.range for seen in server.gets(SHARD_1) if seen.server == "cdn"]
        first, second = asked
        assert first is None and second is not None
        assert int(second.removeprefix("bytes=").rstrip("-")) >= 150_000 - CHUNK

    def test_ctrl_c_ends_the_pull_at_once_and_keeps_the_partial_file(self, server: Hub, cache: Path) -> None:
        server.stall_after[SHARD_1] = 150_000
        server.interrupt_on_stall = True
        with pytest.raises(KeyboardInterrupt):
            try:
                pull(REPO, progress=False)
            except KeyboardInterrupt:
                server.go_on.set()
                raise
        server.interrupt_on_stall = False
        folder = pull(REPO, progress=False)
        assert (folder / SHARD_1).read_bytes() == server.repositories[REPO].files[SHARD_1]

    def test_a_corrupt_partial_file_is_detected_and_downloaded_again(self, server: Hub, cache: Path) -> None:
        data = server.repositories[REPO].files[SHARD_1]
        blobs = local_models.storage_folder(REPO) / "blobs"
        blobs.mkdir(parents=True)
        partial = blobs / f"{hashlib.sha256(data).hexdigest()}.incomplete"
        partial.write_bytes(b"x" * 1000)
        error = refusal()
        assert error.what == f"{SHARD_1} does not match its SHA-256 and was deleted"
        assert not partial.exists()
        assert (pull(REPO, progress=False) / SHARD_1).read_bytes() == data

    def test_without_range_support_a_file_is_downloaded_from_the_start(self, server: Hub) -> None:
        server.ignore_ranges = True
        server.cut_after[SHARD_1] = 150_000
        folder = pull(REPO, progress=False)
        assert (folder / SHARD_1).read_bytes() == server.repositories[REPO].files[SHARD_1]


class TestRefusals:
    def test_a_gated_model_is_reported_with_its_licence_page_and_how_to_log_in(self, server: Hub) -> None:
        server.repositories[REPO].gate = 401
        error = refusal()
        assert error.what == "the model is gated, and this machine is not logged in"
        assert error.where == REPO
        assert error.fix == (
            f"accept its licence on {server.url}/{REPO}, then log in with `hf auth login`, or set HF_TOKEN"
        )

    def test_a_gated_model_is_reported_if_the_account_lacks_access(self, server: Hub) -> None:
        server.repositories[REPO].gate = 403
        assert refusal().what == "the model is gated, and your account has no access to it"

    def test_a_missing_repository_is_reported_with_similar_cached_names(self, server: Hub) -> None:
        pull(REPO, progress=False)
        error = refusal("lab/lama")
        assert error.what.startswith("the hub has no such model")
        assert error.fix.startswith("did you mean lab/llama? Otherwise check the name on ")

    def test_a_missing_revision_is_reported(self, server: Hub) -> None:
        error = refusal(revision="v9")
        assert error.what == "the repository has no branch, tag or commit 'v9'"
        assert error.where == f"{REPO}@v9"

    @pytest.mark.parametrize(
        ("names", "what"),
        [
            (["pytorch_model.bin"], "only PyTorch pickles (.bin)"),
            (["m-q4.gguf", "m-q8.gguf"], "only llama.cpp files (.gguf)"),
            (["README.md"], "the repository has no safetensors weights"),
            (["adapter_config.json", "adapter_model.safetensors"], "an adapter, not a model"),
            (["model.safetensors"], "has weights but no config.json"),
        ],
    )
    def test_a_repository_without_loadable_weights_is_reported_with_its_files(
        self, names: list[str], what: str, server: Hub
    ) -> None:
        server.repositories[REPO] = Repository(dict.fromkeys(names, b"data"))
        error = refusal()
        assert error.what.endswith(what)
        assert server.sent.total() == 0

    def test_an_index_that_names_missing_files_is_rejected(self, server: Hub) -> None:
        files = checkpoint()
        del files[SHARD_2]
        server.repositories[REPO] = Repository(files)
        assert refusal().details == (SHARD_2,)

    @pytest.mark.parametrize(
        ("status", "headers", "what"),
        [
            (429, {}, "the hub is rate-limiting this machine (status 429)"),
            (503, {}, "the hub failed internally (status 503)"),
            (418, {}, "the hub answered with status 418"),
            (
                401,
                {"X-Error-Message": "Invalid credentials in Authorization header"},
                "the hub rejected this machine's access token (status 401)",
            ),
            (
                403,
                {"X-Error-Message": "Access to this resource is disabled."},
                "the hub has disabled this repository",
            ),
        ],
    )
    def test_each_error_status_of_the_hub_has_a_message(
        self, status: int, headers: dict[str, str], what: str, server: Hub
    ) -> None:
        server.status, server.error_headers = status, headers
        assert refusal().what == what

    def test_the_log_in_page_of_a_captive_portal_is_recognised(self, server: Hub) -> None:
        server.portal = True
        assert refusal().what == f"the answer from {server.url} is not a hub response"

    @pytest.mark.parametrize("name", ["llama", "a/b/c", "a/--b"])
    def test_an_invalid_repository_name_is_rejected(self, name: str, server: Hub) -> None:
        assert refusal(name).what == "not a valid hub repository name"


class TestWithoutNetwork:
    def test_without_network_pull_returns_the_cached_model_with_a_note(
        self,
        server: Hub,
        cache: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        folder = pull(REPO, progress=False)
        point_client_at(unused_address(), monkeypatch, cache)
        assert pull(REPO) == folder
        assert capsys.readouterr().err == ("The hub cannot be reached; using the cached copy of lab/llama.\n")

    def test_without_a_cached_copy_the_network_error_is_reported(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        point_client_at(unused_address(), monkeypatch, cache)
        error = refusal()
        assert error.what.startswith(
            "the hub cannot be reached, and the model is neither a folder here nor in the local cache ("
        )
        assert error.fix.endswith("then: mlx-suite models pull lab/llama")

    def test_a_failing_hub_does_not_block_a_cached_model(self, server: Hub) -> None:
        folder = pull(REPO, progress=False)
        server.status = 503
        assert pull(REPO, progress=False) == folder

    def test_offline_mode_returns_a_cached_model(self, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = pull(REPO, progress=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        server.seen.clear()
        assert pull(REPO, progress=False) == folder
        assert hub.resolve(REPO, progress=False) == folder
        assert server.seen == []

    def test_offline_mode_rejects_an_incomplete_model(self, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = pull(REPO, progress=False)
        (folder / SHARD_1).unlink()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        for repo in (REPO, "lab/other"):
            error = refusal(repo)
            assert error.what.startswith("the model is not completely in the local cache, and HF_HUB")
            assert error.where == repo


class TestDisk:
    def test_insufficient_disk_space_is_detected_before_the_download(
        self, server: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download, "_free_bytes", lambda folder: 5)
        error = refusal()
        assert error.what == "the disk is too full: 0.0 GB to fetch, 0.0 GB free"
        assert server.sent[SHARD_1] == 0

    def test_a_disk_that_fills_during_the_download_is_reported(
        self, server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: object, **kwargs: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(download, "http_get", full)
        error = refusal()
        assert error.what == "the disk is full; the received data is kept"
        assert error.where == str(cache)

    def test_an_unwritable_cache_is_reported(self, server: Hub, cache: Path) -> None:
        cache.parent.mkdir(parents=True)
        cache.write_text("a file where the folder should be")
        error = refusal()
        assert error.what.startswith("the model cache cannot be written")
        assert error.where == str(cache)


def wait_until_kept(cache: Path, size: int) -> None:
    """Wait until the first shard has `size` bytes on disk."""
    for _ in range(int(PATIENCE / 0.02)):
        if any(p.stat().st_size >= size for p in cache.glob("*/blobs/*.incomplete")):
            return
        time.sleep(0.02)
    raise AssertionError("the transfer did not reach the disk")


def unused_address() -> str:
    """A loopback address on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
