"""The judge's decisions on handwritten drafts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_suite.curation.reasons import REASONS, stage_of
from mlx_suite.curation.tags.tagging import Tag
from mlx_suite.engine.program import Reason
from mlx_suite.magpie.judge import Judge, instruction_problem, key_of, response_problem
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.magpie.records import Decision, Draft, Ending, Recorder
from mlx_suite.runtime.errors import UserError
from tests.magpie.conftest import QUESTIONS, Loaded

MakeJudge = Callable[..., Judge]


@pytest.fixture(scope="module")
def plan(checkpoint: Loaded) -> RowPlan:
    return plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, checkpoint.settings(), QUESTIONS)


@pytest.fixture
def make_judge(checkpoint: Loaded) -> MakeJudge:
    """Makes a judge with the given settings, before the first row."""

    def make(**settings: Any) -> Judge:
        made = checkpoint.settings(**settings)
        return Judge(plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, made, QUESTIONS))

    return make


def tags(**labels: str) -> dict[str, Tag]:
    return {name: Tag(label=label, confidence=0.5) for name, label in labels.items()}


def complete(plan: RowPlan, index: int, text: str, **changes: Any) -> Draft:
    """A draft with everything a decision can need and nothing wrong, apart from `changes`."""
    end = Ending(reason="stop", stop=plan.user_end, tokens=3)
    vector = np.zeros(4, np.float32)
    vector[index % 4] = 1.0
    draft = Draft(
        index=index,
        raw=text,
        instruction=text,
        instruction_end=end,
        tags=tags(category="v", input_quality="good", safety="safe"),
        embedding=vector,
        response="So.",
        response_end=end,
        response_tags=tags(answer_quality="good"),
    )
    return replace(draft, **changes)


def reasons(judge: Judge, *drafts: Draft) -> list[str | None]:
    decisions = [judge.decide(draft) for draft in drafts]
    assert None not in decisions
    return [decision.reason for decision in decisions if decision is not None]


def test_new_rows_are_accepted(make_judge: MakeJudge) -> None:
    judge = make_judge()
    first, second = complete(judge.plan, 0, "Why is the sky blue?"), complete(judge.plan, 1, "Name three rivers.")

    assert reasons(judge, first, second) == [None, None]
    assert judge.decide(complete(judge.plan, 2, "Who is Ada?")) == Decision(nearest=(0, 0.0))


def test_the_first_reason_in_order_is_the_rows_reason(make_judge: MakeJudge) -> None:
    judge = make_judge(min_input_quality="average")
    plan = judge.plan
    first = complete(plan, 0, "Please tell me why the sky is blue in the daytime.")
    same = "please tell me why the sky is  blue in the daytime."
    similar = "Please tell me why the sky is so blue in the daytime."
    poor = tags(category="v", input_quality="poor", safety="unsafe")
    cut = Ending(reason="limit", stop=None, tokens=12)

    assert reasons(
        judge,
        first,
        complete(plan, 1, same, instruction_end=cut),
        complete(plan, 2, same, tags=poor),
        complete(plan, 3, similar, tags=poor),
        complete(plan, 4, "Name a river.", tags=poor),
        complete(plan, 5, "Name a lake.", tags=tags(category="v", input_quality="good", safety="unsafe")),
        complete(plan, 6, "Name a sea.", response_end=Ending(reason="context", stop=None, tokens=9)),
    ) == [None, "instruction_limit", "duplicate", "near_duplicate", "low_quality", "unsafe", "answer_context"]


def test_response_tags_are_judged_last(make_judge: MakeJudge) -> None:
    judge = make_judge(min_answer_quality="good")
    poor = complete(judge.plan, 0, "Name a river.", response_tags=tags(answer_quality="poor"))
    end = Ending(reason="limit", stop=None, tokens=16)
    cut = complete(judge.plan, 1, "Name a lake.", response_end=end, response_tags=None)

    assert reasons(judge, poor, cut) == ["answer_quality", "answer_limit"]


def test_near_meaning_rejects_by_cosine_similarity(make_judge: MakeJudge) -> None:
    judge = make_judge(near_meaning=0.9)
    same = np.array([0.99, 0.141, 0.0, 0.0], np.float32)
    other = np.array([0.8, 0.6, 0.0, 0.0], np.float32)
    drafts = (
        complete(judge.plan, 0, "Name a river."),
        complete(judge.plan, 1, "Which water flows to the sea?", embedding=same),
        complete(judge.plan, 2, "Which lake is the largest?", embedding=other),
    )
    first, second, third = map(judge.decide, drafts)

    assert first == Decision()
    assert second == Decision(reason="near_meaning", duplicate_of=0)
    assert third is not None and third.nearest == (0, pytest.approx(0.8, abs=1e-3))


def test_evaluation_data_is_rejected(make_judge: MakeJudge, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(
        '{"prompt": "Which river flows through Oakford?", "completion": "The Jorda."}\n'
    )
    judge = make_judge(decontaminate=(str(tmp_path / "test.jsonl"),))
    known, new = "which river flows through Oakford", "Name a river."

    assert reasons(judge, complete(judge.plan, 0, known), complete(judge.plan, 1, new)) == ["contaminated", None]


def test_rows_beyond_a_quota_are_rejected(make_judge: MakeJudge) -> None:
    judge = make_judge(count=3, quotas=("category:v=1,Q=2",), near_duplicate=None)
    categories = ["v", "v", "Q", "1", "Q", "Q"]
    drafts = [
        complete(judge.plan, i, f"Name {i}.", tags=tags(category=category)) for i, category in enumerate(categories)
    ]
    steered = [replace(draft, steer=judge.steering.of(draft.index)) for draft in drafts]
    full = "off_quota_category"

    assert reasons(judge, *steered) == [None, full, None, full, None, full]
    assert judge.quotas.missing() == {"category": {}}


def test_a_quota_must_name_a_label_of_a_question(make_judge: MakeJudge) -> None:
    with pytest.raises(UserError) as caught:
        make_judge(quotas=("category:Math=0.5", "difficulty:hard=0.5"))

    assert caught.value.details == (
        "category: no label is 'Math'; use one of v, Q, 1",
        "difficulty: no question asks for it",
    )


def test_an_incomplete_draft_is_not_decided(make_judge: MakeJudge) -> None:
    judge = make_judge()
    row = complete(judge.plan, 0, "Name a river.")
    cut_at_11 = Ending(reason="limit", stop=None, tokens=11)  # the limit is 12 now

    assert judge.decide(replace(row, response_end=None, response_tags=None)) is None
    assert judge.decide(replace(row, tags=None)) is None
    assert judge.decide(replace(row, response_tags=None)) is None
    assert judge.decide(replace(row, steer=(("topic", "boats"),))) is None
    assert judge.decide(replace(row, instruction_end=cut_at_11)) is None
    assert not judge.keys
    # A certain rejection needs nothing more.
    empty = replace(row, instruction="", tags=None, response_end=None)
    assert judge.decide(empty) == Decision(reason="instruction_empty")


def test_a_record_contains_only_what_its_reason_needed(plan: RowPlan) -> None:
    recorder = Recorder(plan=plan, fingerprint="f" * 16)
    row = complete(plan, 7, "Name a river.", raw="Question: Name a river.", removed=("label",))
    early = replace(row, tags=None, embedding=None, response="", response_end=None, response_tags=None)
    duplicate = Decision(reason="duplicate", duplicate_of=3)

    assert recorder.record(row, duplicate) == recorder.record(early, duplicate)
    record = recorder.record(row, duplicate)
    assert (record["rejection"], record["stage"], record["duplicate_of"]) == ("duplicate", "screen", "ffffffff-000003")
    assert record["raw_instruction"] == "Question: Name a river."
    assert "tags" not in record and record["answer_reason"] is None
    unsafe = recorder.record(row, Decision(reason="unsafe"))
    assert set(unsafe["tags"]) == {"category", "input_quality", "safety"}
    assert len(unsafe["messages"]) == 1
    accepted = recorder.record(row, Decision(nearest=(3, 0.98765)))
    assert accepted["nearest"] == {"id": "ffffffff-000003", "cosine": 0.988}
    names = {"category", "input_quality", "safety", "answer_quality"}
    assert set(accepted["tags"]) == set(accepted["confidence"]) == names


def test_every_reason_has_a_stage() -> None:
    samples = {"instruction_limit": "ask", "unsafe": "screen", "answer_stop": "answer", "answer_quality": "grade"}
    assert {reason: stage_of(reason) for reason in samples} == samples
    assert all(stage_of(reason) for reason in REASONS)


def test_a_complete_row_has_no_problem(plan: RowPlan) -> None:
    row = complete(plan, 0, "Why?")
    assert instruction_problem(plan, row) is None
    assert response_problem(plan, row) is None


@pytest.mark.parametrize("reason", ["limit", "context"])
def test_truncated_texts_are_rejected(plan: RowPlan, reason: Reason) -> None:
    cut = Ending(reason=reason, stop=None, tokens=1)

    assert instruction_problem(plan, complete(plan, 0, "Why?", instruction_end=cut)) == f"instruction_{reason}"
    assert response_problem(plan, complete(plan, 0, "Why?", response_end=cut)) == f"answer_{reason}"


def test_an_instruction_must_end_with_the_templates_stop_token(plan: RowPlan) -> None:
    end_of_text = plan.tokenizer.id_of("<|end_of_text|>")
    header = plan.tokenizer.id_of("<|start_header_id|>")
    other = Ending(reason="stop", stop=end_of_text, tokens=1)

    assert instruction_problem(plan, complete(plan, 0, "Why?", instruction_end=other)) == "instruction_stop"
    # A response may also end with the text, but must not run into another turn.
    assert response_problem(plan, complete(plan, 0, "Why?", response_end=other)) is None
    next_turn = replace(other, stop=header)
    assert response_problem(plan, complete(plan, 0, "Why?", response_end=next_turn)) == "answer_stop"


def test_empty_and_garbled_texts_are_rejected(plan: RowPlan) -> None:
    assert instruction_problem(plan, complete(plan, 0, "")) == "instruction_empty"
    assert instruction_problem(plan, complete(plan, 0, "a\ufffdb")) == "instruction_garbled"
    assert response_problem(plan, complete(plan, 0, "Why?", response="")) == "answer_empty"
    assert response_problem(plan, complete(plan, 0, "Why?", response="\ufffd")) == "answer_garbled"


def test_duplicates_ignore_case_and_whitespace() -> None:
    assert key_of("What  is\n1 + 1?") == key_of("what is 1 + 1? ")
    assert key_of("What is 1 + 1?") != key_of("What is 1+1?")
    assert key_of("STRASSE") == key_of("straße")
