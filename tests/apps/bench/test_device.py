"""The device script at tiny shapes: report, detection of wrong models, and time and memory budget."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from typer.testing import CliRunner

from mlx_suite.runtime.device import Device
from mlx_suite_apps.bench import device_correctness
from mlx_suite_apps.bench.__main__ import app
from mlx_suite_apps.bench.device import Budget
from mlx_suite_apps.bench.device_correctness import CHECKS, check_family
from mlx_suite_apps.bench.device_shapes import FAMILIES, in_fp32, random_model, tiny

GEMMA2 = tiny(FAMILIES["Gemma 2 9B, caps"])
GEMMA3 = tiny(FAMILIES["Gemma 3 4B, two RoPEs"])
MISTRAL = tiny(FAMILIES["Mistral 7B, window"])


@pytest.mark.slow
def test_a_tiny_run_writes_every_part_of_the_report(tmp_path: Path) -> None:
    out = tmp_path / "device.json"

    result = CliRunner().invoke(app, ["device", "--tiny", "--out", str(out)])

    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["passed"] and report["tiny"] and report["skipped"] == []
    assert {check["family"] for check in report["correctness"]} == set(FAMILIES)
    assert {(each["model"], each["weights"], each["rows"]) for each in report["generation"]} == {
        (model, weights, rows)
        for model in ("Llama 1B", "Llama 8B", "Gemma 2 9B", "Gemma 3 4B", "Qwen 3 8B")
        for weights in ("bf16", "4-bit")
        for rows in (1, 8)
    }
    assert [each["method"] for each in report["training"]] == ["QLoRA", "LoRA"]
    assert report["packed_attention"]["largest_difference"] < 0.02
    tables, _, path = result.stdout.partition("report ")
    assert all(len(line) <= 80 for line in tables.splitlines())
    assert str(out) in path


def test_checks_beyond_the_time_budget_are_listed_as_skipped(tmp_path: Path) -> None:
    out = tmp_path / "device.json"

    CliRunner().invoke(app, ["device", "--tiny", "--minutes", "0.01", "--out", str(out)])

    report = json.loads(out.read_text())
    assert any("a third of the time is used" in line for line in report["skipped"])


def test_a_model_larger_than_the_working_set_is_refused() -> None:
    device = Device(kind="metal", name="M1", memory_bytes=8 * 10**9, working_set_bytes=5 * 10**9, blas=None)

    assert Budget(9, device).refusal(1.0, 16 * 10**9) == "needs 16 GB, the working set is 5 GB"
    assert Budget(9, device).refusal(1.0, 10**9) is None


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (MISTRAL, {"sliding_window": 2000}),
        (GEMMA2, {"attn_logit_softcapping": 50.0}),
        (GEMMA2, {"final_logit_softcapping": 30.0}),
        (GEMMA2, {"query_pre_attn_scalar": 4}),
        (GEMMA3, {"rope_local_base_freq": 1000000.0}),
    ],
    ids=["window", "attention cap", "final cap", "scale", "local RoPE"],
)
def test_a_model_with_a_wrong_window_cap_scale_or_rope_fails(
    config: dict[str, object], change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        device_correctness, "random_model", lambda config, dtype, bits=None: random_model(config | change, dtype, bits)
    )

    checks = check_family("wrong", dict(config), bits=None)

    assert [check.what for check in checks] == list(CHECKS)
    assert not any(check.passed for check in checks[:2])


def test_the_fp32_reference_of_a_quantized_model_has_the_same_weights() -> None:
    model = random_model(GEMMA2, mx.float32, bits=4)
    tokens = mx.array([[1, 2, 3, 4]])

    difference = mx.abs(model(tokens) - in_fp32(model, GEMMA2)(tokens)).max()

    assert difference.item() < 1e-3
