"""Exports: each format, programs that read it, splits without leaks, and rows that do not fit."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlx_lm.tuner.datasets import load_dataset
from pyarrow import parquet

from mlx_suite.curation.dataset import read_collection, write_embeddings
from mlx_suite.curation.export.export import Exported, export_dataset
from mlx_suite.curation.export.settings import ExportSettings
from mlx_suite.curation.filter.filter import filter_dataset
from mlx_suite.curation.filter.settings import FilterSettings
from mlx_suite.data.dataset import read_dataset
from mlx_suite.data.steering import AGREEMENT, CATEGORY_TEXTS
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.runtime.errors import UserError
from tests.magpie.random_checkpoint import write_checkpoint
from tests.magpie.rows import Row, conversation, instructions_of, read_lines, row, with_system, write_lines, write_run

PLAIN = row("Hi", "Hello", id="r-0", tags={"difficulty": "easy"}, answer_tokens=2)
FAMILIAR = with_system("Be kind.", row("Ho", "Hello, dear", id="r-1"))
LONG = conversation("1", "2", "3", "4", id="r-2")
PAIR = {**row("Hi", id="p-0"), "chosen": "Hello", "rejected": "No"}
STORY = "Write a story about {name}, the friend of {name}, who lives in {name} town{end}"
NAMES = ["ab", "cd", "ef", "gh", "ik", "lm", "no", "pq", "rs", "tu"]


def export(tmp_path: Path, rows: list[Row], to: str, *, strict: bool = False, **settings: Any) -> Exported:
    source = write_lines(tmp_path / "rows.jsonl", rows)
    return export_dataset(source, ExportSettings(to=to, **settings), tmp_path / "out", strict=strict)


def refused(tmp_path: Path, rows: list[Row], to: str, **settings: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        export(tmp_path, rows, to, **settings)
    assert not (tmp_path / "out").exists()
    return caught.value


def turns(each: Row) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in each["messages"]]


class TestFormats:
    def test_messages_keep_id_tags_and_scores(self, tmp_path: Path) -> None:
        export(tmp_path, [PLAIN, FAMILIAR], "messages")
        result = read_lines(tmp_path / "out/train.jsonl")
        assert result == [{key: value for key, value in PLAIN.items() if key != "answer_tokens"}, FAMILIAR]
        assert list(result[0]) == ["id", "messages", "tags"]

    def test_alpaca_is_one_array_with_an_empty_input(self, tmp_path: Path) -> None:
        export(tmp_path, [PLAIN, FAMILIAR], "alpaca")
        assert json.loads((tmp_path / "out/train.json").read_text()) == [
            {"instruction": "Hi", "input": "", "output": "Hello"},
            {"system": "Be kind.", "instruction": "Ho", "input": "", "output": "Hello, dear"},
        ]

    def test_sharegpt_uses_its_own_names(self, tmp_path: Path) -> None:
        export(tmp_path, [FAMILIAR], "sharegpt")
        assert json.loads((tmp_path / "out/train.json").read_text()) == [
            {
                "id": "r-1",
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "human", "value": "Ho"},
                    {"from": "gpt", "value": "Hello, dear"},
                ],
            }
        ]

    def test_pairs_hold_turns(self, tmp_path: Path) -> None:
        export(tmp_path, [with_system("Be kind.", PAIR)], "pairs")
        assert read_lines(tmp_path / "out/train.jsonl") == [
            {
                "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
                "chosen": [{"role": "assistant", "content": "Hello"}],
                "rejected": [{"role": "assistant", "content": "No"}],
            }
        ]

    def test_pairs_text_holds_texts(self, tmp_path: Path) -> None:
        export(tmp_path, [PAIR, with_system("Be kind.", PAIR)], "pairs-text")
        plain = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
        assert read_lines(tmp_path / "out/train.jsonl") == [plain, {"system": "Be kind.", **plain}]

    @pytest.mark.parametrize("to", ["messages", "sharegpt", "alpaca", "parquet", "pairs", "pairs-text"])
    def test_our_own_readers_read_the_same_conversations(self, tmp_path: Path, to: str) -> None:
        rows = [PAIR, with_system("Be kind.", PAIR)] if to.startswith("pairs") else [PLAIN, FAMILIAR]
        if to in ("messages", "sharegpt", "parquet"):
            rows.append(LONG)
        before = read_collection(write_lines(tmp_path / "rows.jsonl", rows)).rows
        export(tmp_path, rows, to)
        after = read_collection(tmp_path / "out").rows
        assert list(map(turns, after)) == list(map(turns, before))
        assert [each.get("rejected") for each in after] == [each.get("rejected") for each in rows]
        if to == "parquet":
            assert after == before

    def test_a_column_of_several_types_is_written_to_parquet_as_json(self, tmp_path: Path) -> None:
        export(tmp_path, [row("a", note=1), row("b", note="x"), row("c", note=[{}]), row("d")], "parquet")
        notes = [each.get("note") for each in read_collection(tmp_path / "out").rows]
        assert notes == ["1", '"x"', "[{}]", None]

    def test_values_without_a_parquet_type_are_written_as_json(self, tmp_path: Path) -> None:
        rows = [row("a", meta={}, big=2**70, half="\ud800"), row("b", meta={}, big=2**70, half="b")]
        export(tmp_path, rows, "parquet")
        result = [each["meta"] for each in parquet.read_table(tmp_path / "out/train.parquet").to_pylist()]
        assert result == ["{}", "{}"]

    def test_parquet_needs_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert refused(tmp_path, [PLAIN], "parquet").fix == "pip install 'mlx-suite[parquet]'"

    def test_the_nearest_format_is_suggested_for_an_unknown_one(self, tmp_path: Path) -> None:
        assert refused(tmp_path, [PLAIN], "sharegtp").fix == "did you mean sharegpt?"


class TestRowsThatDoNotFit:
    def test_conversations_that_do_not_fit_alpaca_are_set_aside(self, tmp_path: Path) -> None:
        exported = export(tmp_path, [LONG, PLAIN, {"messages": LONG["messages"]}], "alpaca")
        assert exported.files == {"train.json": 1}
        assert [(row.position, row.place) for row in exported.unfit] == [(0, 'row 1 ("r-2")'), (2, "row 3")]
        assert exported.as_dict()["unfit"]["reasons"] == {
            "4 turns (user, assistant, user, assistant), but the format allows two": 2
        }
        assert exported.hint.startswith("give --first-turn")
        assert exported.read == 3

    def test_strict_lists_all_conversations_that_do_not_fit_alpaca(self, tmp_path: Path) -> None:
        error = refused(tmp_path, [PLAIN, LONG, {"messages": LONG["messages"]}], "alpaca", strict=True)
        assert error.what == "2 of 3 rows do not fit the format alpaca"
        assert error.details == (
            'row 2 ("r-2"): 4 turns (user, assistant, user, assistant), but the format allows two',
            "row 3: 4 turns (user, assistant, user, assistant), but the format allows two",
        )
        assert error.fix.startswith("give --first-turn")

    def test_first_turn_cuts_and_counts_them(self, tmp_path: Path) -> None:
        exported = export(tmp_path, [PLAIN, with_system("Be kind.", LONG)], "alpaca", first_turn=True)
        assert (exported.files, exported.cut) == ({"train.json": 2}, 1)
        second = json.loads((tmp_path / "out/train.json").read_text())[1]
        assert second == {"system": "Be kind.", "instruction": "1", "input": "", "output": "2"}

    def test_rows_without_two_responses_are_not_pairs(self, tmp_path: Path) -> None:
        error = refused(tmp_path, [PLAIN], "pairs")
        assert error.details == ('row 1 ("r-0"): no chosen and no rejected',)
        assert "mlx-suite magpie pairs" in error.fix

    def test_invalid_shares_are_refused(self) -> None:
        for shares in ({"valid": 1.0}, {"valid": 0.5, "test": 0.5}, {"test": -0.1}):
            with pytest.raises(UserError, match="invalid"):
                ExportSettings(to="mlx-lm", **shares)


class TestSteering:
    TEXT = CATEGORY_TEXTS["Math"]
    STEERED = {**row("2 + 2?", "4"), "steer": {"category": "Math", "topic": "*"}}

    @pytest.mark.parametrize("before", [[("system", TEXT)], [("user", TEXT), ("assistant", AGREEMENT)], []])
    def test_steering_texts_are_removed(self, tmp_path: Path, before: list[tuple[str, str]]) -> None:
        messages = [{"role": role, "content": text} for role, text in before] + self.STEERED["messages"]
        exported = export(tmp_path, [{**self.STEERED, "messages": messages}], "mlx-lm", valid=0, test=0)
        assert read_lines(tmp_path / "out/train.jsonl") == [row("2 + 2?", "4")]
        assert exported.unsteered == (1 if before else 0)

    def test_the_users_system_prompt_is_kept(self, tmp_path: Path) -> None:
        export(tmp_path, [with_system(f"Be kind. {self.TEXT}", self.STEERED), FAMILIAR], "mlx-lm", valid=0, test=0)
        assert [turns(each)[0] for each in read_lines(tmp_path / "out/train.jsonl")] == [("system", "Be kind.")] * 2

    def test_steering_texts_can_be_kept_as_a_system_prompt(self, tmp_path: Path) -> None:
        rows = [self.STEERED, with_system("Be kind.", self.STEERED), PLAIN]
        export(tmp_path, rows, "mlx-lm", valid=0, test=0, keep_steering=True)
        assert [turns(each)[0] for each in read_lines(tmp_path / "out/train.jsonl")] == [
            ("system", self.TEXT),
            ("system", f"Be kind. {self.TEXT}"),
            ("user", "Hi"),
        ]


class TestSplits:
    ROWS = [row(STORY.format(name=name, end=end), name) for name in NAMES for end in ("", ", please", "!")]

    def test_near_duplicates_stay_in_one_split(self, tmp_path: Path) -> None:
        exported = export(tmp_path, self.ROWS, "mlx-lm", valid=0.2, test=0.1)
        result = {part: read_lines(tmp_path / f"out/{part}.jsonl") for part in ("train", "valid", "test")}
        answers = {part: {each["messages"][1]["content"] for each in rows} for part, rows in result.items()}
        assert sum(map(len, answers.values())) == len(NAMES)
        assert exported.files == {"train.jsonl": 21, "valid.jsonl": 6, "test.jsonl": 3}
        assert sorted(instructions_of([each for rows in result.values() for each in rows])) == sorted(
            instructions_of(self.ROWS)
        )

    def test_other_formats_are_split_on_request(self, tmp_path: Path) -> None:
        assert export(tmp_path, self.ROWS, "alpaca").files == {"train.json": 30}
        assert export(tmp_path, self.ROWS, "alpaca", valid=0.1).files == {"train.json": 27, "valid.json": 3}

    def test_embeddings_find_near_duplicates_with_other_words(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", [row(name) for name in NAMES])
        settings = ExportSettings(to="mlx-lm", valid=0.1, test=0, cosine=0.9)
        with pytest.raises(UserError, match=r"These rows have no embeddings"):
            export_dataset(folder, settings, tmp_path / "out")
        write_embeddings(folder / "embeddings.npy", np.repeat(np.eye(2), 5, axis=0))
        assert export_dataset(folder, settings, tmp_path / "out").files == {"train.jsonl": 5, "valid.jsonl": 5}

    def test_too_few_rows_to_split_are_refused(self, tmp_path: Path) -> None:
        assert "cannot be split into 3 parts" in refused(tmp_path, [PLAIN, FAMILIAR], "mlx-lm").what


class TestFolder:
    def test_checksums_detect_a_changed_file(self, tmp_path: Path) -> None:
        export(tmp_path, [PLAIN], "messages")
        command = ["sha256sum"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]
        check = [*command, "-c", "SHA256SUMS"]
        whole = subprocess.run(check, cwd=tmp_path / "out", capture_output=True, text=True, check=False)
        assert (whole.returncode, whole.stdout) == (0, "README.md: OK\ntrain.jsonl: OK\n")
        with (tmp_path / "out/train.jsonl").open("a") as file:
            file.write("\n")
        assert subprocess.run(check, cwd=tmp_path / "out", capture_output=True, check=False).returncode == 1

    def test_only_a_previous_export_is_replaced(self, tmp_path: Path) -> None:
        export(tmp_path, [PLAIN], "alpaca")
        export(tmp_path, [PLAIN], "messages")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "SHA256SUMS", "train.jsonl"]
        write_lines(tmp_path / "mine/README.md", ["My notes"])
        with pytest.raises(UserError, match="did not write"):
            export_dataset(tmp_path / "rows.jsonl", ExportSettings(to="alpaca"), tmp_path / "mine")
        assert (tmp_path / "mine/README.md").read_text() == "My notes\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "random", letters="abcdefghiklmnopqrstuw 2.?")


class TestOtherPrograms:
    def prepared(self, model: Path, data: Path) -> tuple[int, int]:
        made = prepare(FinetuneSettings(model=str(model), data=str(data)))
        assert made.problems == ()
        return len(made.train), len(made.valid)

    def test_finetune_reads_a_run_a_filtered_folder_and_every_export(self, model: Path, tmp_path: Path) -> None:
        rows = [row(f"say {a} {b}", b) for a in NAMES for b in ("a", "b", "c", "d")]
        run = write_run(tmp_path / "run", rows)
        assert self.prepared(model, run) == (38, 2)
        filter_dataset(run, FilterSettings(where=("answer != d",)), tmp_path / "kept")
        assert self.prepared(model, tmp_path / "kept") == (28, 2)
        for to, parts in (("mlx-lm", (24, 3)), ("alpaca", (28, 2)), ("sharegpt", (28, 2)), ("parquet", (28, 2))):
            export_dataset(tmp_path / "kept", ExportSettings(to=to), tmp_path / to)
            assert self.prepared(model, tmp_path / to) == parts
        assert len(read_dataset(tmp_path / "mlx-lm").test) == 3

    def test_mlx_lm_loads_its_three_parts(self, tmp_path: Path) -> None:
        class Words:
            def apply_chat_template(self, messages: list[Row], **_: Any) -> list[str]:
                return [word for message in messages for word in (message["role"], *message["content"].split())]

        rows = [with_system("Be kind.", row(f"line\u2028{n}", "a\r\nb")) for n in range(10)]
        export(tmp_path, rows, "mlx-lm")
        arguments = argparse.Namespace(data=str(tmp_path / "out"), train=True, test=True, mask_prompt=True)
        train, valid, test = load_dataset(arguments, Words())
        assert (len(train), len(valid), len(test)) == (8, 1, 1)
        tokens, offset = valid.process(valid[0])
        assert tokens[:3] == ["system", "Be", "kind."] and tokens[offset:] == ["assistant", "a", "b"]
