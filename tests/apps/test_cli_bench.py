"""`mlx-suite bench`: results of both libraries, as a table and as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mlx_suite.checkpoints.save import save_model
from mlx_suite_apps.bench.exponentials import Exponential
from mlx_suite_apps.cli.main import app
from tests.apps.failures import stderr_of_failure
from tests.modeling.tiny import tiny_model

QUICK = ["--tokens", "4", "--prompt", "6", "--repeats", "1"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", "generate", *map(str, arguments)], catch_exceptions=False)


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Stderr of a program that exits with 2 and prints nothing to stdout."""
    return stderr_of_failure(monkeypatch, capsys, "bench", "generate", *arguments)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 2 with a sliding window of 6 on two of three layers, and no tokenizer: the benchmark needs none."""
    folder = tmp_path_factory.mktemp("models") / "gemma"
    save_model(folder, tiny_model("gemma2"))
    return folder


def test_json_has_both_libraries_for_every_batch_size(random_model: Path) -> None:
    result = run(random_model, "--batch", "1,2", *QUICK, "--json")
    assert result.exit_code == 0
    [report] = json.loads(result.stdout)
    assert set(report) == {"model", "runs", "cache", "notes"}
    assert (report["model"], report["cache"], report["notes"]) == (str(random_model), None, [])
    assert [each["workload"] for each in report["runs"]] == [
        {"batch": batch, "prompt_tokens": 6, "tokens": 4, "repeats": 1} for batch in (1, 2)
    ]
    for each in report["runs"]:
        assert set(each) == {"workload", "ours", "theirs", "ratio"}
        for side in ("ours", "theirs"):
            assert set(each[side]) == {"tokens_per_second", "first_token", "peak_bytes"}
            assert all(value > 0 for value in each[side].values())
        speeds = [each[side]["tokens_per_second"] for side in ("ours", "theirs")]
        assert each["ratio"] == pytest.approx(speeds[0] / speeds[1], abs=1e-3)


def test_the_profile_has_a_column_for_every_batch_size(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_suite_apps.bench.step_profile.ROUNDS", 2)
    shown = run(random_model, "--batch", "1,2", *QUICK, "--profile").stdout
    title, heading, *rows = shown[shown.index("Milliseconds") :].splitlines()
    assert title.strip() == "Milliseconds of a decode step"
    assert heading.split() == ["rows", "1", "2"]
    parts = ["step", "products", "attention", "cache", "rope", "norms", "activation", "rest", "host", "python"]
    assert [row.split()[0] for row in rows[:10]] == parts


def test_cache_sizes_are_compared_for_a_model_with_a_sliding_window(gemma: Path) -> None:
    [report] = json.loads(run(gemma, "--batch", "1,2", *QUICK, "--json").stdout)
    cache: dict[str, Any] = report["cache"]
    # 256 bytes per token and layer: two ring buffers of 6 and a full cache of 256 tokens, against three full ones.
    assert cache == {
        "tokens": 12,
        "our_bytes": (6 + 256 + 6) * 256,
        "their_bytes": 3 * 256 * 256,
        "ratio": pytest.approx(268 / 768),
    }
    assert len(report["runs"]) == 2
    assert report["notes"] == ["mlx-lm cannot batch its own model of this family; its batching runs our model"]


def test_the_table_fits_60_columns_and_names_both_libraries(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gemma.parent)
    lines = run("./gemma", "--batch", "1", *QUICK).stdout.splitlines()
    assert max(map(len, lines[:4])) <= 60
    assert lines[0].strip() == "./gemma"
    assert lines[1].split() == ["batch", "library", "tok/s", "1st", "s", "MB", "ratio"]
    assert lines[2].split()[:2] == ["1", "mlx-suite"]
    assert lines[3].split()[0] == "mlx-lm"
    assert lines[3].endswith("x")
    flat = " ".join(" ".join(lines[4:]).split())
    assert flat.startswith("KV cache of one row at 12 tokens: 68,608 bytes, mlx-lm 196,608 (35%)")


@pytest.mark.parametrize("batch", ["0", "1,x", "", "1,,2", "-3", "2.5", "²"])
def test_a_batch_that_is_not_a_list_of_integers_is_refused(
    batch: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path
) -> None:
    assert fail(monkeypatch, capsys, random_model, "--batch", batch) == (
        f"error: --batch is {batch!r}, not a list of positive integers\nfix:   for example, --batch 1,8,32\n"
    )


def test_exponentials_print_a_table_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = [Exponential(name="tanh", ours=1.26, builtin=8.82), Exponential(name="softmax", ours=2.0, builtin=3.0)]
    monkeypatch.setattr("mlx_suite_apps.bench.exponentials.time_exponentials", lambda: timed)
    shown = CliRunner().invoke(app, ["bench", "exponentials"], catch_exceptions=False).stdout
    assert [line.split() for line in shown.splitlines()] == [
        ["function", "mlx-suite", "ns", "MLX", "ns", "ratio"],
        ["tanh", "1.3", "8.8", "7.0x"],
        ["softmax", "2.0", "3.0", "1.5x"],
    ]
    result = CliRunner().invoke(app, ["bench", "exponentials", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == [
        {"name": "tanh", "ours": 1.26, "builtin": 8.82, "ratio": 7.0},
        {"name": "softmax", "ours": 2.0, "builtin": 3.0, "ratio": 1.5},
    ]


def test_an_unknown_model_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(monkeypatch, capsys, "tiny-lama3", *QUICK).startswith("error: there is no model 'tiny-lama3'\n")


def test_a_model_that_only_mlx_lm_implements_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.qwen2 import Model, ModelArgs

    settings = {
        "model_type": "qwen2",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 30,
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    weights = dict(tree_flatten(Model(ModelArgs.from_dict(settings)).parameters()))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    assert fail(monkeypatch, capsys, tmp_path, "--batch", "1", *QUICK) == (
        "error: only mlx-lm implements this model, so there is nothing to compare\n"
        f"where: {tmp_path}\n"
        "fix:   use a Llama, Mistral, Gemma or Qwen 3 model\n"
    )


def test_the_chunked_loss_is_measured_frozen_and_trained_at_both_vocabularies() -> None:
    arguments = ["bench", "head", "--rows", "2", "--hidden", "4"]
    table = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert table.exit_code == 0 and "256,000" in table.stdout
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    measured = json.loads(result.stdout)
    assert [
        (shape["vocabulary"], shape["trained"], shape["teacher"]) for shape in (each["shape"] for each in measured)
    ] == [
        (vocabulary, trained, teacher)
        for vocabulary in (128256, 256000)
        for teacher in (False, True)
        for trained in (False, True)
    ]
    for each in measured:
        assert set(each) == {"shape", "ours", "plain", "ratio"}
        assert each["ours"]["loss_error"] < 1e-4
        assert all(value > 0 for side in ("ours", "plain") for value in each[side].values())
