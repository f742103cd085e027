"""Tagging a dataset: the rows written, and resuming a run that was killed."""

import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_suite import load
from mlx_suite.curation.tags.settings import TagSettings
from mlx_suite.curation.tags.tag_dataset import Models, TagRun, tag_rows
from mlx_suite.curation.tags.tagging import make_tagger
from mlx_suite.data.questions import Question, Questions
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer, load_chat_template

QUESTIONS = Questions(
    listening="Yes?",
    questions=(
        Question(name="category", about="instruction", text="What kind?", labels=("Math", "Editing", "Others")),
        Question(name="answer_quality", about="answer", text="Good?", labels=("poor", "good")),
    ),
)
ROWS: list[dict[str, Any]] = [
    {
        "id": number,
        "messages": [
            {"role": "user", "content": f"What is {number} + 1?"},
            {"role": "assistant", "content": f"{number}"},
        ],
        "tags": {"category": "Art", "mood": "merry"},
        "confidence": {"category": 0.5},
    }
    for number in range(6)
]


@pytest.fixture(scope="module")
def loaded() -> ChatModel:
    return load_chat()


def load_chat() -> ChatModel:
    folder = Path(__file__).parents[3] / "models" / "tiny-llama3"
    model, tokenizer = load(folder)
    return ChatModel(model=model, tokenizer=tokenizer, template=load_chat_template(folder), name="tiny-llama3")


@pytest.fixture
def tag(loaded: ChatModel, tmp_path: Path) -> Callable[..., TagRun]:
    def run(rows: list[dict[str, Any]] = ROWS, **changes: Any) -> TagRun:
        on_progress = changes.pop("on_progress", lambda part, done, total: None)
        models = Models(main=lambda: loaded, base=lambda: (loaded.model, loaded.tokenizer))
        return tag_rows(rows, models, QUESTIONS, TagSettings(**changes), tmp_path / "tagged.jsonl", on_progress)

    return run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "tagged.jsonl").read_text().splitlines()]


def test_rows_keep_their_fields_and_get_tags_confidence_and_scores(tag: Callable[..., TagRun], tmp_path: Path) -> None:
    run = tag(scores=("ifd", "reward_difference"))

    first = lines(tmp_path)[0]
    assert (first["id"], first["messages"], first["tags"]["mood"]) == (0, ROWS[0]["messages"], "merry")
    assert first["tags"]["category"] in ("Math", "Editing", "Others")
    assert first["tags"]["answer_quality"] in ("poor", "good")
    assert 1 / 3 <= first["confidence"]["category"] <= 1 and 1 / 2 <= first["confidence"]["answer_quality"] <= 1
    assert sorted(first["scores"]) == ["ifd", "reward_difference"] and first["scores"]["ifd"] > 0
    assert run.rows == tuple(lines(tmp_path)) and run.reused == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tagged.jsonl", "tagged.settings.json"]


def query_tokens(chat: ChatModel) -> int:
    """Number of tokens of both questions."""
    tagger = make_tagger(chat.tokenizer, chat.own_template, QUESTIONS, embed=False)
    return sum(len(query.tokens) for query in (*tagger.instruction.queries, *tagger.answer.queries))


def test_a_row_is_prefilled_once_and_the_questions_are_queried_on_forks(
    tag: Callable[..., TagRun], loaded: ChatModel
) -> None:
    encoded = loaded.encode(ROWS[0]["messages"])
    assert not isinstance(encoded, str)

    stats = tag(ROWS[:1]).stats

    # The last token of the row is fed with the questions.
    assert stats.prefilled == len(encoded.ids) - 1
    assert stats.queried == query_tokens(loaded)
    assert (stats.sampled, stats.steps) == (0, 0)


class Killed(BaseException):
    """An exception that no code catches."""


@pytest.mark.parametrize(("part", "after"), [("tags", 0), ("tags", 2), ("own", 0), ("own", 6)])
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(
    part: str, after: int, tag: Callable[..., TagRun], tmp_path: Path
) -> None:
    tag(scores=("ifd",))
    uninterrupted = (tmp_path / "tagged.jsonl").read_bytes()
    (tmp_path / "tagged.jsonl").unlink()

    def kill(now: str, done: int, total: int) -> None:
        if (now, done) == (part, after):
            raise Killed

    with pytest.raises(Killed):
        tag(scores=("ifd",), on_progress=kill)
    assert not (tmp_path / "tagged.jsonl").exists()
    with (tmp_path / "tagged.unfinished.jsonl").open("ab") as file:
        file.write(b'{"key": "half a li')
    begun: dict[str, int] = {}

    tag(scores=("ifd",), on_progress=lambda now, done, total: begun.setdefault(now, done) and None)

    assert begun == {"tags": after if part == "tags" else 6, "own": after if part == "own" else 0}
    assert (tmp_path / "tagged.jsonl").read_bytes() == uninterrupted
    assert not (tmp_path / "tagged.unfinished.jsonl").exists()


def test_a_run_killed_before_its_first_line_resumes(tag: Callable[..., TagRun], tmp_path: Path) -> None:
    (tmp_path / "tagged.unfinished.jsonl").touch()  # created and locked before the settings are written
    assert len(tag(ROWS[:1]).rows) == 1


@pytest.mark.parametrize("name", ["tagged.jsonl", "tagged.unfinished.jsonl"])
def test_a_malformed_line_is_reported(name: str, tag: Callable[..., TagRun], tmp_path: Path) -> None:
    tag(ROWS[:1])
    with (tmp_path / name).open("a") as file:
        file.write('{"part": "tags"}\n')
    with pytest.raises(UserError) as caught:
        tag(ROWS[:1])
    assert caught.value.where == f"{tmp_path / name}:{2 if name == 'tagged.jsonl' else 1}"


