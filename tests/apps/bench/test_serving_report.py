"""A row per measure, our ratio to the best other server, and a note for everything that went wrong."""

from mlx_suite_apps.bench.serving import Load, Measured
from mlx_suite_apps.bench.serving_report import notes, rows

LOAD = Load(clients=(1, 8), tokens=10)


def measured(name: str, turn: float, speed: float) -> Measured:
    return Measured(
        name=name,
        first_tokens={1: [turn], 5: [2 * turn]},
        pauses=[turn],
        arriving=[turn],
        speeds={1: [speed], 8: [4 * speed]},
        written={1: [10], 8: [80]},
    )


def test_the_ratio_is_ours_over_the_best_other_the_lowest_time_or_the_highest_rate() -> None:
    results = [measured("mlx-suite", 0.1, 60.0), measured("mlx-lm", 0.4, 50.0), measured("vllm-mlx", 0.5, 80.0)]
    found = {row.measure.title: row for row in rows(results, LOAD)}
    assert list(found) == [
        "first token, turn 1",
        "first token, turn 5",
        "longest pause",
        "its first token",
        "tok/s, 1 client",
        "tok/s, 8 clients",
    ]
    assert found["first token, turn 5"].values == (0.2, 0.8, 1.0)
    assert found["first token, turn 5"].ratio == 0.25
    assert found["first token, turn 5"].reached is True
    assert found["tok/s, 8 clients"].values == (240.0, 200.0, 320.0)
    assert found["tok/s, 8 clients"].ratio == 0.75
    assert found["tok/s, 8 clients"].reached is False
    assert found["first token, turn 1"].reached is None


def test_a_server_that_failed_a_stage_has_no_figure_there_and_is_not_the_best() -> None:
    failing = measured("mlx-lm", 0.1, 999.0)
    failing.failures["8 clients"] = ["HTTP 500"] * 8
    results = [measured("mlx-suite", 0.1, 60.0), failing, measured("vllm-mlx", 0.1, 30.0)]
    found = {row.measure.title: row for row in rows(results, LOAD)}
    assert found["tok/s, 8 clients"].values == (240.0, None, 120.0)
    assert found["tok/s, 8 clients"].ratio == 2.0
    assert found["tok/s, 1 client"].values == (60.0, 999.0, 30.0)


def test_without_ours_or_without_another_there_is_no_ratio() -> None:
    alone, theirs = measured("mlx-suite", 0.1, 60.0), measured("mlx-lm", 0.1, 60.0)
    assert {row.ratio for row in rows([alone], LOAD)} == {None}
    assert {row.ratio for row in rows([theirs, measured("vllm-mlx", 0.1, 1.0)], LOAD)} == {None}
    theirs.down = "no such model"
    assert {row.ratio for row in rows([alone, theirs], LOAD)} == {None}


def test_failures_retries_short_texts_and_absent_servers_are_noted() -> None:
    failing = measured("mlx-lm", 0.1, 50.0)
    failing.requests = {"8 clients": 8, "1 client": 3}
    failing.failures = {"8 clients": ["HTTP 500"] * 6 + ["no answer in 60 s"]}
    failing.retries = {"1 client": 2}
    failing.written = {1: [10, 7]}
    absent = Measured(name="vllm-mlx", down="No module named 'mlx'")
    assert notes([failing, absent], LOAD) == [
        "mlx-lm, 8 clients: 7 of 8 requests failed (HTTP 500), and were not repeated",
        "mlx-lm, 1 client: 2 of 3 connections closed and tried again",
        "mlx-lm, 1 client: 7 of 10 tokens written",
        "vllm-mlx did not start: No module named 'mlx'",
    ]


def test_a_machine_that_was_busy_before_is_noted() -> None:
    assert notes([], LOAD, busy=1.0, cores=2) == []
    assert notes([], LOAD, busy=9.04, cores=2) == [
        "other programs kept the machine busy (load 9.0 on 2 cores): repeat it when it is idle"
    ]
