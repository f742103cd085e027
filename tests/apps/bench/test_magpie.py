"""The two-stage side is not charged for surplus rows."""

from mlx_suite_apps.bench.magpie import ROUND, round_size
from mlx_suite_apps.bench.writers import ROWS


def test_the_round_size_follows_the_yield() -> None:
    assert round_size(missing=12, accepted=0, asked=0) == 12
    assert round_size(missing=500, accepted=0, asked=0) == ROUND
    assert round_size(missing=100, accepted=0, asked=ROUND) == ROUND
    assert round_size(missing=100, accepted=64, asked=ROUND) == ROUND
    assert round_size(missing=20, accepted=80, asked=256) == 64
    assert round_size(missing=1, accepted=100, asked=200) == ROWS
