"""Reading examples from files, folders and the hub; all problems are reported together."""

import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.dataset import Dataset, FileReport, fingerprint, read_dataset, write_report
from mlx_suite.data.example import Example
from mlx_suite.data.read import hub as hub_dataset
from mlx_suite.data.read.records import NULL_WORDS, Problem
from mlx_suite.data.read.sources import part_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message

Row = dict[str, Any]


def text_file(folder: Path, name: str, *texts: str) -> Path:
    """Write a JSON Lines file of plain texts."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def texts(examples: Sequence[Example]) -> list[str | None]:
    return [example.text for example in examples]


def refused(source: str | Path, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        read_dataset(source, **options)
    return caught.value


class TestOneFile:
    def test_its_rows_are_for_training_and_its_format_is_reported(self, tmp_path: Path) -> None:
        dataset = read_dataset(text_file(tmp_path, "a.jsonl", "one", "two"))
        assert dataset == Dataset(
            train=(Example(text="one", place="a.jsonl:1"), Example(text="two", place="a.jsonl:2")),
            files=(FileReport(name="a.jsonl", format="text", rows=2, bad=0),),
        )

    def test_the_format_can_be_specified(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "one", "prompt": "Why?", "completion": "So."}\n')
        assert read_dataset(path).files[0].format == "completion"
        assert texts(read_dataset(path, format="text").train) == ["one"]

    def test_the_error_for_an_unknown_format_suggests_the_nearest(self, tmp_path: Path) -> None:
        error = refused(text_file(tmp_path, "a.jsonl", "one"), format="sharegtp")
        assert (error.what, error.fix) == ("there is no format 'sharegtp'", "did you mean sharegpt?")

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
    def test_an_empty_file_is_an_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("")
        error = refused(tmp_path / name, skip_bad=True)
        assert error.what == "There is a problem with the data, and nothing is left to train on"
        assert error.details == (f"{name}: the file has no rows",)

    def test_a_file_without_known_keys_is_one_problem_not_one_per_row(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("front,back\nWhy?,So.\nHow?,Thus.\n")
        error = refused(tmp_path / "a.csv")
        assert len(error.details) == 1
        assert error.details[0].startswith('a.csv: no known format: found the keys "front", "back"; expected one of')

    def test_the_error_for_a_missing_path_suggests_a_similar_one(self, tmp_path: Path) -> None:
        text_file(tmp_path, "train.jsonl", "one")
        error = refused(tmp_path / "trian.jsonl")
        assert (error.what, error.fix) == (
            "there is no such file or folder",
            f"did you mean {tmp_path / 'train.jsonl'}?",
        )


class TestProblems:
    DEFECTS = (
        '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}',
        '{"messages": [{"role": "user", "content": "Why?"} {"role": "assistant", "content": "So."}]}',
        "",
        '{"messages": [{"role": "user", "content": "Why?"}, {"role": "robot", "content": "So."}]}',
        '{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": null}]}',
        '{"messages": [{"role": "user", "content": "Why?"}]}',
        '{"messages": [{"role": "assistant", "content": "So."}]}',
        '{"prompt": "Why?", "completion": "So."}',
        '["Why?", "So."]',
    )
    REPORTED = (
        "a.jsonl:2: column 51: Expecting ',' delimiter, near "
        + '…\'er", "content": "Why?"} {"role": "assistant", "c\'…',
        "a.jsonl:4: turn 2: unknown \"role\" 'robot'; expected system, user, assistant or tool",
        'a.jsonl:5: turn 1, "content" is empty; expected text',
        'a.jsonl:5: turn 2, "content" is null; expected text',
        "a.jsonl:6: there is no assistant turn; expected a response to learn",
        "a.jsonl:7: there is nothing before the response; expected an instruction",
        'a.jsonl:8: expected messages, {"messages": [{"role": …, "content": …}, …]}; '
        'found the keys "prompt", "completion"',
        'a.jsonl:9: the record is a list; expected an object, {"name": value, …}',
    )

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "a.jsonl"
        path.write_text("\n".join(self.DEFECTS) + "\n")
        return path

    def test_all_problems_are_reported_together_with_file_and_line(self, path: Path) -> None:
        error = refused(path)
        assert error.what == "There are 8 problems with the data"
        assert error.where == str(path)
        assert error.details == self.REPORTED
        assert error.fix == "fix them, or skip these rows with --skip-bad"

    def test_bad_rows_can_be_skipped_and_are_returned(self, path: Path) -> None:
        dataset = read_dataset(path, skip_bad=True)
        assert [example.place for example in dataset.train] == ["a.jsonl:1"]
        assert dataset.files == (FileReport(name="a.jsonl", format="messages", rows=1, bad=7),)
        assert tuple(map(str, dataset.problems)) == self.REPORTED

    def test_problems_of_all_files_are_reported_together(self, tmp_path: Path) -> None:
        (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": 1}\n')
        (tmp_path / "valid.csv").write_text("text\ntwo\nthree,four\n")
        (tmp_path / "test.json").write_text('[\n{"text": "five"},\n{"text": ""}\n]')
        assert refused(tmp_path).details == (
            'test.json:3: "text" is empty; expected text',
            'train.jsonl:2: "text" is the number 1; expected text',
            "valid.csv:3: 2 cells; expected 1, as in the header (text)",
        )

    def test_at_most_twenty_problems_are_shown(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, "a.jsonl", "one", *[""] * 1500)
        details = refused(path).details
        assert (len(details), details[-2:]) == (21, ('a.jsonl:21: "text" is empty; expected text', "and 1,480 more"))

    def test_skipping_is_not_suggested_if_every_row_is_bad(self, tmp_path: Path) -> None:
        error = refused(text_file(tmp_path, "a.jsonl", "", ""), skip_bad=True)
        assert error.what == "There are 2 problems with the data, and nothing is left to train on"
        assert error.fix == "fix them"

    def test_a_report_has_a_line_for_each_problem(self, tmp_path: Path) -> None:
        write_report([Problem("a.jsonl:2", "naïve"), Problem("a.jsonl:3", "so")], tmp_path / "bad_rows.jsonl")
        assert (tmp_path / "bad_rows.jsonl").read_text(encoding="utf-8") == (
            '{"place": "a.jsonl:2", "problem": "naïve"}\n{"place": "a.jsonl:3", "problem": "so"}\n'
        )


class TestFolders:
    def test_file_names_give_the_purpose(self, tmp_path: Path) -> None:
        for name in ("train", "validation", "test"):
            text_file(tmp_path, f"{name}.jsonl", name)
        dataset = read_dataset(tmp_path)
        assert [texts(part) for part in (dataset.train, dataset.valid, dataset.test)] == [
            ["train"],
            ["validation"],
            ["test"],
        ]

    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("train.jsonl", "train"),
            ("training-2.csv", "train"),
            ("alpaca_train.json", "train"),
            ("dev.jsonl", "valid"),
            ("val_0.jsonl", "valid"),
            ("data/validation-00000-of-00001.parquet", "valid"),
            ("data/test_sft-00000-of-00001-f7.parquet", "test"),
            ("train/0.parquet", "train"),
            ("testimonials.jsonl", ""),
            ("developers/values.jsonl", ""),
        ],
    )
    def test_the_purpose_must_be_a_complete_word_of_the_name(self, name: str, part: str) -> None:
        assert part_of(name) == part

    def test_other_files_next_to_a_training_file_are_reported_as_not_read(self, tmp_path: Path) -> None:
        text_file(tmp_path, "train.jsonl", "one")
        text_file(tmp_path, "notes.jsonl", "two")
        dataset = read_dataset(tmp_path)
        assert texts(dataset.train) == ["one"]
        assert [(file.name, file.format, file.part) for file in dataset.files] == [
            ("notes.jsonl", "not read", "unused"),
            ("train.jsonl", "text", "train"),
        ]

    def test_only_the_accepted_rows_of_a_magpie_folder_are_read(self, tmp_path: Path) -> None:
        row = {"id": "5d-000000", "messages": [{"role": "user", "content": "Why?"}], "answer_reason": "stop"}
        row["messages"].append({"role": "assistant", "content": "So."})  # type: ignore[attr-defined]
        (tmp_path / "accepted.jsonl").write_text(json.dumps(row) + "\n")
        (tmp_path / "rejected.jsonl").write_text('{"rejection": "limit"}\n')
        (tmp_path / "settings.json").write_text("{}")
        dataset = read_dataset(tmp_path)
        assert [example.messages[1].content for example in dataset.train] == ["So."]
        assert dataset.files[0] == FileReport(
            name="accepted.jsonl", format="messages", rows=1, bad=0, unread={"answer_reason": 1, "id": 1}
        )

    def test_files_with_other_names_are_all_for_training_each_in_its_own_format(self, tmp_path: Path) -> None:
        text_file(tmp_path, "b.jsonl", "one")
        (tmp_path / "a.csv").write_text("prompt,completion\nWhy?,So.\n")
        (tmp_path / "README.txt").write_text("Not an example.")
        dataset = read_dataset(tmp_path)
        assert [(file.name, file.format) for file in dataset.files] == [("a.csv", "completion"), ("b.jsonl", "text")]
        assert [example.place for example in dataset.train] == ["a.csv:2", "b.jsonl:1"]

    def test_subfolders_are_searched_only_if_the_folder_has_no_data_itself(self, tmp_path: Path) -> None:
        text_file(tmp_path, "data/train-00000-of-00001.jsonl", "below")
        text_file(tmp_path, ".cache/train.jsonl", "hidden")
        assert texts(read_dataset(tmp_path).train) == ["below"]
        text_file(tmp_path, "one.jsonl", "above")
        assert texts(read_dataset(tmp_path).train) == ["above"]

    def test_validation_examples_can_come_from_another_path(self, tmp_path: Path) -> None:
        text_file(tmp_path, "data/train.jsonl", "one")
        text_file(tmp_path, "data/valid.jsonl", "two")
        other = text_file(tmp_path, "other.jsonl", "three")
        dataset = read_dataset(tmp_path / "data", valid=str(other))
        assert (texts(dataset.train), texts(dataset.valid)) == (["one"], ["three"])
        assert texts(read_dataset(other, valid=tmp_path / "data").valid) == ["two"]

    def test_a_folder_without_training_data_is_an_error(self, tmp_path: Path) -> None:
        assert refused(tmp_path).what == "the folder has no data that can be read"
        text_file(tmp_path, "valid.jsonl", "one")
        assert refused(tmp_path).fix == "name one train, for example train.jsonl; found: valid.jsonl"

    def test_arrow_files_of_the_datasets_library_are_recognised(self, tmp_path: Path) -> None:
        (tmp_path / "state.json").write_text("{}")
        (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"")
        assert refused(tmp_path).fix == "convert its Arrow files with the `datasets` library: dataset.to_parquet(…)"


def no_network(self: object, repo: str, **options: object) -> None:
    raise httpx2.ConnectError("no route")


class TestHub:
    @pytest.fixture
    def served(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
        """Calls of the hub client, which returns a folder of three files."""
        calls: list[Row] = []

        def snapshot(repo: str, **options: Any) -> str:
            calls.append({"repo": repo, **options})
            return str(tmp_path / "snapshot")

        text_file(tmp_path, "snapshot/data/train-00000-of-00002.jsonl", "one")
        text_file(tmp_path, "snapshot/data/train-00001-of-00002.jsonl", "two")
        text_file(tmp_path, "snapshot/data/test-00000-of-00001.jsonl", "three")
        (tmp_path / "snapshot/dataset_infos.json").write_text("{}")
        monkeypatch.setattr(hub_dataset, "snapshot_download", snapshot)
        monkeypatch.chdir(tmp_path)
        return calls

    def test_a_dataset_is_downloaded_without_its_code_and_read_as_a_folder(self, served: list[Row]) -> None:
        dataset = read_dataset("lab/texts@v1")
        assert (texts(dataset.train), texts(dataset.test)) == (["one", "two"], ["three"])
        assert dataset.train[1].place == "data/train-00001-of-00002.jsonl:1"
        [call] = served
        assert (call["repo"], call["repo_type"], call["revision"]) == ("lab/texts", "dataset", "v1")
        assert "*.parquet" in call["allow_patterns"] and "*.jsonl.gz" in call["allow_patterns"]

    def test_of_a_configuration_only_its_files_are_downloaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[list[str]] = []
        names = [f"{config}/{part}.jsonl" for config in ("main", "socratic") for part in ("train", "test", "other")]

        def snapshot(repo: str, *, allow_patterns: list[str], **options: Any) -> str:
            calls.append(allow_patterns)
            for name in names:
                if name in allow_patterns:
                    text_file(tmp_path, f"snapshot/{name}", name)
            return str(tmp_path / "snapshot")

        listed = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in ["README.md", *names]])
        monkeypatch.setattr(hub_dataset, "snapshot_download", snapshot)
        monkeypatch.setattr(hub_dataset.HfApi, "dataset_info", lambda self, repo, **options: listed)
        monkeypatch.chdir(tmp_path)
        dataset = read_dataset("lab/texts:socratic")
        assert calls == [["README.md"], ["README.md", "socratic/test.jsonl", "socratic/train.jsonl"]]
        assert (texts(dataset.train), texts(dataset.test)) == (["socratic/train.jsonl"], ["socratic/test.jsonl"])
        calls.clear()
        assert "no configuration 'socratik'" in refused("lab/texts:socratik").what
        assert calls == [["README.md"]]

        # Without a network, a copy that holds only this configuration is enough.
        monkeypatch.setattr(hub_dataset.HfApi, "dataset_info", no_network)
        assert texts(read_dataset("lab/texts:socratic").train) == ["socratic/train.jsonl"]

    def test_an_existing_path_takes_precedence(self, served: list[Row], tmp_path: Path) -> None:
        text_file(tmp_path, "lab/texts/train.jsonl", "mine")
        assert texts(read_dataset("lab/texts").train) == ["mine"]
        assert not served

    def test_a_missing_file_is_not_requested_from_the_hub(self, served: list[Row]) -> None:
        assert refused("lab/train.jsonl").what == "there is no such file or folder"
        assert not served

    @pytest.mark.parametrize(
        ("error", "what", "fix"),
        [
            (RepositoryNotFoundError, "the hub has no such dataset that you may read", "did you mean snapshot/data?"),
            (
                GatedRepoError,
                "the dataset is gated",
                "accept its terms on https://huggingface.co/datasets/snapshot/date",
            ),
            (RevisionNotFoundError, "the dataset has no branch, tag or commit 'main'", "choose one from"),
        ],
    )
    def test_rejections_by_the_hub_are_explained(
        self,
        served: list[Row],
        monkeypatch: pytest.MonkeyPatch,
        error: Callable[..., Exception],
        what: str,
        fix: str,
    ) -> None:
        response = httpx2.Response(404, request=httpx2.Request("GET", "https://huggingface.co/secret?token=hf_1"))
        self.fail(monkeypatch, error("not here", response=response))
        caught = refused("snapshot/date")
        assert what in caught.what and fix in caught.fix
        assert "hf_1" not in str(caught)

    @pytest.mark.parametrize(
        ("error", "what"),
        [
            (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE forbids downloading it"),
            (httpx2.ConnectError("no route"), "the hub cannot be reached (no route)"),
            (OSError(28, "No space left on device"), "the disk is full"),
            (OSError(13, "Permission denied"), "the Hugging Face cache is not writable"),
            (ValueError("<html>"), "downloading the dataset failed: <html>"),
        ],
    )
    def test_download_failures_are_explained(
        self, served: list[Row], monkeypatch: pytest.MonkeyPatch, error: Exception, what: str
    ) -> None:
        self.fail(monkeypatch, error)
        assert what in refused("lab/texts").what

    def fail(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def snapshot(repo: str, **options: Any) -> str:
            raise error

        monkeypatch.setattr(hub_dataset, "snapshot_download", snapshot)


class TestFingerprint:
    DATASET = Dataset(train=(Example(text="one", place="a:1"), Example(text="two", place="a:2")))

    def test_it_depends_on_the_content_not_the_file(self) -> None:
        elsewhere = tuple(replace(example, place="b") for example in self.DATASET.train)
        assert fingerprint(self.DATASET) == fingerprint(Dataset(train=elsewhere))

    @pytest.mark.parametrize(
        "train",
        [
            (Example(text="two"), Example(text="one")),
            (Example(text="one"),),
            (
                Example(text="one"),
                Example(text="two "),
            ),
            (Example(text="one"), Example(text="two", context="three")),
            (Example(text="one"), Example(messages=(Message("user", "two"),))),
        ],
    )
    def test_it_changes_with_the_content(self, train: tuple[Example, ...]) -> None:
        assert fingerprint(self.DATASET) != fingerprint(Dataset(train=train))

    def test_it_changes_with_the_trained_responses_and_the_validation_split(self) -> None:
        rows = tuple(Example(messages=(Message("assistant", "So.", trained),)) for trained in (True, False))
        assert fingerprint(Dataset(train=rows[:1])) != fingerprint(Dataset(train=rows[1:]))
        one, two = self.DATASET.train
        assert fingerprint(self.DATASET) != fingerprint(Dataset(train=(one,), valid=(two,)))


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write rows in the file format of the suffix."""
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8", newline="")
        case ".json":
            path.write_text(json.dumps(rows, indent=2))
        case ".csv" | ".tsv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                writer.writerow(rows[0])
                cells = ([v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in rows)
                writer.writerows(cells)
        case ".parquet":
            pyarrow = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


CONTENT = st.text(min_size=1, max_size=30).filter(lambda text: bool(text.strip()) and text.strip() not in NULL_WORDS)
PAIRS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=6)
AS_ROWS: dict[str, Callable[[str, str], Row]] = {
    "messages": lambda question, answer: {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    },
    "sharegpt": lambda question, answer: {
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    },
    "alpaca": lambda question, answer: {"instruction": question, "input": "", "output": answer},
    "completion": lambda question, answer: {"prompt": question, "completion": answer},
}


