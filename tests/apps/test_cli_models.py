"""`mlx-suite models` on a terminal of 60 columns."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlx_suite.hub import check, local_models
from mlx_suite.hub import resolve as hub
from mlx_suite.hub.pull import pull
from mlx_suite.runtime.device import Device
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_chat_template
from mlx_suite_apps.cli.models import models_app
from tests.export.checkpoints import TINY_LLAMA3
from tests.gguf.files import write_file
from tests.hub.server import (
    PATIENCE,
    Hub,
    Repository,
    checkpoint,
    client_environment,
    running_hub,
)
from tests.hub.stores import OllamaStore

REPO = "lab/llama"
START = "from mlx_suite_apps.cli.main import main"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model, an empty cache, and two shipped models."""
    with running_hub(monkeypatch, tmp_path / "home" / "hub") as running:
        running.repositories[REPO] = Repository(checkpoint(), tags=("v1",))
        yield running


@pytest.fixture(autouse=True)
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    root = tmp_path / "shipped"
    for name, model_type in (("tiny-llama3", "llama"), ("tiny-gemma2", "gemma2")):
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text(json.dumps({"model_type": model_type}))
    monkeypatch.setattr(local_models, "shipped_roots", lambda: [root])
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "home" / ".ollama" / "models"))
    return root


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "60", "TERM": "dumb", "NO_COLOR": "1"}).invoke(
        models_app, list(map(str, arguments))
    )


def printed(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.stdout.split("\n"))


def test_list_shows_shipped_models_and_how_to_download_more(server: Hub) -> None:
    assert printed("list") == (
        "size  type    where    model\n"
        "24 B  gemma2  shipped  tiny-gemma2\n"
        "23 B  llama   shipped  tiny-llama3\n"
        "\n"
        "To download a model: mlx-suite models pull OWNER/REPO\n"
    )


def test_list_shows_cached_models_with_their_revision_and_never_truncates_a_name(server: Hub) -> None:
    long_name = "community/An-Instruction-Model-of-8B-Parameters-in-4bit"
    server.repositories[long_name] = server.repositories[REPO]
    pull(REPO, "v1", progress=False)
    pull(long_name, progress=False)
    assert printed("list") == (
        "  size  type    where    model\n"
        "  24 B  gemma2  shipped  tiny-gemma2\n"
        "  23 B  llama   shipped  tiny-llama3\n"
        f"615 KB  llama   cached   {long_name}\n"
        "615 KB  llama   cached   lab/llama@v1\n"
    )


def test_list_shows_other_programs_models_and_what_is_wrong_with_them(server: Hub, tmp_path: Path) -> None:
    store = OllamaStore(tmp_path / "home" / ".ollama" / "models")
    store.add("registry.ollama.ai/library/gemma3/270m", {"model": b"GGUF", "license": b"Gemma Terms of Use"})
    store.add("registry.ollama.ai/library/tiny/latest", {"model": b"GGUF 2"})
    blob = store.blob(b"GGUF 2")
    blob.unlink()
    assert printed("list").split("\n\n", 1)[1] == (
        "size  type   weights  licence             where             model\n"
        "22 B  llama  Q8_0     Gemma Terms of Use  ollama, ready     ollama:gemma3:270m\n"
        " 6 B  ?      ?        ?                   ollama, unusable  ollama:tiny:latest\n"
        "\n"
        f"ollama:tiny:latest: its model blob {blob.name[:19]}… is missing\n"
        "  fix: ollama pull tiny:latest\n"
        "\n"
        "To download a model: mlx-suite models pull OWNER/REPO\n"
    )
    stored = json.loads(printed("list", "--json"))["stored"]
    assert [model["problem"] is None for model in stored] == [True, False]


def test_list_marks_an_interrupted_pull_as_partial(server: Hub) -> None:
    server.cut_after["model-00001-of-00002.safetensors"] = 150_000
    server.stay_down = True
    with pytest.raises(UserError):
        pull(REPO, progress=False)
    lines = printed("list").splitlines()
    assert lines[3].endswith("llama   partial  lab/llama")
    assert lines[5] == "To complete a partial model: mlx-suite models pull OWNER/REPO"


def test_list_as_json_has_every_field(server: Hub, shipped: Path) -> None:
    folder = pull(REPO, progress=False)
    listed = json.loads(run("list", "--json").stdout)
    assert [model["name"] for model in listed["shipped"]] == ["tiny-gemma2", "tiny-llama3"]
    assert listed["cached"] == [
        {
            "repo": REPO,
            "revision": "main",
            "commit": folder.name,
            "path": str(folder),
            "size_bytes": 615_330,
            "model_type": "llama",
            "complete": True,
        }
    ]


