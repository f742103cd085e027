"""Runs that are steered, have quotas, a mix of settings, or several turns."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.data.questions import Question, Questions
from mlx_suite.engine import Rewind, Sample, Written
from mlx_suite.magpie import make_dataset, replay_row
from mlx_suite.magpie.row import plan_rows
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import read_journal
from mlx_suite.text import Message, encode_chat
from tests.magpie.conftest import QUESTIONS, Loaded


def rows(folder: Path, name: str = "accepted") -> list[dict[str, Any]]:
    return list(read_journal(folder / f"{name}.jsonl"))


def test_quotas_of_tags_are_met_to_the_row(checkpoint: Loaded, tmp_path: Path) -> None:
    summary = checkpoint.make(tmp_path, count=20, quotas=("category:v=0.5,Q=0.3",))
    found = Counter(row["tags"]["category"] for row in rows(tmp_path))

    assert found == {"v": 10, "Q": 6, "1": 4}
    off = [row for row in rows(tmp_path, "rejected") if row["rejection"] == "off_quota_category"]
    assert off and all(row["answer_reason"] is None for row in off)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["quotas"] == {"category": {"v": 10, "Q": 6, "*": 4}}
    said = summary.as_dict()["steered"]["category"]
    assert sum(each["asked"] for each in said.values()) == summary.asked
    assert set(said) == {"v", "Q", "*"}
    assert all(0 < each["accepted"] < each["asked"] for each in said.values())


def test_topics_and_personas_steer_and_do_not_show(checkpoint: Loaded, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("batch", [2, 21])
def test_steering_does_not_depend_on_the_batch(checkpoint: Loaded, tmp_path: Path, batch: int) -> None:
    settings: dict[str, Any] = {"count": 40, "topics": ("a", "b", "c"), "quotas": ("category:v=0.4",)}
    checkpoint.make(tmp_path / "usual", **settings)
    checkpoint.make(tmp_path / "other", batch=batch, **settings)

    for name in ("accepted", "rejected"):
        assert rows(tmp_path / "other", name) == rows(tmp_path / "usual", name)


@pytest.mark.parametrize("said", ["What is ab?", "Question: What is ab?"], ids=["plain", "cleaned"])
def test_a_steered_instruction_is_answered_without_what_steered_it(checkpoint: Loaded, said: str) -> None:
    settings = checkpoint.settings(tags=False, embeddings=False)
    plan = plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, settings)
    program = plan.request(6, (("topic", "cats"),), lambda draft: False).program
    sequence: list[int] = []

    def until_sampled(outcome: Written | None) -> None:
        segment = program.send(outcome)
        while not isinstance(segment, Sample):
            if isinstance(segment, Rewind):
                del sequence[segment.length :]
            else:
                sequence.extend(segment.tokens)
            segment = program.send(None)

    until_sampled(None)
    assert "The user asks about cats." in plan.tokenizer.decode(sequence, skip_special=False)
    asked = tuple(plan.tokenizer.encode(said))
    sequence.extend((*asked, plan.user_end))
    until_sampled(Written(tokens=asked, reason="stop", stop_token=plan.user_end))

    messages = [Message("user", "What is ab?")]
    wanted = encode_chat(plan.tokenizer, plan.template, messages, add_generation_prompt=True).ids
    assert sequence == wanted


def test_a_mix_of_settings_stands_in_the_rows(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path, mix="1.0:1,1.5/0.9:1")
    found = Counter((row["sampling"]["temperature"], row["sampling"]["top_p"]) for row in rows(tmp_path))

    assert set(found) == {(1.0, 1.0), (1.5, 0.9)}


def test_no_instruction_begins_with_what_is_banned(checkpoint: Loaded) -> None:
    settings = checkpoint.settings(ban_first=("a", "?"))
    plan = plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, settings, QUESTIONS)
    asking = plan.asking(SamplingSetting(temperature=1.0)).sampling

    banned = {plan.tokenizer.decode([token]).lstrip()[0] for token in asking.banned_first}
    assert banned == {"a", "?"}
    assert not plan.answering.sampling.banned_first


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


def test_without_tags_and_vectors_nothing_is_asked_aside(checkpoint: Loaded, tmp_path: Path) -> None:
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


def test_a_value_that_never_comes_is_named(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(tmp_path, count=30, quotas=("language:German=0.1",))
    assert caught.value.details == ("language: no question asks for it",)

    category = Question(name="category", about="instruction", text="a?", labels=("a", "v"))  # it writes a much oftener
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
        "category 'v': 10 rows are wanted, and the model hardly gives any: "
        f"0 accepted in {len(made)} rows, 0 of them among the {steered} that were steered to it"
    )
    assert error.fix.startswith("lower that share (--quota category:v=…; the rows stay)")
    assert error.fix.endswith("or go on with --most-asked above 6,000")


def test_a_run_that_may_not_ask_enough_rows_says_so_though_none_was_rejected(
    checkpoint: Loaded, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(tmp_path, count=10, most_asked=1, seed=4)

    assert (len(rows(tmp_path)), rows(tmp_path, "rejected")) == (1, [])
    assert caught.value.what == "1 of 10 rows are made, and 1 have been asked, which is the most"
    assert caught.value.fix == "settle for --count 1; or go on trying with --most-asked above 1"


def test_a_yield_that_foretells_too_many_rows_ends_the_run(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(tmp_path, count=400, most_asked=800)

    assert caught.value.what.startswith(f"{len(rows(tmp_path))} of 400 rows are made, one in ")
    assert "all of them would take" in caught.value.what
    assert len(rows(tmp_path)) + len(rows(tmp_path, "rejected")) == 200
