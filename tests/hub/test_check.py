"""Judging a model from headers: on the hub before a download, in a folder, in a file and in a store."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mlx_suite.checkpoints.other_formats import UNREAD
from mlx_suite.hub import check, local_models, repository_headers
from mlx_suite.hub.check import ModelCheck, check_model
from mlx_suite.hub.repository_headers import RepositoryHeaders
from mlx_suite.runtime.errors import UserError
from tests.hub.server import REPO, SHARD_1, Hub, Repository, checkpoint, point_client_at
from tests.hub.stores import OllamaStore, write_gguf


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that reads 10 GB/s and has no models of its own."""
    monkeypatch.setattr(check, "gemv_bandwidth", lambda kind, memory: 10.0)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setattr(local_models, "shipped_roots", lambda: [])


def refusal(name: str) -> UserError:
    with pytest.raises(UserError) as caught:
        check_model(name)
    return caught.value


def folder_of(files: dict[str, bytes], path: Path) -> str:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return str(path)


def with_config(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    config = json.loads(files["config.json"]) | changes
    return files | {"config.json": json.dumps(config).encode()}


class TestOnTheHub:
    def test_a_repository_is_judged_as_its_download_would_be(self, server: Hub, cache: Path, tmp_path: Path) -> None:
        card = {"license": "apache-2.0", "base_model": ["lab/base"]}
        server.repositories[REPO] = Repository(checkpoint(), card=card)
        remote = check_model(REPO)
        local = check_model(folder_of(checkpoint(), tmp_path / "copy"))
        assert (remote.source, remote.license, remote.base_model) == ("hub", "apache-2.0", "lab/base")
        assert remote.download_bytes == remote.description.size_bytes == local.description.size_bytes
        assert (remote.runs_in, remote.problems, remote.fits) == ("mlx-suite", (), True)
        assert remote.description.parameters == local.description.parameters == 153_600
        assert (remote.weight_bytes, remote.cache_bytes) == (local.weight_bytes, local.cache_bytes)
        assert not cache.exists()

    def test_the_memory_is_that_of_this_machine(self, server: Hub) -> None:
        judged = check_model(REPO)
        assert judged.weight_bytes == 153_600 * 4
        assert (judged.context, judged.cache_bytes) == (512, 512 * 2 * 2 * 2 * 16 * 4)
        assert judged.tokens_per_second == pytest.approx(10e9 / (153_600 * 4))

    def test_only_the_beginning_of_a_weight_file_is_fetched(self, server: Hub) -> None:
        files = checkpoint(shards=2, rows=8192)  # two mebibytes each
        server.repositories[REPO] = Repository(files)
        assert check_model(REPO).description.parameters == 2 * 8192 * 64
        assert server.sent[SHARD_1] == 2**20
        assert [seen.range for seen in server.gets(SHARD_1) if seen.server == "cdn"] == ["bytes=0-1048575"]

    def test_a_header_longer_than_the_first_request_is_fetched_in_growing_steps(
        self, server: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(repository_headers, "FIRST_BYTES", 64)
        names = {f"model.layer_with_a_long_name.{number}": np.zeros(4096, np.float32) for number in range(8)}
        files = checkpoint(shards=1) | {"model.safetensors": safetensors.numpy.save(names)}
        server.repositories[REPO] = Repository(files)
        assert check_model(REPO).description.parameters == 8 * 4096
        ranges = [seen.range for seen in server.gets("model.safetensors") if seen.server == "cdn"]
        assert ranges[0] == "bytes=0-63"
        assert len(ranges) == 2
        assert server.sent["model.safetensors"] < 2000

    def test_a_server_that_ignores_ranges_is_read_no_further_than_needed(self, server: Hub) -> None:
        server.ignore_ranges = True
        assert check_model(REPO).description.parameters == 153_600

    def test_a_revision_is_judged_at_its_commit(self, server: Hub) -> None:
        assert check_model(f"{REPO}@v1").download_bytes == sum(map(len, checkpoint().values()))
        error = refusal(f"{REPO}@v9")
        assert error.what == "the repository has no branch, tag or commit 'v9'"

    def test_a_gguf_file_is_judged_from_its_header(self, server: Hub, tmp_path: Path) -> None:
        data = write_gguf(tmp_path / "tiny-Q8_0.gguf", kind="Q8_0").read_bytes()
        server.repositories["lab/tiny-GGUF"] = Repository({"tiny-Q8_0.gguf": data, "mmproj-tiny.gguf": b"GGUF"})
        judged = check_model("lab/tiny-GGUF")
        assert (judged.format, judged.source, judged.download_bytes) == ("GGUF", "hub", len(data))
        assert (judged.runs_in, judged.description.quantization) == ("mlx-suite", "Q8_0")
        assert judged.license == "apache-2.0"

    def test_the_header_of_a_gguf_file_is_fetched_in_requests_that_double(
        self, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(repository_headers, "FIRST_BYTES", 1000)
        data = write_gguf(tmp_path / "tiny.gguf").read_bytes()
        server.repositories["lab/tiny-GGUF"] = Repository({"tiny.gguf": data})
        assert check_model("lab/tiny-GGUF").description.layers == 2
        ranges = [seen.range for seen in server.gets("tiny.gguf") if seen.server == "cdn"]
        assert ranges == ["bytes=0-999", "bytes=1000-1999", "bytes=2000-3999"]
        assert server.sent["tiny.gguf"] == 4000 < len(data)

    def test_of_several_gguf_files_one_must_be_named(self, server: Hub, tmp_path: Path) -> None:
        data = write_gguf(tmp_path / "tiny.gguf").read_bytes()
        names = ("Q8/tiny-00001-of-00002.gguf", "Q8/tiny-00002-of-00002.gguf", "tiny-F32.gguf")
        server.repositories["lab/tiny"] = Repository(dict.fromkeys(names, data))
        error = refusal("lab/tiny")
        assert error.what == "the repository has 2 GGUF files"
        assert error.details == ("lab/tiny/Q8/tiny-00001-of-00002.gguf", "lab/tiny/tiny-F32.gguf")
        assert check_model("lab/tiny/tiny-F32.gguf").download_bytes == len(data)
        assert check_model("lab/tiny/Q8/tiny-00001-of-00002.gguf").download_bytes == 2 * len(data)
        assert refusal("lab/tiny/other.gguf").what == "the repository has no file 'other.gguf'"

    def test_a_cached_model_is_judged_without_a_request(self, server: Hub) -> None:
        local_models_before = check.resolve_with(REPO, pull, local_models.is_complete)
        server.seen.clear()
        judged = check_model(REPO)
        assert (judged.description.path, judged.download_bytes) == (local_models_before, 0)
        assert server.seen == []

    def test_a_missing_tokenizer_is_told_before_the_download(self, server: Hub) -> None:
        files = checkpoint()
        del files["tokenizer.json"]
        server.repositories[REPO] = Repository(files)
        judged = check_model(REPO)
        assert judged.problems == ("there is no tokenizer: neither tokenizer.json nor tokenizer.model",)
        assert judged.runs_in is None

    @pytest.mark.parametrize(
        ("files", "what"),
        [
            ({"adapter_config.json": b"{}"}, "the repository contains an adapter, not a model"),
            ({"README.md": b"words"}, "the repository has no safetensors weights"),
            ({"model.safetensors": b""}, "the repository has weights but no config.json"),
        ],
    )
    def test_what_is_no_model_is_refused(self, server: Hub, files: dict[str, bytes], what: str) -> None:
        server.repositories[REPO] = Repository(files)
        assert refusal(REPO).what == what

    def test_an_unknown_repository_is_answered_with_a_close_one(self, server: Hub, tmp_path: Path) -> None:
        write_gguf(tmp_path / "home" / ".lmstudio" / "models" / "lab" / "tiny-llama" / "x.gguf")
        error = refusal("lab/tiny-lama")
        assert error.what.startswith("the hub has no such model, or it is private")
        assert error.fix.startswith("did you mean lmstudio:lab/tiny-llama?")

    def test_a_gated_repository_says_where_to_accept_its_licence(self, server: Hub) -> None:
        server.repositories[REPO] = Repository(checkpoint(), gate=401)
        assert refusal(REPO).what == "the model is gated, and this machine is not logged in"

    def test_offline_only_local_models_can_be_judged(self, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(repository_headers.constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set" in refusal(REPO).what
        assert server.seen == []

    def test_a_hub_out_of_reach_is_told(self, server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        point_client_at(f"http://127.0.0.1:{port}", monkeypatch, cache)
        assert refusal(REPO).what.startswith("the hub cannot be reached")

    def test_a_torn_weight_file_on_the_hub_is_refused(self, server: Hub) -> None:
        files = checkpoint(shards=1)
        server.repositories[REPO] = Repository(files | {"model.safetensors": b"version https://git-lfs"})
        assert "is a git-lfs pointer" in refusal(REPO).details[0]


class TestOnThisMachine:
    def test_a_gguf_file_is_judged(self, tmp_path: Path) -> None:
        judged = check_model(str(write_gguf(tmp_path / "tiny.gguf", kind="Q4_0", license="mit")))
        assert (judged.format, judged.source, judged.license) == ("GGUF", "file", "mit")
        assert (judged.runs_in, judged.problems, judged.download_bytes) == ("mlx-suite", (), 0)
        assert judged.description.quantization == "Q4_0"
        assert judged.notes[-1].startswith("the file holds no chat template")

    def test_an_architecture_that_nobody_imports_is_described_and_refused(self, tmp_path: Path) -> None:
        judged = check_model(str(write_gguf(tmp_path / "tiny.gguf", architecture="mamba")))
        assert judged.problems == ("the architecture 'mamba' cannot be imported from GGUF",)
        assert (judged.description.layers, judged.description.context) == (2, 2048)
        assert (judged.runs_in, judged.weight_bytes, judged.tokens_per_second) == (None, None, None)

    def test_an_unknown_pre_tokenizer_is_named(self, tmp_path: Path) -> None:
        file = write_gguf(tmp_path / "tiny.gguf", tokenizer="gpt2", pre="nobodys")
        (problem,) = check_model(str(file)).problems
        assert "nobodys" in problem

    def test_a_file_without_a_tokenizer_does_not_run(self, tmp_path: Path) -> None:
        judged = check_model(str(write_gguf(tmp_path / "tiny.gguf", tokenizer=None)))
        assert judged.problems == ("the file has no tokenizer",)

    def test_a_type_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        judged = check_model(str(write_gguf(tmp_path / "tiny.gguf", kind="Q8_1")))
        assert judged.runs_in is None
        assert any("Q8_1" in problem for problem in judged.problems)

    def test_an_ollama_model_is_judged_by_its_name(self, tmp_path: Path) -> None:
        data = write_gguf(tmp_path / "tiny.gguf").read_bytes()
        layers = {"model": data, "template": b"{{ .Prompt }}", "license": b"MIT License"}
        OllamaStore(tmp_path / "ollama").add("registry.ollama.ai/library/tiny/latest", layers)
        judged = check_model("ollama:tiny")
        assert (judged.source, judged.license) == ("registry.ollama.ai/library/tiny:latest", "MIT License")
        assert judged.notes[-1] == "Ollama's own template is written for Go and is not used"

    def test_an_architecture_of_mlx_lm_runs_there(self, tmp_path: Path) -> None:
        folder = folder_of(with_config(checkpoint(shards=1), model_type="olmo2"), tmp_path / "m")
        assert check_model(folder).runs_in == "mlx-lm"

    def test_weights_packed_by_others_run_if_mlx_lm_reads_their_layout(self, tmp_path: Path) -> None:
        packing = {"quant_method": "awq", "bits": 4}
        weights = {"model.layers.0.mlp.up_proj.qweight": np.zeros((64, 8), np.int32)}
        files = checkpoint(shards=1) | {"model.safetensors": safetensors.numpy.save(weights)}
        judged = check_model(folder_of(with_config(files, quantization_config=packing), tmp_path / "m"))
        assert (judged.runs_in, judged.problems, judged.notes) == (None, (UNREAD.format("AWQ"),), ())

    @pytest.mark.parametrize(
        ("changes", "suffix", "name"),
        [
            ({"quantization_config": {"quant_method": "bitsandbytes"}}, "weight.absmax", "bitsandbytes"),
            ({}, "qweight", "GPTQ or AWQ"),
            ({}, "weight.absmax", "bitsandbytes"),
        ],
    )
    def test_a_format_that_is_not_read_does_not_run(
        self, changes: dict[str, object], suffix: str, name: str, tmp_path: Path
    ) -> None:
        weights = {f"model.layers.0.mlp.up_proj.{suffix}": np.zeros((64, 8), np.int32)}
        files = checkpoint(shards=1) | {"model.safetensors": safetensors.numpy.save(weights)}
        judged = check_model(folder_of(with_config(files, **changes), tmp_path / "m"))
        assert (judged.runs_in, judged.problems) == (None, (UNREAD.format(name),))

    def test_ids_beyond_the_embedding_and_a_broken_template_are_found(self, tmp_path: Path) -> None:
        files = checkpoint() | {"chat_template.jinja": b"{% if %}"}
        assert check_model(folder_of(files, tmp_path / "m")).notes[0].startswith("the chat template is not valid Jinja")
        judged = check_model(folder_of(with_config(files, vocab_size=3), tmp_path / "short"))
        assert judged.problems[:2] == (
            "the tokenizer has ids beyond the model's embedding of 3 rows",
            "stop token 3",
        )

    @pytest.mark.parametrize("card", [b"---\nlicense: [\n---\n", b"---\n- a\n---\n", b"\xff"])
    def test_a_model_card_that_cannot_be_read_says_nothing(self, card: bytes, tmp_path: Path) -> None:
        judged = check_model(folder_of(checkpoint() | {"README.md": card}, tmp_path / "m"))
        assert (judged.runs_in, judged.license, judged.base_model) == ("mlx-suite", None, None)

    def test_an_unknown_architecture_does_not_run(self, tmp_path: Path) -> None:
        folder = folder_of(with_config(checkpoint(shards=1), model_type="hyena"), tmp_path / "m")
        assert check_model(folder).problems == ("neither mlx-suite nor mlx-lm supports the architecture 'hyena'",)

    def test_an_untied_input_embedding_is_not_read_for_each_token(self, tmp_path: Path) -> None:
        weights = {
            "model.embed_tokens.weight": np.zeros((100, 64), np.float32),
            "lm_head.weight": np.zeros((100, 64), np.float32),
        }
        files = checkpoint(shards=1) | {"model.safetensors": safetensors.numpy.save(weights)}
        folder = folder_of(with_config(files, tie_word_embeddings=False), tmp_path / "m")
        assert check_model(folder).tokens_per_second == pytest.approx(10e9 / (100 * 64 * 4))

    def test_of_a_mixture_only_the_chosen_experts_are_read(self, tmp_path: Path) -> None:
        weights = {f"model.layers.0.mlp.experts.{n}.up_proj.weight": np.zeros((64, 64), np.float32) for n in range(8)}
        files = checkpoint(shards=1) | {"model.safetensors": safetensors.numpy.save(weights)}
        config = with_config(files, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2)
        assert check_model(folder_of(config, tmp_path / "m")).tokens_per_second == pytest.approx(
            10e9 / (2 * 64 * 64 * 4)
        )

    def test_the_context_is_the_users(self, tmp_path: Path) -> None:
        folder = folder_of(checkpoint(shards=1), tmp_path / "m")
        assert check_model(folder, 100).cache_bytes == 100 * 2 * 2 * 2 * 16 * 4
        assert check_model(folder, 1000).notes == ("its context is 512 tokens, fewer than 1,000",)

    def test_licence_and_base_model_come_from_the_model_card(self, tmp_path: Path) -> None:
        card = b"---\nlicense: other\nlicense_name: lab-licence\nbase_model: lab/base\n---\nWords\n"
        judged = check_model(folder_of(checkpoint(shards=1) | {"README.md": card}, tmp_path / "m"))
        assert (judged.license, judged.base_model) == ("lab-licence", "lab/base")

    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("words")
        assert refusal(str(tmp_path / "notes.txt")).what.startswith("this is a file, not a model folder")


def test_a_model_larger_than_memory_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: ModelCheck = check_model(folder_of(checkpoint(shards=1), tmp_path / "m"))
    assert judged.weight_bytes is not None
    object.__setattr__(judged, "memory_bytes", judged.weight_bytes)
    assert judged.fits is False


def pull(repo: str, revision: str | None) -> Path:
    from mlx_suite.hub.pull import pull as download

    return download(repo, revision, progress=False)


def test_the_temporary_copy_takes_the_files_size_and_no_disk(server: Hub) -> None:
    with repository_headers.repository_headers(REPO) as headers:
        assert isinstance(headers, RepositoryHeaders)
        copy = headers.path / SHARD_1
        assert copy.stat().st_size == headers.files[SHARD_1] == len(server.repositories[REPO].files[SHARD_1])
    assert not copy.exists()
