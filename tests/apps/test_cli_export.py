"""`mlx-suite fuse`, `quantize`, `export adapter` and `generate --adapter`."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from typer.testing import CliRunner, Result

from mlx_suite.adapters.attach import AdapterConfig, load_adapter, save_adapter
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.main import app
from tests.export.adapted import shake


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def refused(*arguments: str | Path) -> UserError:
    with pytest.raises(UserError) as caught:
        run(*arguments)
    return caught.value


@pytest.fixture(scope="module")
def adapted_run(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with random adapters for the random model, best and last."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    model = load_model(random_model)
    config = AdapterConfig(rank=2, alpha=2.0, modules=("q_proj", "down_proj"))
    add_adapters(model, config)
    shake(model, 0.3)
    save_adapter(folder / "best", model, config, base="random")
    shake(model, 0.1)
    save_adapter(folder / "last", model, config, base="random")
    return folder


def test_fuse_writes_a_model_and_reports_the_rounding_error(
    random_model: Path, adapted_run: Path, tmp_path: Path
) -> None:
    lines = run("fuse", random_model, adapted_run, "--out", tmp_path / "out").stdout.splitlines()
    assert lines[0] == "merged     4 layers, float32"
    assert lines[1].startswith("adapter    changes logits by ")
    assert lines[2].startswith("rounding   changes logits by ") and lines[2].endswith(": 0.00% of the adapter's effect")
    assert lines[3] == f"model      {tmp_path / 'out'}"
    assert run("generate", tmp_path / "out", "Why?", "--max-tokens", "5").exit_code == 0


def test_fuse_reports_the_same_as_json(random_model: Path, adapted_run: Path, tmp_path: Path) -> None:
    facts = json.loads(run("fuse", random_model, adapted_run / "last", "--out", tmp_path / "out", "--json").stdout)
    assert (facts["layers"], facts["packed"], facts["dtype"]) == (4, 0, "float32")
    assert facts["error"]["largest"] < 1e-3 < facts["effect"]["largest"]
    assert facts["lost"] < 1e-3


def test_a_fused_model_responds_like_the_model_with_its_adapter(
    random_model: Path, adapted_run: Path, tmp_path: Path
) -> None:
    run("fuse", random_model, adapted_run, "--out", tmp_path / "out")

    def responses(*model: str | Path) -> list[str]:
        flags = ["Why?", "--max-tokens", "30", "--temperature", "1"]
        return [run("generate", *model, *flags, "--seed", str(seed)).stdout for seed in range(5)]

    adapted = responses(random_model, "--adapter", adapted_run)
    assert adapted == responses(tmp_path / "out")
    assert adapted != responses(random_model)


def test_quantize_reports_sizes_and_what_was_lost(random_model: Path, tmp_path: Path) -> None:
    result = run("quantize", random_model, "--out", tmp_path / "out", "--bits", "8", "--group-size", "32")
    lines = result.stdout.splitlines()
    # 8 bits, plus 32-bit scales and biases for groups of 32: 10 bits, plus the norms.
    assert lines[0].startswith("quantized  16 layers, 10.")
    assert " before, " in lines[1] and lines[1].endswith("(32%)")
    assert lines[2].startswith("perplexity ") and lines[2].endswith("tokens the model wrote as it continued 12 prompts")
    assert lines[4].startswith("verdict    nothing lost: the perplexity ")
    assert lines[6] == f"model      {tmp_path / 'out'}"
    assert run("generate", tmp_path / "out", "Why?", "--max-tokens", "5").exit_code == 0


def test_quantize_prints_only_json_with_the_flag(random_model: Path, tmp_path: Path) -> None:
    result = run("quantize", random_model, "--out", tmp_path / "out", "--bits", "4", "--group-size", "32", "--json")
    facts = json.loads(result.stdout)
    assert facts["packed"] == 16
    assert facts["bytes_after"] < facts["bytes_before"] / 4
    assert facts["left"] == facts["high"] == []
    assert facts["rise"] == pytest.approx(facts["loss"]["after"] / facts["loss"]["before"] - 1)


def test_quantize_checks_its_flags_before_the_model(tmp_path: Path) -> None:
    error = refused("quantize", "no-such-model", "--out", tmp_path / "out", "--bits", "7")
    assert error.details == ("--bits is 7: expected one of 2, 3, 4, 5, 6, 8",)


def test_an_adapter_is_converted_to_peft_and_back(random_model: Path, adapted_run: Path, tmp_path: Path) -> None:
    lines = run("export", "adapter", adapted_run, "--to", "peft", "--out", tmp_path / "peft").stdout.splitlines()
    assert lines == [
        "adapter    lora of rank 2 on 4 layers",
        "layout     PEFT",
        f"folder     {tmp_path / 'peft'}",
    ]
    assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()
    arguments = ["--to", "mlx", "--out", tmp_path / "mlx", "--model", random_model, "--json"]
    facts = json.loads(run("export", "adapter", tmp_path / "peft", *arguments).stdout)
    assert (facts["layout"], facts["layers"], facts["rank"], facts["base"]) == ("mlx", 4, 2, "random")
    settings = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert sorted(settings["lora_parameters"]["keys"]) == ["mlp.down_proj", "self_attn.q_proj"]
    first, again = load_adapter(adapted_run), load_adapter(tmp_path / "mlx")
    assert first.arrays.keys() == again.arrays.keys()
    assert all(mx.array_equal(first.arrays[name], again.arrays[name]).item() for name in first.arrays)


def test_generate_accepts_a_peft_adapter(random_model: Path, adapted_run: Path, tmp_path: Path) -> None:
    run("export", "adapter", adapted_run, "--out", tmp_path / "peft")
    flags = ["generate", random_model, "Why?", "--max-tokens", "20", "--temperature", "1", "--seed", "3", "--json"]
    one, other = (json.loads(run(*flags, "--adapter", each).stdout) for each in (tmp_path / "peft", adapted_run))
    assert one["text"] == other["text"]
    assert (one["adapter"], json.loads(run(*flags).stdout)["adapter"]) == (str(tmp_path / "peft"), None)


def test_an_adapter_of_another_model_is_refused(adapted_run: Path, tmp_path: Path) -> None:
    error = refused("generate", "tiny-llama3", "Why?", "--adapter", adapted_run)
    assert error.what == "The adapter does not fit this model"
    assert error.where == str(adapted_run)
    assert "model.layers.0.mlp.down_proj.lora_a is (64, 2), not " in " ".join(error.details)


def test_a_full_finetuning_run_is_used_as_a_model(random_model: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "full"
    config = json.loads((random_model / "config.json").read_text())
    save_model(run_folder / "best", load_model(random_model), config, tokenizer_from=random_model)
    facts = json.loads(run("generate", run_folder, "Why?", "--max-tokens", "5", "--json").stdout)
    assert facts["model"] == "full"
    error = refused("generate", random_model, "Why?", "--adapter", run_folder)
    assert error.fix == f"use {run_folder / 'best'} as the model, without --adapter"


def test_an_adapter_run_is_refused_as_a_model(adapted_run: Path) -> None:
    error = refused("generate", adapted_run, "Why?")
    assert error.what == "This folder contains an adapter, which needs its base model"
    assert error.fix == f"give the base model, with --adapter {adapted_run}"


def test_a_folder_with_other_files_is_not_overwritten(random_model: Path, adapted_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    assert "would be lost" in refused("fuse", random_model, adapted_run, "--out", tmp_path / "out").what
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years"
    assert "would be lost" in refused("export", "adapter", adapted_run, "--out", tmp_path / "out").what


def test_models_and_adapters_do_not_overwrite_each_other(random_model: Path, adapted_run: Path, tmp_path: Path) -> None:
    error = refused("fuse", random_model, adapted_run, "--out", adapted_run / "last")
    assert error.what.endswith("and would be lost: adapter_config.json")
    error = refused("export", "adapter", adapted_run, "--out", random_model)
    assert "config.json, model.safetensors" in error.what
    shutil.copytree(adapted_run / "last", tmp_path / "copy")
    run("export", "adapter", adapted_run / "best", "--to", "peft", "--out", tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
