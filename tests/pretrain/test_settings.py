"""Settings list the choices that exist, and all invalid ones are reported in one error."""

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from apps.cli.options import field_docs
from mlx_suite.pretrain.settings import (
    CHOICES,
    FREE,
    LOGGERS,
    SMALLEST_VOCABULARY,
    CorpusPart,
    PretrainSettings,
    Replay,
    TokenizerSource,
    check_settings,
)
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.settings_file import required, settings_from
from mlx_suite.text.training import LLAMA3_SPECIALS
from mlx_suite.training.loggers import _LIBRARIES
from mlx_suite.training.optimizers import OPTIMIZERS, SCHEDULES


def settings(**changes: Any) -> PretrainSettings:
    given = {"size": 4, "tokenizer": TokenizerSource(train=4096), "data": (CorpusPart(path="books.txt"),)}
    return PretrainSettings(**given | changes)


def refusal(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        check_settings(settings(**changes))
    return caught.value.details


def test_choices_exist() -> None:
    assert set(CHOICES["optimizer"]) == set(OPTIMIZERS)
    assert set(CHOICES["schedule"]) == set(SCHEDULES)
    assert set(LOGGERS) == set(_LIBRARIES)
    assert SMALLEST_VOCABULARY == 256 + len(LLAMA3_SPECIALS)


@pytest.mark.parametrize("kind", [PretrainSettings, CorpusPart, TokenizerSource, Replay])
def test_every_setting_has_its_own_help(kind: type) -> None:
    docs = field_docs(kind)
    assert list(docs) == [field.name for field in fields(kind)]
    assert all(doc.endswith(".") and len(doc) > 10 for doc in docs.values())


def test_every_choice_is_named_in_the_help() -> None:
    docs = field_docs(PretrainSettings)
    for name, allowed in CHOICES.items():
        assert [choice for choice in allowed if choice not in docs[name]] == [], name


def test_settings_that_may_change_on_resume_are_fields() -> None:
    assert {field.name for field in fields(PretrainSettings)} >= FREE
    assert required(PretrainSettings) == ("data",)


def test_the_defaults_are_valid() -> None:
    check_settings(settings())
    check_settings(settings(size=None, tokenizer=None, checkpoint="tiny-llama3", replay=Replay(path="old.txt")))
    check_settings(settings(size=None, config={"hidden_size": 64}))


def test_every_problem_is_listed_in_one_error() -> None:
    assert refusal(optimizer="adam", batch=0, warmup=2.0, loggers=("tensorbord",), clip=-1.0, decay=0.0) == (
        "optimizer is 'adam': did you mean adamw?",
        "loggers is 'tensorbord': did you mean tensorboard?",
        "batch is 0: expected a whole number of at least 1",
        "clip is -1.0: expected a number of at least 0",
        "warmup is 2.0: expected 0 to 1",
        "decay is 0.0: expected a number above 0, at most 1",
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": None}, "size is missing: give size, config or checkpoint"),
        ({"config": "c.json"}, "config contradicts size: give one of size, config, checkpoint"),
        ({"size": 65}, "size is 65: expected a number of blocks from 1 to 64"),
        ({"tokenizer": None}, "tokenizer is missing: name a model, or {train: 4096} to train one on the corpus"),
        ({"tokenizer": TokenizerSource()}, "tokenizer is invalid: give either checkpoint or train"),
        (
            {"tokenizer": TokenizerSource(train=100)},
            "tokenizer train is 100: expected at least 272 ids, the bytes and marks",
        ),
        ({"data": ()}, "data is empty: name a file, a folder or a dataset"),
        ({"tokens": 100, "epochs": 2.0}, "epochs contradicts tokens: give one of tokens, steps, epochs"),
        ({"length": 4}, "length is 4: expected at least 8 tokens"),
        ({"epochs": float("nan")}, "epochs is nan: expected a number above 0, at most 1,000,000"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: expected a number above 0"),
        ({"valid_share": 1.0}, "valid_share is 1.0: expected at least 0 and below 1"),
        ({"replay": Replay(path="a", share=1.0)}, "replay share is 1.0: expected a number above 0 and below 1"),
        ({"dtype": "float16"}, "dtype is 'float16': did you mean bfloat16?"),
    ],
)
def test_an_invalid_value_is_refused(changes: dict[str, Any], problem: str) -> None:
    assert refusal(**changes) == (problem,)


def test_a_checkpoint_keeps_its_tokenizer() -> None:
    assert refusal(size=None, checkpoint="tiny-llama3") == (
        "tokenizer train contradicts checkpoint: a checkpoint keeps its own tokenizer",
    )


def test_parts_need_names_of_their_own_and_weights_for_all_or_none() -> None:
    parts = (CorpusPart(path="a/wiki.jsonl.gz", weight=2.0), CorpusPart(path="b/wiki.txt"))
    assert [part.title for part in parts] == ["wiki", "wiki"]
    assert refusal(data=parts) == (
        "data has a weight for some parts only: give one to all or none",
        "data has 2 parts called wiki: give them names",
    )
    assert refusal(data=(CorpusPart(path="a", weight=0.0),)) == ("data has a weight that is not a number above 0",)


def test_a_part_is_named_after_its_file_or_folder() -> None:
    paths = ("books/wiki.jsonl.gz", "books/", "OWNER/stories", ".hidden")
    assert [CorpusPart(path=path).title for path in paths] == ["wiki", "books", "stories", "corpus"]


@pytest.mark.parametrize("name", ["a/b", "../a", ".a"])
def test_a_name_is_that_of_a_folder(name: str) -> None:
    [problem] = refusal(data=(CorpusPart(path="a.txt", name=name),))
    assert problem == f"data has a part called {name!r}: a name may not begin with a dot or contain a slash"


def test_the_name_of_held_out_text_is_taken() -> None:
    parts = (CorpusPart(path="valid.txt"),)
    assert refusal(data=parts, valid=CorpusPart(path="b.txt")) == ("data has 2 parts called valid: give them names",)


def test_a_configuration_names_its_parts_and_its_tokenizer_in_full_or_in_short() -> None:
    values = {"size": 6, "tokenizer": {"train": 4096}, "data": ["a.txt", {"path": "b", "weight": 3}], "replay": "old"}
    read = PretrainSettings(**settings_from(values, "recipe.yaml", PretrainSettings))
    assert read.tokenizer == TokenizerSource(train=4096)
    assert read.data == (CorpusPart(path="a.txt"), CorpusPart(path="b", weight=3.0))
    assert read.replay == Replay(path="old")
    assert settings_from({"tokenizer": "tiny-llama3"}, "f", PretrainSettings) == {
        "tokenizer": TokenizerSource(checkpoint="tiny-llama3")
    }


def test_importing_the_settings_does_not_import_mlx() -> None:
    code = "import sys, mlx_suite.pretrain.settings; sys.exit('mlx.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
