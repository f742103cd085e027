"""Runs with quotas, steering, a mix of sampling settings, or several turns."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.data.questions import Question, Questions
from mlx_suite.magpie import make_dataset, replay_row
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import read_journal
from tests.magpie.conftest import QUESTIONS, Loaded


def rows(folder: Path, name: str = "accepted") -> list[dict[str, Any]]:
    return list(read_journal(folder / f"{name}.jsonl"))


def test_quotas_on_tags_are_met_exactly(checkpoint: Loaded, tmp_path: Path) -> None:
    summary = checkpoint.make(tmp_path, count=20, quotas=("category:v=0.5,Q=0.3",))
    found = Counter(row["tags"]["category"] for row in rows(tmp_path))

    assert found == {"v": 10, "Q": 6, "1": 4}
    off = [row for row in rows(tmp_path, "rejected") if row["rejection"] == "off_quota_category"]
    assert off and all(row["answer_reason"] is None for row in off)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["quotas"] == {"category": {"v": 10, "Q": 6, "*": 4}}
    steered = summary.as_dict()["steered"]["category"]
    assert sum(each["asked"] for each in steered.values()) == summary.decided
    assert set(steered) == {"v", "Q", "*"}
    assert all(0 < each["accepted"] < each["asked"] for each in steered.values())


def test_topics_and_personas_steer_without_appearing_in_the_messages(checkpoint: Loaded, tmp_path: Path) -> None:
    settings = {"topics": ("cats", "dogs"), "personas": ("a nurse",)}
    checkpoint.make(tmp_path, count=12, **settings)
    accepted = rows(tmp_path)

    assert Counter(row["steer"]["topic"] for row in accepted) == {"cats": 6, "dogs": 6}
    assert {row["steer"]["persona"] for row in accepted} == {"a nurse"}
    assert all([message["role"] for message in row["messages"]] == ["user", "assistant"] for row in accepted)
    row = accepted[3]
    again = replay_row(
        checkpoint.model,
        checkpoint.tokenizer,
        checkpoint.template,
        checkpoint.settings(12, **settings),
        row["index"],
        row["steer"],
        QUESTIONS,
    )
    assert again == {key: value for key, value in row.items() if key != "nearest"}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, 21])
def test_steering_does_not_depend_on_the_batch_size(checkpoint: Loaded, tmp_path: Path, batch: int) -> None:
    settings: dict[str, Any] = {"count": 40, "topics": ("a", "b", "c"), "quotas": ("category:v=0.4",)}
    checkpoint.make(tmp_path / "usual", **settings)
    checkpoint.make(tmp_path / "other", batch=batch, **settings)

    for name in ("accepted", "rejected"):
        assert rows(tmp_path / "other", name) == rows(tmp_path / "usual", name)


def test_a_mix_of_sampling_settings_is_recorded_in_the_rows(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path, mix="1.0:1,1.5/0.9:1")
    found = Counter((row["sampling"]["temperature"], row["sampling"]["top_p"]) for row in rows(tmp_path))

    assert set(found) == {(1.0, 1.0), (1.5, 0.9)}


def test_conversations_have_several_turns(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path / "long", count=10, turns=3)
    lengths = [len(row["messages"]) for row in rows(tmp_path / "long")]
    plain = {row["index"]: row for row in rows_of_one_turn(checkpoint, tmp_path / "short")}

    assert max(lengths) == 6
    assert all(length in (2, 4, 6) for length in lengths)
    for row in rows(tmp_path / "long"):
        assert row["messages"][:2] == plain[row["index"]]["messages"]


def rows_of_one_turn(checkpoint: Loaded, folder: Path) -> list[dict[str, Any]]:
    checkpoint.make(folder, count=10)
    return rows(folder)


def test_no_query_is_run_without_tags_and_embeddings(checkpoint: Loaded, tmp_path: Path) -> None:
    summary = checkpoint.make(tmp_path, count=5, tags=False, embeddings=False)

    assert summary.work is not None and summary.work.screening == summary.work.grading == 0
    assert not any("tags" in row or "nearest" in row for row in rows(tmp_path))
    assert not (tmp_path / "embeddings.npy").exists()
    with pytest.raises(UserError) as caught:
        checkpoint.settings(tags=False, quotas=("category:v=0.5",), min_input_quality="good")
    assert caught.value.details == (
        "min_input_quality needs tags, which are off",
        "the quota of category needs tags, which are off",
    )


def test_a_quota_value_that_the_model_never_writes_is_reported(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(tmp_path, count=30, quotas=("language:German=0.1",))
    assert caught.value.details == ("language: no question asks for it",)

    category = Question(name="category", about="instruction", text="a?", labels=("a", "v"))  # "a" is far more likely
    questions = Questions(listening="?", questions=(category,))
    settings = checkpoint.settings(count=100, patience=60, quotas=("category:v=0.1",))
    with pytest.raises(UserError) as caught:
        make_dataset(
            checkpoint.model, checkpoint.tokenizer, checkpoint.template, settings, tmp_path, questions=questions
        )
    error = caught.value
    made = rows(tmp_path) + rows(tmp_path, "rejected")
    steered = sum(row["steer"]["category"] == "v" for row in made)
    assert 60 <= steered < len(made) < 400
    assert error.what == (
        "category 'v': 10 rows are required, but the model hardly writes any: "
        f"0 accepted in {len(made)} rows, 0 of them among the {steered} steered to it"
    )
    assert error.fix.startswith("lower that share (--quota category:v=…; the rows stay)")
    assert error.fix.endswith("or continue with --most-asked above 6,000")


def test_reaching_most_asked_is_reported_even_if_no_row_was_rejected(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(tmp_path, count=10, most_asked=1, seed=4)

    assert (len(rows(tmp_path)), rows(tmp_path, "rejected")) == (1, [])
    assert caught.value.what == "1 of 10 rows are accepted, and 1 were generated, the maximum"
    assert caught.value.fix == "settle for --count 1; or continue with --most-asked above 1"


def test_a_yield_that_projects_too_many_rows_stops_the_run(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(tmp_path, count=400, most_asked=800)

    assert caught.value.what.startswith(f"{len(rows(tmp_path))} of 400 rows are accepted, one in ")
    assert "all of them would take" in caught.value.what
    assert len(rows(tmp_path)) + len(rows(tmp_path, "rejected")) == 200