def test_info_shows_shape_size_and_memory_needs(server: Hub) -> None:
    folder = pull(REPO, progress=False)
    assert printed("info", REPO) == (
        "model type     llama\n"
        "architecture   LlamaForCausalLM\n"
        "parameters     154 k (153,600)\n"
        "weights        float32\n"
        "size on disk   615 KB\n"
        "layers         2\n"
        "heads          4 (2 for keys and values)\n"
        "head dim       16\n"
        "hidden size    64\n"
        "vocabulary     1,200\n"
        "context        512 tokens\n"
        "KV cache       512 B per token\n"
        "chat template  yes\n"
        "stop tokens    <|end|> (3), 4\n"
        "\n"
        f"{folder}\n"
    )


def test_info_shows_the_kv_cache_past_a_sliding_window(tmp_path: Path) -> None:
    files = checkpoint(shards=1, rows=8)
    config = json.loads(files["config.json"]) | {"model_type": "mistral", "sliding_window": 4096}
    for name, data in (files | {"config.json": json.dumps(config).encode()}).items():
        (tmp_path / name).write_bytes(data)
    lines = printed("info", str(tmp_path)).splitlines()
    assert "window         4,096 tokens in 2 of 2 layers" in lines
    assert "KV cache       512 B per token, none past the window" in lines


def test_info_downloads_a_model_that_is_not_cached(server: Hub) -> None:
    described = json.loads(run("info", f"{REPO}@v1", "--json").stdout)
    assert described["parameters"] == 153_600
    assert described["stop_tokens"] == [{"id": 3, "text": "<|end|>"}, {"id": 4, "text": None}]
    assert Path(described["path"]).is_dir()


