"""Learning-rate schedules at their key steps."""

import mlx.core as mx
import pytest

from mlx_suite.training.loop import TrainSettings, make_optimizer
from mlx_suite.training.optimizers import SCHEDULES, Schedule, ScheduleConfig, cosine, warmup_stable_decay


def rate(schedule: Schedule, step: int) -> float:
    return float(schedule(mx.array(step)).item())


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.25),  # the first step has a nonzero rate
        (1, 0.5),
        (3, 1.0),  # end of the warmup
        (4, 1.0),  # the cosine starts at the peak
        (6, 0.868198),  # a quarter: 0.1 + 0.9 * (1 + cos 45°) / 2
        (8, 0.55),  # half: the mean of peak and floor
        (12, 0.1),  # the floor
        (500, 0.1),
    ],
)
def test_warmup_peak_midpoint_and_floor(step: int, expected: float) -> None:
    schedule = cosine(ScheduleConfig(peak=1.0, steps=12, warmup=4, floor=0.1))
    assert rate(schedule, step) == pytest.approx(expected, abs=1e-6)


def test_the_rate_increases_to_the_peak_and_only_decreases_after_it() -> None:
    schedule = cosine(ScheduleConfig(peak=3e-3, steps=50, warmup=10, floor=1e-4))
    rates = [rate(schedule, step) for step in range(60)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(3e-3)
    assert min(rates[10:]) == pytest.approx(1e-4)


def test_without_warmup_the_rate_starts_at_the_peak() -> None:
    assert rate(cosine(ScheduleConfig(peak=2.0, steps=10, warmup=0)), 0) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("decay", "rates"),
    [(0.2, [1.0, 1.0, 1.0, 0.5, 0.0]), (0.5, [1.0, 1.0, 0.8, 0.2, 0.0]), (1.0, [1.0, 0.5, 0.4, 0.1, 0.0])],
)
def test_wsd_stays_at_the_peak_until_its_decay(decay: float, rates: list[float]) -> None:
    schedule = warmup_stable_decay(ScheduleConfig(peak=1.0, steps=12, warmup=2, decay=decay))
    assert [rate(schedule, step) for step in (2, 7, 8, 11, 12)] == pytest.approx(rates, abs=1e-6)


def test_a_warmup_as_long_as_the_run_does_not_divide_by_zero() -> None:
    schedule = cosine(ScheduleConfig(peak=1.0, steps=5, warmup=5))
    assert [rate(schedule, step) for step in (0, 4, 5)] == pytest.approx([0.2, 1.0, 1.0])


def test_the_schedule_of_settings_spans_their_horizon() -> None:
    settings = TrainSettings(steps=6, horizon=10, warmup=2, learning_rate=1.0, floor=0.5)
    whole = TrainSettings(steps=10, warmup=2, learning_rate=1.0, floor=0.5)
    short = TrainSettings(steps=6, warmup=2, learning_rate=1.0, floor=0.5)

    def at_6(settings: TrainSettings) -> float:
        optimizer = make_optimizer(settings)
        optimizer.init({"weight": mx.zeros((1,))})
        for _ in range(7):
            optimizer.apply_gradients({"weight": mx.zeros((1,))}, {"weight": mx.zeros((1,))})
        return float(optimizer.learning_rate.item())

    assert at_6(settings) == at_6(whole) == pytest.approx(0.75)  # half
    assert at_6(short) == pytest.approx(0.5)  # the floor, as a fraction of the peak


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
    schedule = SCHEDULES[name](ScheduleConfig(peak=1.0, steps=24, warmup=4, floor=0.1))
    assert [rate(schedule, step) for step in (4, 14, 24)] == pytest.approx(expected)


def test_warmup_stable_decay_decays_over_its_last_fifth() -> None:
    schedule = SCHEDULES["wsd"](ScheduleConfig(peak=1.0, steps=100, warmup=0))
    assert [rate(schedule, step) for step in (79, 80, 90, 100)] == pytest.approx([1.0, 1.0, 0.5, 0.0], abs=1e-6)
