"""Preparing data: deterministic, all problems in one error, nothing dropped silently."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.finetune.prepare import make_batches, prepare
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.runtime.errors import UserError

Row = dict[str, Any]

SUMS: list[Row] = [{"instruction": f"{i} + 1", "output": str(i + 1)} for i in range(40)]
UNANSWERED: Row = {"instruction": "1 + 1", "output": ""}
UNTRAINED: Row = {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2", "train": False}]}


def write(folder: Path, *rows: Row | str, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def settings(model: Path, data: Path, **changes: Any) -> FinetuneSettings:
    return FinetuneSettings(**{"model": str(model), "data": str(data), **changes})


def conversation(answer: str) -> Row:
    return {"messages": [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": answer}]}


def test_the_same_data_gives_the_same_documents_and_fingerprint(random_model: Path, tmp_path: Path) -> None:
    first = prepare(settings(random_model, write(tmp_path, *SUMS)))
    second = prepare(settings(random_model, write(tmp_path, *SUMS, name="again.jsonl")))
    assert first.fingerprint == second.fingerprint
    assert [list(made.tokens) for made in first.train] == [list(made.tokens) for made in second.train]


def test_the_fingerprint_depends_on_rows_and_not_on_settings(random_model: Path, tmp_path: Path) -> None:
    data, fewer = write(tmp_path, *SUMS), write(tmp_path, *SUMS[1:], name="fewer.jsonl")
    first = prepare(settings(random_model, data)).fingerprint
    assert prepare(settings(random_model, fewer)).fingerprint != first
    assert prepare(settings(random_model, data, seed=1, train_on="all", valid_share=0.2)).fingerprint == first


def test_the_fingerprint_depends_on_the_chat_template(random_model: Path, tmp_path: Path) -> None:
    data = write(tmp_path, *SUMS)
    changed = tmp_path / "model"
    shutil.copytree(random_model, changed)
    assert prepare(settings(changed, data)).fingerprint == prepare(settings(random_model, data)).fingerprint
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text().replace("\\n\\n", "\\n"))
    assert prepare(settings(changed, data)).fingerprint != prepare(settings(random_model, data)).fingerprint


def test_a_variable_of_the_chat_template_changes_the_rows(random_model: Path, tmp_path: Path) -> None:
    data, changed = write(tmp_path, *SUMS), tmp_path / "model"
    shutil.copytree(random_model, changed)
    template = changed / "chat_template.jinja"
    template.write_text("{% if thinking is defined %}{{ thinking }}{% endif %}" + template.read_text())
    plain = prepare(settings(changed, data)).train[0]
    with_text = prepare(settings(changed, data, template_args=("thinking=abc",))).train[0]
    assert len(with_text.tokens) > len(plain.tokens)


def test_the_fingerprint_depends_on_the_tokenizer(random_model: Path, tmp_path: Path) -> None:
    data = write(tmp_path, *SUMS)
    changed = tmp_path / "model"
    shutil.copytree(random_model, changed)
    tokenizer = json.loads((changed / "tokenizer.json").read_text())
    letters = tokenizer["model"]["vocab"]
    letters["1"], letters["2"] = letters["2"], letters["1"]
    (changed / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert prepare(settings(changed, data)).fingerprint != prepare(settings(random_model, data)).fingerprint


def test_a_template_with_a_date_renders_the_same_every_day(random_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(random_model, model)
    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + "{{ strftime_now('%d %b %Y') }} {{ date_string }}")
    prepared = prepare(settings(model, write(tmp_path, *SUMS)))
    assert prepared.template is not None
    assert prepared.template.render(()).endswith("26 Jul 2024 26 Jul 2024")


def test_problems_of_reading_and_encoding_are_in_one_error(random_model: Path, tmp_path: Path) -> None:
    # The first row fails to read, the second to encode.
    data = write(tmp_path, '{"messages": ', UNTRAINED, *[conversation("2")] * 3)
    with pytest.raises(UserError) as caught:
        prepare(settings(random_model, data))
    assert caught.value.what == "There are 2 problems with the data"
    [unread, untrained] = caught.value.details
    assert unread.startswith("rows.jsonl:1: ")
    assert untrained == "rows.jsonl:2: nothing to train on: every response is marked as untrained"
    assert caught.value.fix == "fix them, or skip these rows with --skip-bad"


def test_skip_bad_keeps_valid_rows_and_records_the_skipped_ones(random_model: Path, tmp_path: Path) -> None:
    data = write(tmp_path, '{"messages": ', UNTRAINED, *[conversation("2")] * 3)
    prepared = prepare(settings(random_model, data, skip_bad=True))
    assert [made.place for made in prepared.train] == ["rows.jsonl:3", "rows.jsonl:4", "rows.jsonl:5"]
    assert [problem.place for problem in prepared.problems] == ["rows.jsonl:1", "rows.jsonl:2"]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_data_without_a_valid_row_is_refused(random_model: Path, tmp_path: Path, skip_bad: bool) -> None:
    for rows in ([UNANSWERED], [UNTRAINED]):
        with pytest.raises(UserError, match="and nothing is left to train on"):
            prepare(settings(random_model, write(tmp_path, *rows), skip_bad=skip_bad))


def test_validation_is_split_off_if_there_is_no_validation_file(random_model: Path, tmp_path: Path) -> None:
    prepared = prepare(settings(random_model, write(tmp_path, *SUMS), valid_share=0.1))
    assert (len(prepared.train), len(prepared.valid), len(prepared.held_out)) == (36, 4, 4)
    places = [made.place for made in (*prepared.train, *prepared.valid)]
    assert sorted(places) == sorted(f"rows.jsonl:{line}" for line in range(1, 41))
    _, valid = make_batches(prepared, settings(random_model, tmp_path))
    assert valid is not None


def test_a_share_of_0_means_no_validation(random_model: Path, tmp_path: Path) -> None:
    prepared = prepare(settings(random_model, write(tmp_path, *SUMS), valid_share=0))
    assert (len(prepared.train), prepared.valid) == (40, ())
    assert make_batches(prepared, settings(random_model, tmp_path))[1] is None


class TestTooLong:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Data with one long training example and one long validation example."""
        long = conversation("1 + 2 + " * 20)
        write(tmp_path, conversation("2"), long, name="train.jsonl")
        write(tmp_path, conversation("2"), long, name="valid.jsonl")
        return tmp_path

    def test_both_are_listed(self, random_model: Path, folder: Path) -> None:
        with pytest.raises(UserError) as caught:
            prepare(settings(random_model, folder, max_length=100))
        assert caught.value.what == "2 examples are longer than 100 tokens"
        assert [detail.partition(": ")[0] for detail in caught.value.details] == ["train.jsonl:2", "valid.jsonl:2"]

    @pytest.mark.parametrize(("policy", "field"), [("drop", "dropped"), ("truncate", "truncated"), ("split", "split")])
    def test_both_are_counted(self, random_model: Path, folder: Path, policy: str, field: str) -> None:
        prepared = prepare(settings(random_model, folder, max_length=100, too_long=policy))
        assert getattr(prepared.counts, field) == 2
        assert all(len(made) <= 100 for made in (*prepared.train, *prepared.valid))

    def test_data_with_only_long_examples_is_refused(self, random_model: Path, folder: Path) -> None:
        with pytest.raises(UserError, match="No training example is left"):
            prepare(settings(random_model, folder, max_length=8, too_long="drop"))


