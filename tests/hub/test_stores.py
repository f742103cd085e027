"""Models that Ollama and LM Studio downloaded: found by name, and refused where something is missing."""

import json
from pathlib import Path

import pytest

from mlx_suite.hub import imported_models, local_models, ollama_store
from mlx_suite.hub import resolve as hub
from mlx_suite.hub.stored_model import licence_title
from mlx_suite.hub.stores import find_in_store, stored_models, verify_blob
from mlx_suite.runtime.errors import UserError
from tests.hub.stores import APACHE, OllamaStore, write_gguf

TINY = "registry.ollama.ai/library/tiny/latest"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setattr(ollama_store, "SERVICE_FOLDER", tmp_path / "service")
    monkeypatch.setattr(local_models, "shipped_roots", lambda: [])
    return tmp_path / "home"


@pytest.fixture
def ollama(home: Path) -> OllamaStore:
    return OllamaStore(home / ".ollama" / "models")


@pytest.fixture
def lmstudio(home: Path) -> Path:
    return home / ".lmstudio" / "models"


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "tiny.gguf").read_bytes()


def refusal(name: str) -> UserError:
    with pytest.raises(UserError) as caught:
        find_in_store(name)
    return caught.value


def layers(weights: bytes) -> dict[str, bytes]:
    return {
        "model": weights,
        "template": b"{{ .Prompt }}",
        "system": b"Be brief.",
        "license": APACHE.encode(),
        "params": b'{"stop": ["<end>"]}',
    }


