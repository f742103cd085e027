"""The reason of a row, from drafts that nobody has generated."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_suite.curation.reasons import REASONS, stage_of
from mlx_suite.curation.tags.tagging import Tag
from mlx_suite.magpie.decide import Judge, Verdict
from mlx_suite.magpie.draft import Draft, Ending
from mlx_suite.magpie.record import Recorder
from mlx_suite.magpie.row import plan_rows
from mlx_suite.runtime.errors import UserError
from tests.magpie.conftest import QUESTIONS, Loaded

MakeJudge = Callable[..., Judge]


@pytest.fixture
def judge(checkpoint: Loaded) -> MakeJudge:
    """A judge with settings of its own, before the first row."""

    def make(**settings: Any) -> Judge:
        asked = checkpoint.settings(**settings)
        return Judge(plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, asked, QUESTIONS))

    return make


def tags(**labels: str) -> dict[str, Tag]:
    return {name: Tag(label=label, confidence=0.5) for name, label in labels.items()}


def whole(judge: Judge, index: int, text: str, **changes: Any) -> Draft:
    """A row with all that can be known of it and nothing wrong."""
    ended = Ending(reason="stop", stop=judge.plan.user_end, tokens=3)
    vector = np.zeros(4, np.float32)
    vector[index % 4] = 1.0
    draft = Draft(
        index=index,
        raw=text,
        instruction=text,
        asked=ended,
        tags=tags(category="v", input_quality="good", safety="safe"),
        embedding=vector,
        answer="So.",
        answered=ended,
        answer_tags=tags(answer_quality="good"),
    )
    return replace(draft, **changes)


def reasons(judge: Judge, *drafts: Draft) -> list[str | None]:
    verdicts = [judge.decide(draft) for draft in drafts]
    assert None not in verdicts
    return [verdict.reason for verdict in verdicts if verdict is not None]


def test_rows_that_are_new_are_accepted(judge: MakeJudge) -> None:
    one = judge()
    assert reasons(one, whole(one, 0, "Why is the sky blue?"), whole(one, 1, "Name three rivers.")) == [None, None]
    assert one.decide(whole(one, 2, "Who is Ada?")) == Verdict(nearest=(0, 0.0))


def test_the_first_reason_that_holds_is_the_reason(judge: MakeJudge) -> None:
    one = judge(min_input_quality="average")
    first = whole(one, 0, "Please tell me why the sky is blue in the daytime.")
    again = "please tell me why the sky is  blue in the daytime."
    nearly = "Please tell me why the sky is so blue in the daytime."
    poor = tags(category="v", input_quality="poor", safety="unsafe")
    cut = Ending(reason="limit", stop=None, tokens=12)

    assert reasons(
        one,
        first,
        whole(one, 1, again, asked=cut),
        whole(one, 2, again, tags=poor),
        whole(one, 3, nearly, tags=poor),
        whole(one, 4, "Name a river.", tags=poor),
        whole(one, 5, "Name a lake.", tags=tags(category="v", input_quality="good", safety="unsafe")),
        whole(one, 6, "Name a sea.", answered=Ending(reason="context", stop=None, tokens=9)),
    ) == [None, "instruction_limit", "duplicate", "near_duplicate", "low_quality", "unsafe", "answer_context"]


def test_grading_comes_last(judge: MakeJudge) -> None:
    one = judge(min_answer_quality="good")
    poor = whole(one, 0, "Name a river.", answer_tags=tags(answer_quality="poor"))
    cut = whole(one, 1, "Name a lake.", answered=Ending(reason="limit", stop=None, tokens=16), answer_tags=None)

    assert reasons(one, poor, cut) == ["answer_quality", "answer_limit"]


def test_what_means_the_same_is_a_duplicate_where_it_is_wanted(judge: MakeJudge) -> None:
    one = judge(near_meaning=0.9)
    same = np.array([0.99, 0.141, 0.0, 0.0], np.float32)
    other = np.array([0.8, 0.6, 0.0, 0.0], np.float32)
    first = whole(one, 0, "Name a river.")
    verdicts = [
        one.decide(each)
        for each in (
            first,
            whole(one, 1, "Which water flows to the sea?", embedding=same),
            whole(one, 2, "Which lake is the largest?", embedding=other),
        )
    ]

    assert verdicts[0] == Verdict()
    assert verdicts[1] == Verdict(reason="near_meaning", twin=0)
    assert verdicts[2] is not None and verdicts[2].nearest == (0, pytest.approx(0.8, abs=1e-3))


def test_evaluation_data_are_kept_out(judge: MakeJudge, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(
        '{"prompt": "Which river flows through Oakford?", "completion": "The Jorda."}\n'
    )
    one = judge(decontaminate=(str(tmp_path / "test.jsonl"),))

    assert reasons(one, whole(one, 0, "which river flows through Oakford"), whole(one, 1, "Name a river.")) == [
        "contaminated",
        None,
    ]


def test_quotas_are_filled_and_no_more(judge: MakeJudge) -> None:
    one = judge(count=3, quotas=("category:v=1,Q=2",), near_duplicate=None)
    kinds = ["v", "v", "Q", "1", "Q", "Q"]
    drafts = [whole(one, i, f"Name {i}.", tags=tags(category=kind), steer=()) for i, kind in enumerate(kinds)]
    steered = [replace(draft, steer=one.steering.of(draft.index)) for draft in drafts]
    full = "off_quota_category"

    assert reasons(one, *steered) == [None, full, None, full, None, full]
    assert one.quotas.missing() == {"category": {}}


def test_a_quota_must_name_what_a_tag_can_say(judge: MakeJudge) -> None:
    with pytest.raises(UserError) as caught:
        judge(quotas=("category:Math=0.5", "difficulty:hard=0.5"))

    assert caught.value.details == ("category: no 'Math' among v, Q, 1", "difficulty: no question asks for it")


def test_a_draft_that_lacks_what_its_decision_needs_is_not_decided(judge: MakeJudge) -> None:
    one = judge()
    row = whole(one, 0, "Name a river.")

    assert one.decide(replace(row, answered=None, answer_tags=None)) is None
    assert one.decide(replace(row, tags=None)) is None
    assert one.decide(replace(row, answer_tags=None)) is None
    assert one.decide(replace(row, steer=(("topic", "boats"),))) is None
    assert one.decide(replace(row, asked=Ending(reason="limit", stop=None, tokens=11))) is None  # 12 are allowed now
    assert not one.keys
    # Of a row that is lost anyway nothing more is needed.
    assert one.decide(replace(row, instruction="", tags=None, answered=None)) == Verdict(reason="instruction_empty")


def test_a_record_shows_nothing_that_its_reason_did_not_need(judge: MakeJudge) -> None:
    one = judge()
    recorder = Recorder(plan=one.plan, fingerprint="f" * 16)
    row = whole(one, 7, "Name a river.", raw="Question: Name a river.", removed=("label",))
    early = replace(row, tags=None, embedding=None, answer="", answered=None, answer_tags=None)
    twin = Verdict(reason="duplicate", twin=3)

    assert recorder.record(row, twin) == recorder.record(early, twin)
    record = recorder.record(row, twin)
    assert (record["rejection"], record["stage"], record["duplicate_of"]) == ("duplicate", "screen", "ffffffff-000003")
    assert record["raw_instruction"] == "Question: Name a river."
    assert "tags" not in record and record["answer_reason"] is None
    unsafe = recorder.record(row, Verdict(reason="unsafe"))
    assert set(unsafe["tags"]) == {"category", "input_quality", "safety"}
    assert len(unsafe["messages"]) == 1
    kept = recorder.record(row, Verdict(nearest=(3, 0.98765)))
    assert kept["nearest"] == {"id": "ffffffff-000003", "cosine": 0.988}
    assert set(kept["tags"]) == set(kept["confidence"]) == {"category", "input_quality", "safety", "answer_quality"}


def test_every_reason_has_a_stage() -> None:
    assert [stage_of(reason) for reason in ("instruction_limit", "unsafe", "answer_stop", "answer_quality")] == [
        "ask",
        "screen",
        "answer",
        "grade",
    ]
    assert all(stage_of(reason) for reason in REASONS)