def test_rows_that_are_added_or_moved_cost_only_the_new_ones(tag: Callable[..., TagRun], tmp_path: Path) -> None:
    tag(ROWS[:4])
    first = lines(tmp_path)

    grown = tag([ROWS[5], *reversed(ROWS[:4])])
    assert grown.reused == 4
    assert lines(tmp_path)[1:] == first[::-1]
    again = tag([ROWS[5], *reversed(ROWS[:4])])
    assert (again.reused, again.stats.queried) == (5, 0)


def test_equal_rows_are_tagged_once(tag: Callable[..., TagRun], loaded: ChatModel, tmp_path: Path) -> None:
    run = tag([ROWS[0], {**ROWS[0], "id": "twin"}, ROWS[1]])

    one, twin, _ = lines(tmp_path)
    assert {**one, "id": "twin"} == twin
    assert run.stats.queried == 2 * query_tokens(loaded)


def test_another_model_or_other_settings_are_refused_and_listed(
    tag: Callable[..., TagRun], loaded: ChatModel, tmp_path: Path
) -> None:
    tag(ROWS[:1])
    with pytest.raises(UserError) as error:
        tag(ROWS[:1], only=("category",), scores=("ifd",))
    assert [detail.split(":")[0] for detail in error.value.details] == ["questions", "asked", "scores"]
    assert lines(tmp_path)[0]["tags"]["mood"] == "merry"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tagged.jsonl", '{"mine": 1}\n', "it is missing"),
        ("tagged.settings.json", '{"kind": "mlx-suite answers"}', "it was not written by this command"),
        ("tagged.settings.json", "{", "it cannot be read"),
    ],
)
def test_unrelated_files_are_left_alone(
    name: str, content: str, problem: str, tag: Callable[..., TagRun], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        tag()
    assert f"tagged.settings.json does not record the settings of this run: {problem}" in error.value.what
    assert (tmp_path / name).read_text() == content
    assert len(list(tmp_path.iterdir())) == 1


def test_rows_too_long_or_without_an_instruction_are_written_with_the_reason(loaded: ChatModel, tmp_path: Path) -> None:
    small = replace(loaded, max_context=60)
    long, silent = {"messages": [{"role": "user", "content": "one two " * 30}]}, {"messages": [ROWS[0]["messages"][1]]}
    rows = [ROWS[0], long, silent]

    tag_rows(rows, Models(main=lambda: small), QUESTIONS, TagSettings(scores=("ifd",)), tmp_path / "t.jsonl")

    written = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row.get("untagged") for row in written] == [None, "too_long", "no_instruction"]
    assert [sorted(row) for row in written[1:]] == [["messages", "untagged"]] * 2


def test_a_base_model_of_equal_weights_gives_a_difference_of_zero(tag: Callable[..., TagRun], tmp_path: Path) -> None:
    tag(ROWS[:2], only=("none",), scores=("reward_difference",), base="the same")

    assert [row["scores"] for row in lines(tmp_path)] == [{"reward_difference": 0.0}] * 2
    assert [row["tags"] for row in lines(tmp_path)] == [ROWS[0]["tags"]] * 2


def test_the_main_model_is_freed_before_the_base_model_is_loaded(loaded: ChatModel, tmp_path: Path) -> None:
    main: list[weakref.ref[Any]] = []

    def load_main() -> ChatModel:
        chat = load_chat()
        main.append(weakref.ref(chat.model))
        return chat

    def load_base() -> tuple[Any, Tokenizer]:
        gc.collect()
        assert main[0]() is None
        return loaded.model, loaded.tokenizer

    settings = TagSettings(scores=("reward_difference",), base="the same")
    run = tag_rows(ROWS[:1], Models(main=load_main, base=load_base), QUESTIONS, settings, tmp_path / "tagged.jsonl")
    assert run.rows[0]["scores"] == {"reward_difference": 0.0}


def test_a_base_model_with_another_vocabulary_is_refused(loaded: ChatModel, tmp_path: Path) -> None:
    gemma, words = load(Path(__file__).parents[3] / "models" / "tiny-gemma2")
    models = Models(main=lambda: loaded, base=lambda: (gemma, words))
    with pytest.raises(UserError, match="The base model has a different vocabulary: token 4 is"):
        tag_rows(
            ROWS[:1], models, QUESTIONS, TagSettings(scores=("reward_difference",), base="gemma"), tmp_path / "t.jsonl"
        )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scores": ("ifd", "mood")}, ["unknown score 'mood': use ifd, reward, reward_difference"]),
        ({"scores": ("reward",)}, ["reward needs a reward model"]),
        ({"only": ("none",)}, ["there is nothing to do: no questions and no scores"]),
        (
            {"reward_model": "one", "base": "other", "scores": ("ifd",)},
            [
                "a reward model is given but none of its scores: add reward to the scores",
                "a base model is given but not its score: add reward_difference to the scores",
                "both a base model and a reward model are given: reward_difference uses only one",
            ],
        ),
    ],
)
def test_all_conflicts_between_settings_are_reported(settings: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(UserError) as error:
        TagSettings(**settings)
    assert list(error.value.details) == expected


def test_the_parts_follow_from_the_scores() -> None:
    def parts(**settings: Any) -> tuple[str, ...]:
        return TagSettings(**settings).parts

    assert parts() == ("tags",)
    assert parts(scores=("ifd",), only=("none",)) == ("own",)
    assert parts(scores=("reward_difference",)) == ("tags", "own")
    assert parts(scores=("reward_difference",), base="b") == ("tags", "own", "base")
    assert parts(scores=("reward_difference",), reward_model="r") == ("tags", "reward")
    assert parts(scores=("reward", "ifd"), reward_model="r") == ("tags", "own", "reward")