@pytest.mark.parametrize("format", AS_ROWS)
@given(pairs=PAIRS)
@settings(max_examples=25, deadline=None)
def test_every_file_type_gives_the_same_examples_for_the_same_rows(format: str, pairs: list[tuple[str, str]]) -> None:
    rows = [AS_ROWS[format](*pair) for pair in pairs]
    expected = [(Message("user", question), Message("assistant", answer)) for question, answer in pairs]
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("jsonl", "json", "csv", "tsv", "parquet"):
            path = Path(folder) / f"rows.{suffix}"
            write(path, rows)
            dataset = read_dataset(path)
            assert [example.messages for example in dataset.train] == expected
            assert dataset.files[0].format == format


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["user", "gpt", "None", "", "Why?"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "weight", "tool_calls"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
KEYS = [
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "prompt",
    "completion",
    "text",
    "system",
    "tools",
]


@given(rows=st.lists(st.dictionaries(st.sampled_from(KEYS), JSON_VALUES, max_size=4), max_size=4))
@settings(max_examples=150, deadline=None)
def test_random_rows_are_examples_or_problems_but_never_a_crash(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, rows)
        try:
            dataset = read_dataset(path, skip_bad=True)
        except UserError as error:
            assert error.details
        else:
            [file] = dataset.files
            assert file.rows + file.bad == len(rows)
            assert file.rows == len(dataset.train) > 0
            assert all(message.content.strip() for example in dataset.train for message in example.messages)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet", "txt", "jsonl.gz"])
@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]":,;\n\t\r a1\\té"\'', max_size=60).map(str.encode))
@settings(max_examples=50, deadline=None)
def test_random_bytes_are_a_dataset_or_a_problem_but_never_a_crash(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{suffix}"
        path.write_bytes(content)
        try:
            assert read_dataset(path).train
        except UserError as error:
            assert error.details
