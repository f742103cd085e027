"""The funnel: rows, tokens and seconds by stage, costs of steering, and quotas."""

from functools import partial
from typing import Any

import pytest

from mlx_suite.curation.report.funnel import (
    GroupCost,
    Loss,
    QuotaBar,
    costs_of,
    drawn_with,
    funnel_of,
    quotas_of,
    stage_of,
    steered_to,
)
from tests.curation.report.rows import rejected
from tests.magpie.rows import row

ACCEPTED = [
    row("A?", instruction_tokens=10, answer_tokens=100, steer={"category": "Math"}, tags={"category": "Math"}),
    row("B?", instruction_tokens=20, answer_tokens=50, steer={"category": "Math"}, tags={"category": "Editing"}),
]
REJECTED = [
    rejected("C?", "instruction_limit", "ask", instruction_tokens=512, answer_tokens=None),
    rejected("D?", "duplicate", "screen", instruction_tokens=5, answer_tokens=None, steer={"category": "Math"}),
    rejected("E?", "unsafe", "screen", instruction_tokens=6, answer_tokens=None),
    rejected("F?", "duplicate", "screen", instruction_tokens=7, answer_tokens=None),
    rejected("G?", "answer_limit", "answer", instruction_tokens=8, answer_tokens=2048),
]
MANIFEST: dict[str, Any] = {
    "seconds": {"ask": 4.0, "screen": 1.0, "answer": 15.0, "grade": 0.0},
    "work": [{"prefilled": 100, "fed": 20, "screening": 70, "grading": 10}, {"prefilled": 200}],
    "quotas": {"category": {"Math": 2, "*": 1}},
}


def test_rows_are_counted_by_stage_and_reason() -> None:
    funnel = funnel_of(ACCEPTED, REJECTED, {})

    assert [(stage.name, stage.rows, stage.lost) for stage in funnel.stages] == [
        ("ask", 7, 1),
        ("screen", 6, 3),
        ("answer", 3, 1),
        ("grade", 2, 0),
    ]
    assert (funnel.asked, funnel.accepted) == (7, 2)
    assert funnel.stages[1].losses == (
        Loss(reason="duplicate", rows=2, tokens=12),
        Loss(reason="unsafe", rows=1, tokens=6),
    )


def test_costs_per_accepted_row_include_rejected_rows() -> None:
    funnel = funnel_of(ACCEPTED, REJECTED, MANIFEST)

    assert [stage.tokens for stage in funnel.stages] == [568, 0, 2198, 0]
    assert funnel.tokens == 2766
    assert funnel.wasted == 512 + 5 + 6 + 7 + 8 + 2048
    assert funnel.tokens_per_row == 1383.0
    assert funnel.read_per_row == 200.0
    assert funnel.seconds_per_row == 10.0
    assert funnel.stages[2].seconds == 15.0


def test_without_accepted_rows_there_are_no_costs_per_row() -> None:
    funnel = funnel_of([], REJECTED[:1], {})

    assert (funnel.tokens_per_row, funnel.seconds_per_row, funnel.read_per_row) == (None, None, None)


@pytest.mark.parametrize(
    ("reason", "stage"),
    [
        ("instruction_stop", "ask"),
        ("near_meaning", "screen"),
        ("off_quota_topic", "screen"),
        ("answer_limit", "answer"),
        ("answer_quality", "grade"),
        ("of its own", "screen"),
    ],
)
def test_the_stage_of_an_old_row_is_inferred_from_its_reason(reason: str, stage: str) -> None:
    assert stage_of({"messages": [], "rejection": reason}) == stage


def test_a_filtered_folder_has_one_stage() -> None:
    lost = [rejected("C?", "difficulty", "filter", instruction_tokens=3, answer_tokens=4)]

    funnel = funnel_of(ACCEPTED, lost, {})

    assert [(stage.name, stage.rows, stage.tokens) for stage in funnel.stages] == [("filter", 3, 187)]
    assert [stage.name for stage in funnel_of(ACCEPTED, [], {"kind": "mlx-suite magpie filter"}).stages] == ["filter"]


def test_a_steered_row_counts_only_if_its_tag_agrees() -> None:
    costs = costs_of(ACCEPTED, REJECTED, partial(steered_to, MANIFEST["quotas"]))
    assert costs == (GroupCost(kind="category: Math", asked=3, accepted=1, tokens=185),)


def test_a_row_steered_to_the_rest_agrees_if_no_quota_names_its_tag() -> None:
    rows = [row("A?", steer={"category": "*"}, tags={"category": name}) for name in ("Math", "Editing")]

    [cost] = costs_of(rows, [], partial(steered_to, MANIFEST["quotas"]))

    assert (cost.kind, cost.asked, cost.accepted) == ("category: *", 2, 1)


def test_sampling_settings_have_separate_costs() -> None:
    rows = [row("A?", sampling={"temperature": each, "top_p": 1.0}, answer_tokens=each) for each in (1, 2, 2)]

    assert [(cost.kind, cost.accepted, cost.tokens_per_row) for cost in costs_of(rows, [], drawn_with)] == [
        ("temperature 1, top_p 1.0", 1, 1.0),
        ("temperature 2, top_p 1.0", 2, 2.0),
    ]


def test_quotas_count_tags_and_steering() -> None:
    manifest = {"quotas": {**MANIFEST["quotas"], "topic": {"boats": 1, "*": 3}, "odd": "text"}}
    rows = [*ACCEPTED, row("Is it afloat?", steer={"topic": "boats"}), row("Is it late?", steer={"topic": "*"})]

    assert quotas_of(rows, manifest) == (
        QuotaBar(dimension="category", value="Math", wanted=2, met=1),
        QuotaBar(dimension="category", value="*", wanted=1, met=3),
        QuotaBar(dimension="topic", value="boats", wanted=1, met=1),
        QuotaBar(dimension="topic", value="*", wanted=3, met=3),
    )
    assert quotas_of(rows, {}) == ()
