"""Validation of settings, and resuming a folder with other settings than it was started with."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.magpie import MagpieSettings
from mlx_suite.magpie.manifest import command_of
from mlx_suite.magpie.settings import SamplingSetting, drawn_setting, parse_mix
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.lock import folder_lock
from tests.magpie.conftest import Loaded, load_checkpoint
from tests.magpie.random_checkpoint import write_checkpoint


def stating(checkpoint: Loaded, system: str) -> Loaded:
    """The checkpoint with a template that begins with a system turn, a Jinja expression."""
    turn = "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + " + system + " + '<|eot_id|>' }}"
    source = checkpoint.template.source.replace("{{- bos_token }}", "{{- bos_token }}" + turn)
    return replace(checkpoint, template=replace(checkpoint.template, source=source))


def test_every_invalid_value_is_listed_in_one_error() -> None:
    with pytest.raises(UserError) as caught:
        MagpieSettings(count=0, temperature=math.nan, top_p=0.0, answer_top_p=1.5, max_answer=True, system=" ")

    assert str(caught.value) == (
        "error: 6 settings are invalid\n"
        "       - count is 0: expected a whole number of at least 1\n"
        "       - max_answer is True: expected a whole number of at least 1\n"
        "       - temperature is nan: expected a number of at least 0\n"
        "       - top_p is 0.0: expected a number above 0, at most 1\n"
        "       - answer_top_p is 1.5: expected a number above 0, at most 1\n"
        "       - system is ' ': expected text that is not blank\n"
        "where: Magpie settings\n"
        "fix:   see mlx-suite magpie run --help-all for the allowed values"
    )


def test_a_mix_is_parsed_part_by_part() -> None:
    assert parse_mix("1.0/1.0:3, 1.1/0.995:3,1.25") == (
        SamplingSetting(temperature=1.0, top_p=1.0, weight=3.0),
        SamplingSetting(temperature=1.1, top_p=0.995, weight=3.0),
        SamplingSetting(temperature=1.25, top_p=1.0, weight=1.0),
    )


def test_every_invalid_part_of_a_mix_is_listed() -> None:
    with pytest.raises(UserError) as caught:
        parse_mix("1.0/2:3,hot,1:0")

    assert caught.value.details == (
        "'1.0/2:3': top_p is 2: expected a number above 0, at most 1",
        "'hot': expected temperature/top_p:weight",
        "'1:0': weight is 0: expected a number above 0",
    )
    with pytest.raises(UserError, match="mix replaces temperature"):
        MagpieSettings(count=1, mix="1.0,1.2", temperature=0.8)


def test_a_mix_is_drawn_by_its_weights_from_seed_and_row_number_alone() -> None:
    mix = parse_mix("1.0:3,1.2:1")
    drawn = [drawn_setting(mix, 0, index).temperature for index in range(4000)]

    assert drawn == [drawn_setting(mix, 0, index).temperature for index in range(4000)]
    assert drawn[:100] != [drawn_setting(mix, 1, index).temperature for index in range(100)]
    assert 2900 < Counter(drawn)[1.0] < 3100


def test_settings_that_change_the_rows_are_refused_by_name(checkpoint: Loaded, undisturbed: Path) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(undisturbed, seed=1, temperature=1.5, system="Be brief.")

    assert caught.value.what == "The folder was started with other settings"
    assert caught.value.where == str(undisturbed)
    assert caught.value.details == (
        "seed: was 0, now 1",
        'system: was none, now "Be brief."',
        "temperature: was 1.0, now 1.5",
    )
    assert "--out" in caught.value.fix


def test_another_model_or_template_is_refused(checkpoint: Loaded, undisturbed: Path, tmp_path: Path) -> None:
    other = load_checkpoint(write_checkpoint(tmp_path / "other", end=0.2))
    with pytest.raises(UserError) as caught:
        other.make(undisturbed, model_name="other")
    [change] = caught.value.details
    assert change.startswith("weights: was a model (") and ", now other (" in change

    template = replace(checkpoint.template, source=checkpoint.template.source.replace("\\n\\n", "\\n"))
    with pytest.raises(UserError) as caught:
        replace(checkpoint, template=template).make(undisturbed)
    assert [line.split(":")[0] for line in caught.value.details] == ["header", "answer_header"]


def test_a_run_goes_on_tomorrow_with_a_template_that_states_the_date(
    checkpoint: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = stating(checkpoint, "'It is ' + strftime_now('%d %b %Y') + '.'")
    monkeypatch.setattr("mlx_suite.text.template_environment._strftime_now", lambda form: "27 Nov 2026")
    today.make(tmp_path, count=1)
    monkeypatch.setattr("mlx_suite.text.template_environment._strftime_now", lambda form: "28 Nov 2026")
    assert today.make(tmp_path, count=2).accepted == 2
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["date"] == "26 Jul 2024"
    assert "It is 26 Jul 2024." in manifest["rows"]["header"]


def test_another_date_is_refused_and_shown(checkpoint: Loaded, tmp_path: Path) -> None:
    dated = stating(checkpoint, "'Today is a good day to begin: it is ' + date_string + '.'")
    dated.make(tmp_path, count=1)
    other = replace(dated, template=replace(dated.template, variables={"date_string": "27 Jul 2024"}))
    with pytest.raises(UserError) as caught:
        other.make(tmp_path, count=2)
    assert caught.value.details[0].startswith("header: was … ay to begin: it is 26 Jul 2024.<|eot_id|>")
    assert ", now … ay to begin: it is 27 Jul 2024.<|eot_id|>" in caught.value.details[0]


def test_the_weights_digest_depends_on_values_not_on_dtype(checkpoint: Loaded, tmp_path: Path) -> None:
    again = load_checkpoint(checkpoint.folder)
    before = weights_digest(checkpoint.model)

    assert weights_digest(again.model) == before
    again.model.lm_head.weight = again.model.lm_head.weight + 1e-3
    assert weights_digest(again.model) != before
    halves = load_checkpoint(write_checkpoint(tmp_path)).model
    halves.set_dtype(mx.bfloat16)
    rounded = weights_digest(halves)
    halves.set_dtype(mx.float32)
    assert weights_digest(halves) == rounded


def test_batch_and_patience_may_change_and_the_manifest_records_it(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path, count=2)
    first = json.loads((tmp_path / "manifest.json").read_text())
    checkpoint.make(tmp_path, count=3, batch=2, patience=99)
    second = json.loads((tmp_path / "manifest.json").read_text())

    assert second["settings"] == {**first["settings"], "count": 3, "batch": 2, "patience": 99}
    kept = ("kind", "fingerprint", "rows", "judged_by", "quotas", "versions", "created")
    assert {name: second[name] for name in kept} == {name: first[name] for name in kept}
    assert second["work"][0] == first["work"][0]
    assert [work["rows"] for work in second["work"]] == [2, 1]
    assert set(first["versions"]) == {"mlx-suite", "mlx", "python", "machine"}


def test_a_count_below_the_rows_of_the_folder_is_refused(checkpoint: Loaded, undisturbed: Path) -> None:
    before = (undisturbed / "manifest.json").read_bytes()
    with pytest.raises(UserError) as caught:
        checkpoint.make(undisturbed, count=12)

    assert caught.value.what == "The folder already holds 30 accepted rows, more than the 12 requested"
    assert "--count 30" in caught.value.fix
    assert (undisturbed / "manifest.json").read_bytes() == before


def test_a_folder_of_another_program_is_left_alone(checkpoint: Loaded, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "manifest.json").write_text('{"editor": "dark"}')
    with pytest.raises(UserError, match=r"manifest.json does not record .*: it was not written by this command"):
        checkpoint.make(foreign)
    (foreign / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.make(foreign)
    (foreign / "manifest.json").unlink()
    (foreign / "accepted.jsonl").write_text('{"text": "mine"}\n')
    with pytest.raises(UserError, match="not the manifest.json they were made with"):
        checkpoint.make(foreign)
    assert (foreign / "accepted.jsonl").read_text() == '{"text": "mine"}\n'

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="A file is where a folder is needed"):
        checkpoint.make(tmp_path / "file")


def test_two_runs_in_one_folder_are_refused(checkpoint: Loaded, tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(UserError, match="Another run is using it"):
        checkpoint.make(tmp_path)


def test_the_command_in_the_manifest_omits_defaults() -> None:
    settings = MagpieSettings(
        count=9, model_name="my model", sanitise=False, topics=("boats", "old birds"), answer_top_p=0.9
    )

    assert command_of(settings) == (
        "mlx-suite magpie run 'my model' --count 9 --no-sanitise --topic boats --topic 'old birds' --answer-top-p 0.9"
    )
    assert command_of(MagpieSettings(count=9)) is None