def test_an_unusable_validation_file_is_not_replaced_by_a_split(random_model: Path, tmp_path: Path) -> None:
    data, bad = write(tmp_path, *SUMS), tmp_path / "bad.jsonl"
    bad.write_text('{"instruction": "1 + 1", "output": ""}\n')
    with pytest.raises(UserError) as caught:
        prepare(settings(random_model, data, valid=str(bad), skip_bad=True))
    assert caught.value.what == "This file has no usable validation example"
    assert caught.value.where == str(bad)


class TestWithoutAChatTemplate:
    @pytest.fixture
    def base_model(self, random_model: Path, tmp_path: Path) -> Path:
        folder = tmp_path / "base"
        shutil.copytree(random_model, folder)
        (folder / "chat_template.jinja").unlink()
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder

    def test_a_conversation_is_refused_with_a_fix(self, base_model: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            prepare(settings(base_model, write(tmp_path, *SUMS)))
        assert caught.value.what == "this checkpoint has no chat template"
        assert caught.value.fix.startswith("use --style alpaca; or ")

    def test_plain_text_and_text_styles_need_no_template(self, base_model: Path, tmp_path: Path) -> None:
        assert prepare(settings(base_model, write(tmp_path, {"text": "1 + 1 2"}))).template is None
        assert len(prepare(settings(base_model, write(tmp_path, *SUMS), style="alpaca")).train) == 38
