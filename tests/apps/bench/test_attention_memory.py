"""Both sides of attention in training are measured and agree. Speed is not tested."""

import json

import pytest
from typer.testing import CliRunner

from mlx_suite_apps.bench.attention_memory import RowShape, measure_attention
from mlx_suite_apps.cli.main import app


def test_documents_halve_what_is_left_of_a_row() -> None:
    assert RowShape(positions=2048, documents=4).lengths == [1024, 512, 256, 256]
    assert RowShape(positions=10, documents=1).lengths == [10]
    assert RowShape(positions=3, documents=3).lengths == [1, 1, 1]


@pytest.mark.parametrize(("cap", "window"), [(None, None), (50.0, None), (50.0, 64)])
def test_blocks_take_less_memory_than_all_pairs_for_the_same_gradients(cap: float | None, window: int | None) -> None:
    measured = measure_attention(RowShape(positions=1024, documents=3, cap=cap, window=window), rounds=1)
    assert measured.memory_ratio < 0.35
    assert measured.loss_difference < 1e-5
    assert measured.gradient_difference < 1e-5
    assert measured.blocks.milliseconds > 0 and measured.time_ratio > 0


def test_the_command_prints_both_sides_of_every_layer() -> None:
    arguments = ["bench", "attention", "--lengths", "160", "--repeats", "1"]
    lines = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    assert [line.partition("blocks")[0].split() for line in lines[1::2]] == [
        ["160", "Llama", "3"],
        ["160", "Gemma", "2"],
        ["160", "Gemma", "2", "local"],
    ]
    assert [line.split()[:2] for line in lines[2::2]] == [["all", "pairs"]] * 3
    assert max(map(len, lines)) <= 80


def test_json_has_the_shapes_and_the_ratios() -> None:
    arguments = ["bench", "attention", "--lengths", "160", "--documents", "2", "--repeats", "1", "--json"]
    report = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert [each["shape"] for each in report] == [
        {"positions": 160, "documents": 2, "cap": cap, "window": window}
        for cap, window in ((None, None), (50.0, None), (50.0, 20))
    ]
    for each in report:
        assert each["memory_ratio"] == pytest.approx(
            each["blocks"]["peak_bytes"] / each["pairs"]["peak_bytes"], abs=1e-4
        )


def test_lengths_that_are_no_numbers_are_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "attention", "--lengths", "2k"])
    assert str(getattr(result.exception, "what", "")) == "--lengths is '2k', not a list of positive integers"
