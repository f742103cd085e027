"""JSON that a user gives: every wrong value is named, with what it should be."""

from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import json_if_any
from mlx_suite.runtime.json_file import (
    FLAG,
    NUMBER,
    POSITIVE,
    TEXT,
    TEXTS,
    TOKEN_IDS,
    WHOLES,
    by_name,
    either,
    read_object,
)

KINDS = {
    "layers": POSITIVE,
    "tied": FLAG,
    "names": TEXTS,
    "stop": TOKEN_IDS,
    "scale": NUMBER,
    "rows": either(TEXT, by_name(WHOLES)),
}


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_of_the_right_kinds_are_returned(tmp_path: Path) -> None:
    path = written(tmp_path, '{"layers": 3, "tied": null, "names": ["a"], "stop": [1, 2], "other": {}}')
    expected = {"layers": 3, "tied": None, "names": ["a"], "stop": [1, 2], "other": {}}
    assert read_object(path, KINDS) == expected
    assert read_object(tmp_path / "none.json", KINDS) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"layers": true}', "layers is true, not a positive whole number"),
        ('{"layers": 1e3}', "layers is 1000.0, not a positive whole number"),
        ('{"layers": Infinity}', "layers is Infinity, not a positive whole number"),
        ('{"layers": 99999999999}', "layers is 99999999999, not a positive whole number"),
        ('{"tied": "yes"}', 'tied is "yes", not true or false'),
        ('{"names": ["a", 1]}', 'names is ["a", 1], not a list of texts'),
        ('{"stop": []}', "stop is [], not a token id or a list of token ids"),
        ('{"scale": 1' + "0" * 400 + "}", "scale is 1000"),
        ('{"rows": {"a": 1}}', 'rows is {"a": 1}, not a text or an object with a list of whole numbers for each name'),
        ("[1]", "config.json contains a list, not an object"),
        ("{", "config.json is not JSON"),
        ("[" * 100_000, "config.json is not JSON"),
        (b"\xff", "config.json is not UTF-8 text: invalid start byte at byte 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_should_be(text: str | bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_object(written(tmp_path, text), KINDS)
    assert caught.value.what.startswith(problem)
    assert caught.value.where == str(tmp_path / "config.json")


def test_several_wrong_values_are_listed_in_one_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="config.json has 2 wrong values") as caught:
        read_object(written(tmp_path, '{"layers": "many", "stop": -1}'), KINDS)
    assert caught.value.details == (
        'layers is "many", not a positive whole number',
        "stop is -1, not a token id or a list of token ids",
    )


def test_a_file_that_may_be_anything_is_read_as_empty(tmp_path: Path) -> None:
    assert json_if_any(written(tmp_path, "[" * 100_000)) == {}
    assert json_if_any(written(tmp_path, '{"a": 1}')) == {"a": 1}