class TestOllama:
    def test_a_model_is_found_by_its_short_name(self, ollama: OllamaStore, weights: bytes) -> None:
        ollama.add(TINY, layers(weights))
        model = find_in_store("ollama:tiny")
        assert model is not None
        assert model.file.read_bytes() == weights
        assert (model.name, model.source) == ("ollama:tiny:latest", "registry.ollama.ai/library/tiny:latest")
        assert (model.model_type, model.quantization, model.license) == ("llama", "Q8_0", "Apache License 2.0")
        assert (model.template, model.system) == ("{{ .Prompt }}", "Be brief.")
        assert model.size_bytes == sum(len(data) for data in layers(weights).values())

    @pytest.mark.parametrize(
        ("manifest", "name"),
        [
            ("registry.ollama.ai/library/tiny/1b", "ollama:tiny:1b"),
            ("registry.ollama.ai/lab/tiny/latest", "ollama:lab/tiny"),
            ("hf.co/lab/Tiny-GGUF/Q4_K_M", "ollama:hf.co/lab/Tiny-GGUF:Q4_K_M"),
        ],
    )
    def test_namespaces_tags_and_registries_belong_to_the_name(
        self, ollama: OllamaStore, manifest: str, name: str
    ) -> None:
        ollama.add(manifest, {"model": b"GGUF"})
        model = find_in_store(name)
        assert model is not None
        assert model.file.read_bytes() == b"GGUF"
        assert [each.name.removesuffix(":latest") for each in stored_models()] == [name]

    def test_ollama_models_moves_the_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bytes
    ) -> None:
        OllamaStore(tmp_path / "elsewhere").add(TINY, {"model": weights})
        monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "elsewhere"))
        assert [model.name for model in stored_models()] == ["ollama:tiny:latest"]

    def test_the_store_of_the_linux_service_is_read_without_one_of_the_users_own(self, tmp_path: Path) -> None:
        OllamaStore(tmp_path / "service").add(TINY, {"model": b"GGUF"})
        assert [model.name for model in stored_models()] == ["ollama:tiny:latest"]

    def test_a_wrong_tag_is_answered_with_the_right_one(self, ollama: OllamaStore) -> None:
        ollama.add("registry.ollama.ai/library/gemma3/270m", {"model": b"GGUF"})
        error = refusal("ollama:gemma3:270b")
        assert error.what == "there is no model 'ollama:gemma3:270b'"
        assert error.fix == "did you mean ollama:gemma3:270m?"

    def test_an_unfinished_first_pull_is_mentioned(self, ollama: OllamaStore) -> None:
        (ollama.root / "blobs" / f"sha256-{'a' * 64}-partial").write_bytes(b"GG")
        assert refusal("ollama:tiny").details == (f"1 unfinished download in {ollama.root / 'blobs'}",)

    @pytest.mark.parametrize("name", ["ollama:", "ollama:../../etc:passwd", "ollama:a/b/c/d", "ollama:tiny:"])
    def test_other_names_are_rejected(self, ollama: OllamaStore, name: str) -> None:
        assert refusal(name).what == f"{name} is not the name of an Ollama model"

    def test_a_missing_blob_is_named_with_the_command_that_repairs_it(
        self, ollama: OllamaStore, weights: bytes
    ) -> None:
        ollama.add(TINY, {"model": weights})
        blob = ollama.blob(weights)
        blob.unlink()
        error = refusal("ollama:tiny")
        assert error.what == f"ollama:tiny:latest cannot be used: its model blob {blob.name[:19]}… is missing"
        assert error.fix == "ollama pull tiny:latest"

    def test_an_unfinished_blob_is_told_from_a_missing_one(self, ollama: OllamaStore, weights: bytes) -> None:
        ollama.add(TINY, {"model": weights})
        blob = ollama.blob(weights)
        blob.rename(blob.with_name(f"{blob.name}-partial"))
        assert "the download of its model blob" in refusal("ollama:tiny").what

    def test_a_blob_of_another_size_is_refused(self, ollama: OllamaStore) -> None:
        ollama.add(TINY, {"model": b"GGUF and more"})
        ollama.blob(b"GGUF and more").write_bytes(b"GGUF")
        assert "has 4 bytes, and the manifest says 13" in refusal("ollama:tiny").what

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('{"schemaVersion": 2, "lay', "its manifest or config is not JSON, perhaps half-written"),
            ("[]", "its manifest or config is not a JSON object"),
            ('{"config": {}, "layers": []}', "its manifest names no layers"),
            (
                '{"config": {"digest": "sha256:../x", "size": 1, "mediaType": ""}, "layers": []}',
                "its manifest names no layers",
            ),
        ],
    )
    def test_a_torn_manifest_is_listed_with_its_problem(self, ollama: OllamaStore, text: str, problem: str) -> None:
        ollama.add(TINY, {"model": b"GGUF"}).write_text(text)
        (model,) = stored_models()
        assert (model.name, model.problem) == ("ollama:tiny:latest", problem)

    def test_a_changed_blob_of_the_same_size_fails_verification(self, ollama: OllamaStore) -> None:
        blob = ollama.blob(b"GGUF one")
        verify_blob(blob)
        blob.write_bytes(b"GGUF two")
        with pytest.raises(UserError, match="does not have the SHA-256 in its name"):
            verify_blob(blob)

    def test_a_changed_blob_is_not_imported(
        self, ollama: OllamaStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(imported_models, "cache_folder", lambda: tmp_path / "cache")
        ollama.add(TINY, {"model": b"GGUF one"})
        ollama.blob(b"GGUF one").write_bytes(b"GGUF two")
        with pytest.raises(UserError, match="does not have the SHA-256 in its name"):
            hub.resolve("ollama:tiny", progress=False)

    def test_a_file_with_another_name_has_no_digest_to_verify(self, tmp_path: Path) -> None:
        (tmp_path / "model.gguf").write_bytes(b"anything")
        verify_blob(tmp_path / "model.gguf")

    @pytest.mark.parametrize(
        ("layers", "config", "problem"),
        [
            ({"model": b"a", "adapter": b"b"}, {}, "it is a base model with an adapter in GGUF form"),
            ({"license": b"x"}, {"remote_host": "https://ollama.com"}, "it runs in Ollama's cloud"),
            ({"tensor": b"x"}, {"model_format": "safetensors"}, "Ollama stores it tensor by tensor"),
        ],
    )
    def test_models_that_are_not_one_gguf_file_say_what_they_are(
        self, ollama: OllamaStore, layers: dict[str, bytes], config: dict[str, object], problem: str
    ) -> None:
        ollama.add(TINY, layers, config or None)
        assert problem in refusal("ollama:tiny").what


class TestLmStudio:
    def test_the_only_file_of_a_repository_goes_by_the_repositorys_name(self, lmstudio: Path) -> None:
        file = write_gguf(lmstudio / "lab" / "Tiny-GGUF" / "tiny-Q4_K_M.gguf")
        model = find_in_store("lmstudio:lab/Tiny-GGUF")
        assert model is not None
        assert (model.file, model.size_bytes) == (file, file.stat().st_size)
        assert (model.model_type, model.quantization, model.license) == ("llama", "Q4_K_M", "apache-2.0")
        assert model.source == "huggingface.co/lab/Tiny-GGUF"

    def test_the_older_folder_is_read_too(self, home: Path) -> None:
        write_gguf(home / ".cache" / "lm-studio" / "models" / "lab" / "tiny" / "tiny.gguf")
        assert [model.name for model in stored_models()] == ["lmstudio:lab/tiny"]

    def test_of_several_files_one_must_be_named(self, lmstudio: Path) -> None:
        for type_name in ("Q4_K_M", "IQ3_XS"):
            write_gguf(lmstudio / "lab" / "tiny" / f"tiny-{type_name}.gguf")
        error = refusal("lmstudio:lab/tiny")
        assert error.what == "lmstudio:lab/tiny holds 2 models"
        assert error.details == ("lmstudio:lab/tiny/tiny-IQ3_XS", "lmstudio:lab/tiny/tiny-Q4_K_M")
        for name in ("tiny-IQ3_XS", "tiny-IQ3_XS.gguf", "TINY-iq3_xs"):
            model = find_in_store(f"lmstudio:lab/tiny/{name}")
            assert model is not None
            assert model.file.name == "tiny-IQ3_XS.gguf"

    def test_image_encoders_and_hidden_files_are_not_models(self, lmstudio: Path) -> None:
        folder = lmstudio / "lab" / "tiny"
        write_gguf(folder / "tiny-Q8_0.gguf")
        write_gguf(folder / "mmproj-tiny-f16.gguf")
        write_gguf(folder / "._tiny-Q8_0.gguf")
        assert [model.name for model in stored_models()] == ["lmstudio:lab/tiny"]

    def test_a_split_file_is_one_model(self, lmstudio: Path) -> None:
        folder = lmstudio / "lab" / "big"
        parts = [write_gguf(folder / f"big-Q8_0-0000{number}-of-00002.gguf") for number in (1, 2)]
        model = find_in_store("lmstudio:lab/big/big-Q8_0")
        assert model is not None
        assert (model.file, model.size_bytes) == (parts[0], 2 * parts[0].stat().st_size)

    def test_a_missing_part_is_told(self, lmstudio: Path) -> None:
        write_gguf(lmstudio / "lab" / "big" / "big-00001-of-00003.gguf")
        error = refusal("lmstudio:lab/big")
        assert error.what == "lmstudio:lab/big cannot be used: 2 of its 3 parts are missing"
        assert error.fix == "finish the download in LM Studio"

    def test_an_unfinished_download_is_told(self, lmstudio: Path) -> None:
        folder = lmstudio / "lab" / "tiny"
        folder.mkdir(parents=True)
        (folder / "downloading_tiny.gguf.part").write_bytes(b"GGUF")
        assert refusal("lmstudio:lab/tiny").what == (
            "lmstudio:lab/tiny cannot be used: the download of downloading_tiny.gguf.part is not finished"
        )

    def test_an_mlx_model_is_its_folder(self, lmstudio: Path) -> None:
        folder = lmstudio / "mlx-community" / "tiny-4bit"
        folder.mkdir(parents=True)
        config = {"model_type": "qwen3", "quantization": {"bits": 4, "group_size": 64}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(b"")
        model = find_in_store("lmstudio:mlx-community/tiny-4bit")
        assert model is not None
        assert (model.file, model.model_type) == (folder, "qwen3")
        assert model.quantization == "4 bits in groups of 64"
        assert hub.resolve("lmstudio:mlx-community/tiny-4bit") == folder

    def test_an_mlx_model_without_all_its_shards_is_refused(self, lmstudio: Path) -> None:
        folder = lmstudio / "mlx-community" / "tiny"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "qwen3"}')
        (folder / "model-00002-of-00002.safetensors.part").write_bytes(b"")
        assert refusal("lmstudio:mlx-community/tiny").what.endswith(
            "the download of model-00002-of-00002.safetensors.part is not finished"
        )

    def test_a_misspelt_name_is_answered_with_the_nearest(self, lmstudio: Path) -> None:
        write_gguf(lmstudio / "lab" / "tiny-llama" / "tiny.gguf")
        assert refusal("lmstudio:lab/tiny-lama").fix == "did you mean lmstudio:lab/tiny-llama?"

    @pytest.mark.parametrize("name", ["lmstudio:tiny", "lmstudio:../x/y", "lmstudio:a/b/c/d"])
    def test_other_names_are_rejected(self, name: str) -> None:
        assert refusal(name).what == f"{name} is not the name of a model of LM Studio"


def test_names_of_other_places_are_none_of_the_stores() -> None:
    assert find_in_store("tiny-llama3") is None
    assert find_in_store("owner/repo") is None
    assert stored_models() == []


def test_a_name_without_its_store_is_answered_with_it(lmstudio: Path, ollama: OllamaStore) -> None:
    write_gguf(lmstudio / "lab" / "gemma-3-270m" / "x.gguf")
    ollama.add("registry.ollama.ai/library/qwen3/0.6b", {"model": b"GGUF"})
    assert hub.similar_names("gemma-3-270") == ["lmstudio:lab/gemma-3-270m"]
    assert hub.similar_names("qwen3") == ["ollama:qwen3:0.6b"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (APACHE, "Apache License 2.0"),
        ("\nLLAMA 3.2 COMMUNITY LICENSE AGREEMENT\nLlama 3.2 Version", "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT"),
        ("# Gemma Terms of Use\n", "Gemma Terms of Use"),
        ("One very long sentence instead of the title of a licence", "One very long sentence instead of the t…"),
        ("  \n", None),
    ],
)
def test_a_licence_is_shown_by_its_title(text: str, title: str | None) -> None:
    assert licence_title(text) == title
