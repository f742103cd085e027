"""The learning rate at the places that matter."""

import mlx.core as mx
import pytest

from mlx_suite.training.loop import TrainSettings, make_optimizer
from mlx_suite.training.schedule import SCHEDULES, Course, Schedule, cosine


def rate(schedule: Schedule, step: int) -> float:
    return float(schedule(mx.array(step)).item())


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.25),  # the first step already learns
        (1, 0.5),
        (3, 1.0),  # the end of the warm-up
        (4, 1.0),  # the peak, where the cosine begins
        (6, 0.868198),  # a quarter: 0.1 + 0.9 * (1 + cos 45°) / 2
        (8, 0.55),  # half-way: the middle of peak and floor
        (12, 0.1),  # the floor
        (500, 0.1),
    ],
)
def test_warm_up_peak_half_and_floor(step: int, expected: float) -> None:
    schedule = cosine(Course(peak=1.0, steps=12, warmup=4, floor=0.1))
    assert rate(schedule, step) == pytest.approx(expected, abs=1e-6)


def test_it_rises_to_the_peak_and_only_falls_from_there() -> None:
    schedule = cosine(Course(peak=3e-3, steps=50, warmup=10, floor=1e-4))
    rates = [rate(schedule, step) for step in range(60)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(3e-3)
    assert min(rates[10:]) == pytest.approx(1e-4)


def test_without_a_warm_up_it_begins_at_the_peak() -> None:
    assert rate(cosine(Course(peak=2.0, steps=10, warmup=0)), 0) == pytest.approx(2.0)


def test_a_warm_up_as_long_as_the_run_is_no_division_by_0() -> None:
    schedule = cosine(Course(peak=1.0, steps=5, warmup=5))
    assert [rate(schedule, step) for step in (0, 4, 5)] == pytest.approx([0.2, 1.0, 1.0])


def test_settings_lay_the_cosine_out_for_their_horizon() -> None:
    settings = TrainSettings(steps=6, horizon=10, warmup=2, learning_rate=1.0, floor=0.5)
    whole = TrainSettings(steps=10, warmup=2, learning_rate=1.0, floor=0.5)
    short = TrainSettings(steps=6, warmup=2, learning_rate=1.0, floor=0.5)

    def at_6(settings: TrainSettings) -> float:
        optimizer = make_optimizer(settings)
        optimizer.init({"weight": mx.zeros((1,))})
        for _ in range(7):
            optimizer.apply_gradients({"weight": mx.zeros((1,))}, {"weight": mx.zeros((1,))})
        return float(optimizer.learning_rate.item())

    assert at_6(settings) == at_6(whole) == pytest.approx(0.75)  # half-way
    assert at_6(short) == pytest.approx(0.5)  # the floor: a share of the peak


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", [1.0, 0.55, 0.1]),
        ("linear", [1.0, 0.55, 0.1]),
        ("constant", [1.0, 1.0, 1.0]),
        ("wsd", [1.0, 1.0, 0.1]),
    ],
)
def test_each_schedule_at_the_peak_the_middle_and_the_end(name: str, expected: list[float]) -> None:
    schedule = SCHEDULES[name](Course(peak=1.0, steps=24, warmup=4, floor=0.1))
    assert [rate(schedule, step) for step in (4, 14, 24)] == pytest.approx(expected)


def test_warm_up_stable_decay_falls_over_its_last_fifth() -> None:
    schedule = SCHEDULES["wsd"](Course(peak=1.0, steps=100, warmup=0))
    assert [rate(schedule, step) for step in (79, 80, 90, 100)] == pytest.approx([1.0, 1.0, 0.5, 0.0], abs=1e-6)
