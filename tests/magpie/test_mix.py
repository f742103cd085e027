"""Several settings in one run."""

from collections import Counter

import pytest

from mlx_suite.magpie import MagpieSettings
from mlx_suite.magpie.mix import Setting, parse_mix, setting_of
from mlx_suite.runtime.errors import UserError


def test_a_mix_is_read_part_by_part() -> None:
    assert parse_mix("1.0/1.0:3, 1.1/0.995:3,1.25") == (
        Setting(temperature=1.0, top_p=1.0, weight=3.0),
        Setting(temperature=1.1, top_p=0.995, weight=3.0),
        Setting(temperature=1.25, top_p=1.0, weight=1.0),
    )


def test_every_wrong_part_is_named() -> None:
    with pytest.raises(UserError) as caught:
        parse_mix("1.0/2:3,hot,1:0")

    assert caught.value.details == (
        "'1.0/2:3': top_p is 2, which must be above 0 and at most 1",
        "'hot': not of the form temperature/top_p:weight",
        "'1:0': the weight is 0, which must be above 0",
    )
    with pytest.raises(UserError, match="mix stands in place of temperature"):
        MagpieSettings(count=1, mix="1.0,1.2", temperature=0.8)


def test_rows_are_spread_by_the_weights_and_by_nothing_but_seed_and_number() -> None:
    mix = parse_mix("1.0:3,1.2:1")
    drawn = [setting_of(mix, 0, index).temperature for index in range(4000)]

    assert drawn == [setting_of(mix, 0, index).temperature for index in range(4000)]
    assert drawn[:100] != [setting_of(mix, 1, index).temperature for index in range(100)]
    assert 2900 < Counter(drawn)[1.0] < 3100
