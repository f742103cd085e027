"""Settings list the choices that exist, and all invalid ones are reported in one error."""

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from apps.cli.options import field_docs
from mlx_suite.adapters.config import DEFAULT_MODULES, METHODS
from mlx_suite.data.encode import lengths, styles
from mlx_suite.finetune.settings import (
    BLOCK_MODULES,
    CHOICES,
    FREE,
    LOGGERS,
    FinetuneSettings,
    check_settings,
)
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.settings_file import required, settings_from
from mlx_suite.training.loggers import _LIBRARIES
from mlx_suite.training.optimizers import OPTIMIZERS, SCHEDULES
from mlx_suite.training.step_memory import OPTIMIZERS as ESTIMATED


def settings(**changes: Any) -> FinetuneSettings:
    return FinetuneSettings(**{"model": "tiny-llama3", "data": "rows.jsonl", **changes})


def refusal(**changes: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        check_settings(settings(**changes))
    return caught.value


# ---- choices exist


def test_optimizer_and_schedule_choices_exist() -> None:
    assert set(CHOICES["optimizer"]) == set(OPTIMIZERS)
    assert set(CHOICES["schedule"]) == set(SCHEDULES)
    assert set(CHOICES["optimizer"]) <= set(ESTIMATED)


def test_method_and_module_choices_exist() -> None:
    assert set(CHOICES["method"]) == {*METHODS, "full"}
    assert BLOCK_MODULES == DEFAULT_MODULES


def test_style_and_too_long_choices_exist() -> None:
    assert set(CHOICES["style"]) == set(styles.STYLES)
    assert set(CHOICES["too_long"]) == set(lengths.POLICIES)


def test_logger_choices_exist() -> None:
    assert set(LOGGERS) == set(_LIBRARIES)


# ---- help


def test_every_setting_has_its_own_help() -> None:
    docs = field_docs(FinetuneSettings)
    names = [field.name for field in fields(FinetuneSettings)]
    assert list(docs) == names
    assert all(doc.endswith(".") and len(doc) > 10 for doc in docs.values())
    assert len(set(docs.values())) == len(names)


def test_every_choice_is_named_in_the_help() -> None:
    docs = field_docs(FinetuneSettings)
    for name, allowed in CHOICES.items():
        assert [choice for choice in allowed if choice not in docs[name]] == [], name


def test_settings_that_may_change_on_resume_are_fields() -> None:
    assert FREE <= {field.name for field in fields(FinetuneSettings)}
    assert required(FinetuneSettings) == ("model", "data")


# ---- validation


def test_the_defaults_are_valid() -> None:
    check_settings(settings())
    assert settings().peak == 2e-4 and settings(method="full").peak == 2e-5
    assert settings(method="full", learning_rate=1e-3).peak == 1e-3


def test_every_problem_is_listed_in_one_error() -> None:
    error = refusal(optimizer="adam", batch=0, epochs=0.0, warmup=2.0, loggers=("tensorbord",), neftune=-1.0)
    assert error.what == "6 settings are invalid"
    assert error.details == (
        "optimizer is 'adam': did you mean adamw?",
        "loggers is 'tensorbord': did you mean tensorboard?",
        "batch is 0: expected a whole number of at least 1",
        "neftune is -1.0: expected a number of at least 0",
        "epochs is 0.0: expected a number above 0",
        "warmup is 2.0: expected 0 to 1",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "full", "quantize_base": 4}, "quantized weights cannot be trained"),
        ({"quantize_base": 3}, "quantize_base is 3: expected 0, 4 or 8"),
        ({"batching": "bucket", "row_length": 512}, "row_length applies to batching pack only"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: expected a number above 0"),
        ({"max_length": 4}, "max_length is 4: expected at least 8 tokens"),
        ({"dropout": 1.0}, "dropout is 1.0: expected at least 0 and below 1"),
        ({"steps": 0}, "steps is 0: expected a whole number of at least 1"),
        ({"seed": -1}, "seed is -1: expected a whole number of at least 0"),
        ({"epochs": float("nan")}, "epochs is nan: expected a number above 0"),
        ({"style": "chatml"}, "style is 'chatml': did you mean chat?"),
    ],
)
def test_an_invalid_value_is_refused(changes: dict[str, Any], message: str) -> None:
    assert message in str(refusal(**changes))


def test_an_anchor_needs_an_average_that_moves_more_slowly_than_the_model() -> None:
    for ema in (0.0, 1.0):
        assert refusal(anchor=0.1, ema=ema).details == (
            f"anchor is 0.1 with ema {ema:g}: expected an ema above 0 and below 1, such as 0.01",
        )
    assert refusal(anchor=-1.0).details[0] == "anchor is -1.0: expected a number of at least 0"
    check_settings(settings(anchor=0.1, ema=0.01))


def test_nan_and_inf_are_refused() -> None:
    nan, inf = float("nan"), float("inf")

    assert refusal(clip=nan, neftune=nan, weight_decay=inf, epochs=inf, alpha=nan, learning_rate=inf).details == (
        "clip is nan: expected a number of at least 0",
        "weight_decay is inf: expected a number of at least 0",
        "neftune is nan: expected a number of at least 0",
        "epochs is inf: expected a number above 0",
        "alpha is nan: expected a number above 0",
        "learning_rate is inf: expected a number above 0",
    )
    assert refusal(epochs=1e30).details == ("epochs is 1e+30: expected at most 1,000,000",)


def test_an_infinite_whole_number_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        settings_from({"rank": float("inf")}, "recipe.yaml", FinetuneSettings)
    assert caught.value.details == ("rank is inf: expected a whole number",)


def test_the_error_says_where_invalid_values_were_set() -> None:
    with pytest.raises(UserError) as caught:
        check_settings(settings(batch=0, rank=0), {"batch": "flag", "rank": "recipe.yaml"})
    assert caught.value.where == "flag, recipe.yaml"


# ---- configuration files


def test_unknown_keys_are_refused_with_the_closest_known_one() -> None:
    with pytest.raises(UserError) as caught:
        settings_from({"learning-rat": 1, "bach": 4, "zzz": 0, "rank": "many"}, "recipe.yaml", FinetuneSettings)
    assert caught.value.details == (
        "learning-rat: did you mean learning_rate?",
        "bach: did you mean batch?",
        "zzz: there is no such setting",
        "rank is 'many': expected a whole number",
    )
    assert caught.value.where == "recipe.yaml"


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("learning_rate", "2e-4", 2e-4),
        ("learning-rate", 1, 1.0),
        ("learning_rate", None, None),
        ("steps", 1e3, 1000),
        ("steps", None, None),
        ("modules", "q_proj, v_proj", ("q_proj", "v_proj")),
        ("modules", ["q_proj"], ("q_proj",)),
        ("layers", "0,1", (0, 1)),
        ("layers", None, None),
        ("prompts", ["How are you, today?"], ("How are you, today?",)),
        ("skip_bad", True, True),
        ("model", 7, "7"),
    ],
)
def test_values_are_converted_to_the_type_of_their_field(name: str, value: Any, read: Any) -> None:
    assert settings_from({name: value}, "f", FinetuneSettings) == {name.replace("-", "_"): read}


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", 1.5), ("batch", None), ("rslora", "yes"), ("batch", True), ("rank", [1]), ("seed", {})],
)
def test_values_of_the_wrong_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=name):
        settings_from({name: value}, "f", FinetuneSettings)


def test_importing_the_settings_does_not_import_mlx() -> None:
    # --help must be fast.
    code = "import sys, mlx_suite.finetune.settings; sys.exit('mlx.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
