"""Parameters by tensor: numbers, gradients over the layers, filters."""

import pytest

from mlx_suite.transfer.merge.schedule import Place, Rule, Schedule, constant, from_flag, from_yaml, place_of, to_yaml


def test_a_gradient_is_interpolated_over_the_layers() -> None:
    schedule = from_yaml([0.0, 1.0, 0.0])
    values = [schedule.at(place_of(f"model.layers.{layer}.mlp.up_proj.weight", 0, 5)) for layer in range(5)]
    assert values == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_what_belongs_to_no_layer_has_the_first_value() -> None:
    schedule = from_yaml([0.25, 1.0])
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        assert schedule.at(place_of(name, 0, 4)) == 0.25


def test_layers_are_counted_within_their_slice() -> None:
    assert place_of("model.layers.6.mlp.up_proj.weight", 4, 5) == Place("model.layers.6.mlp.up_proj.weight", 0.5)


def test_the_first_rule_that_applies_counts() -> None:
    schedule = from_yaml([{"filter": "self_attn", "value": 0.2}, {"filter": "*", "value": 0.7}])
    assert schedule.at(Place("model.layers.0.self_attn.q_proj.weight", 0.0)) == 0.2
    assert schedule.at(Place("model.norm.weight", 0.0)) == 0.7


def test_a_schedule_without_a_rule_for_a_tensor_has_no_value_for_it() -> None:
    assert from_yaml([{"filter": "mlp", "value": 0.2}]).at(Place("model.norm.weight", 0.0)) is None


def test_flags_hold_filters_gradients_and_one_value_per_model() -> None:
    assert from_flag("0.5") == ("", [(0.5,)])
    assert from_flag("mlp=0:0.5:1,2") == ("mlp", [(0.0, 0.5, 1.0), (2.0,)])


@pytest.mark.parametrize("text", ["", "x", "0.5,,1", "nan", "=1", "inf:1"])
def test_flags_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_flag(text)


@pytest.mark.parametrize("value", [None, "0.5", [], [{"filter": "mlp"}], [{"value": 1, "other": 2}], True, [0.1, "x"]])
def test_yaml_that_is_no_schedule_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        from_yaml(value)


@pytest.mark.parametrize("value", [0.5, [0.0, 1.0], [{"filter": "mlp", "value": [0.0, 1.0]}, {"value": 0.3}]])
def test_a_schedule_is_written_as_it_was_read(value: object) -> None:
    assert to_yaml(from_yaml(value)) == value


def test_a_schedule_reads_as_the_flag_that_makes_it() -> None:
    assert str(Schedule((Rule((0.0, 1.0), "mlp"), Rule((0.5,))))) == "mlp=0:1, 0.5"
    assert str(constant(0.25)) == "0.25"