@pytest.fixture
def bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that reads 10 GB/s and has 8 GB for models."""
    monkeypatch.setattr(check, "gemv_bandwidth", lambda kind, memory: 10.0)
    cpu = Device(kind="cpu", name="a CPU", memory_bytes=8 * 10**9, working_set_bytes=8 * 10**9, blas=None)
    monkeypatch.setattr(check, "device", lambda: cpu)


def test_check_judges_a_model_of_the_hub_without_downloading_it(server: Hub, bandwidth: None, tmp_path: Path) -> None:
    server.repositories[REPO] = Repository(checkpoint(), card={"license": "mit"})
    assert printed("check", REPO).splitlines()[-8:] == [
        "chat template  yes",
        "stop tokens    3, 4",
        "licence        mit",
        "download       615 KB",
        "runs           yes, in mlx-suite",
        "memory         614 KB weights (float32) and 262 KB KV cache",
        "               for 512 tokens: fits into 8.00 GB",
        "speed          ≤ 16276 tokens/s at 10 GB/s",
    ]
    assert not (tmp_path / "home" / "hub").exists()


def test_check_says_why_a_model_does_not_run_and_ends_with_status_1(server: Hub, bandwidth: None) -> None:
    files = checkpoint()
    config = json.loads(files["config.json"]) | {"model_type": "hyena"}
    server.repositories[REPO] = Repository(files | {"config.json": json.dumps(config).encode()})
    result = run("check", REPO)
    assert result.exit_code == 1
    assert "runs           no: neither mlx-suite nor mlx-lm supports the" in result.stdout
    assert "speed" not in result.stdout


def test_check_as_json_has_every_field(server: Hub, bandwidth: None) -> None:
    judged = json.loads(printed("check", REPO, "--context", "100", "--json"))
    assert (judged["runs_in"], judged["fits"], judged["context"]) == ("mlx-suite", True, 100)
    assert judged["description"]["parameters"] == 153_600
    assert (judged["weight_bytes"], judged["cache_bytes"]) == (614_400, 51_200)


def test_pull_prints_the_folder_and_nothing_else(server: Hub) -> None:
    result = run("pull", REPO)
    assert result.exit_code == 0
    assert result.output == f"{local_models.find_snapshot(REPO)}\n"


@pytest.mark.parametrize(
    "arguments",
    [("lab/llama", "--revision", "v1"), ("lab/llama@v1",), ("lab/llama@v1", "--revision", "v1")],
)
def test_pull_accepts_the_revision_as_an_option_or_after_an_at_sign(arguments: tuple[str, ...], server: Hub) -> None:
    printed("pull", *arguments)
    assert [model.revision for model in hub.cached_models()] == ["v1"]


def test_pull_of_two_different_revisions_is_refused(server: Hub) -> None:
    error = run("pull", "lab/llama@v1", "--revision", "main").exception
    assert isinstance(error, UserError)
    assert error.what == "Two revisions are given: 'v1' and 'main'"
    assert server.seen == []


def test_pull_of_a_shipped_model_only_prints_its_folder(server: Hub, shipped: Path) -> None:
    assert printed("pull", "tiny-llama3") == f"{shipped / 'tiny-llama3'}\n"
    assert server.seen == []


def test_ctrl_c_ends_a_pull_on_a_dead_connection_and_says_how_to_resume(server: Hub, tmp_path: Path) -> None:
    server.stall_after["model-00001-of-00002.safetensors"] = 150_000
    process = subprocess.Popen(
        [sys.executable, "-c", f"{START}; main()", "models", "pull", REPO],
        env=client_environment(server, tmp_path / "home" / "hub"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stalled.wait(PATIENCE)
    time.sleep(0.2)  # until the client waits for bytes
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=PATIENCE / 2)
    assert output == ("", "Stopped. What was downloaded is kept; the same command resumes from there.\n")
    assert process.returncode == 130


def test_an_unknown_model_raises_an_error_with_a_suggestion(server: Hub) -> None:
    error = run("info", "tiny-lama3").exception
    assert isinstance(error, UserError)
    assert "tiny-llama3" in error.fix


@pytest.mark.parametrize("command", ["list", "info", "check", "pull"])
def test_the_help_of_every_command_ends_with_an_example(command: str) -> None:
    assert f"Examples mlx-suite models {command}" in " ".join(printed(command, "--help").split())


def test_without_a_command_the_commands_are_listed() -> None:
    result = run()
    assert result.exit_code == 2
    for command in ("list", "info", "check", "pull"):
        assert command in result.output


class TestImport:
    def test_a_gguf_file_becomes_a_folder_and_is_described(self, tmp_path: Path) -> None:
        file = write_file(
            tmp_path / "tiny.gguf", type="Q8_0", metadata={"general.name": "Tiny", "general.license": "mit"}
        )
        result = run("import", file, "--out", tmp_path / "tiny", "--dense", "-q")
        assert result.stdout.splitlines() == [
            "model      Tiny, llama, 1,247,488 parameters",
            "types      Q8_0 100%, F32 0%",
            "weights    bfloat16, dense: 1.33 MB read, 2.49 MB written",
            "licence    mit",
            "note       The file has no chat template: `mlx-suite models import --chat-template` takes one of the "
            "model's family, such as tiny-gemma2's for Gemma.",
            f"folder     {tmp_path / 'tiny'}",
        ]
        assert "Q8_0" not in run("info", tmp_path / "tiny").stdout

    @pytest.mark.parametrize("given", [TINY_LLAMA3, TINY_LLAMA3 / "chat_template.jinja"])
    def test_a_chat_template_is_taken_from_a_file_or_a_model(self, given: Path, tmp_path: Path) -> None:
        file = write_file(tmp_path / "tiny.gguf", type="F16")
        result = run("import", file, "--out", tmp_path / "tiny", "--chat-template", given, "-q")
        assert "no chat template" not in result.stdout
        assert load_chat_template(tmp_path / "tiny").source == (TINY_LLAMA3 / "chat_template.jinja").read_text()

    def test_packed_as_json(self, tmp_path: Path) -> None:
        file = write_file(tmp_path / "tiny.gguf", type="Q8_0")
        facts = json.loads(run("import", file, "--out", tmp_path / "tiny", "--packed", "--json").stdout)
        assert (facts["model_type"], facts["packed"], facts["dtype"]) == ("llama", 15, "float16")
        assert facts["types"] == {"Q8_0": 1_246_208, "F32": 1_280}
        assert "8 bits in groups of 32, float16" in run("info", tmp_path / "tiny").stdout

    @pytest.mark.parametrize(
        ("name", "what"), [("", "this is a folder, not a GGUF file"), ("x", "there is no such file")]
    )
    def test_what_is_no_file_is_refused(self, name: str, what: str, tmp_path: Path) -> None:
        error = run("import", tmp_path / name, "--out", tmp_path / "out").exception
        assert isinstance(error, UserError) and error.what == what

    def test_a_store_without_the_model_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OLLAMA_MODELS", str(OllamaStore(tmp_path / "ollama").root))
        error = run("import", "ollama:tiny", "--out", tmp_path / "out").exception
        assert isinstance(error, UserError) and error.what == "there is no model 'ollama:tiny'"
