"""Why rows are rejected."""

from dataclasses import replace

import pytest

from mlx_suite.engine.program import Reason
from mlx_suite.magpie.draft import Draft, Ending
from mlx_suite.magpie.row import Plan, plan_rows, row_seed
from mlx_suite.magpie.screen import answer_problem, instruction_problem, key_of
from tests.magpie.conftest import QUESTIONS, Loaded


@pytest.fixture(scope="module")
def plan(checkpoint: Loaded) -> Plan:
    return plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, checkpoint.settings(), QUESTIONS)


def draft(plan: Plan, instruction: str = "Why?", answer: str = "So.") -> Draft:
    ended = Ending(reason="stop", stop=plan.user_end, tokens=1)
    return Draft(index=0, raw=instruction, instruction=instruction, asked=ended, answer=answer, answered=ended)


def test_a_whole_row_has_no_problem(plan: Plan) -> None:
    assert instruction_problem(plan, draft(plan)) is None
    assert answer_problem(plan, draft(plan)) is None


@pytest.mark.parametrize("reason", ["limit", "context"])
def test_what_was_cut_off_is_rejected(plan: Plan, reason: Reason) -> None:
    cut = Ending(reason=reason, stop=None, tokens=1)

    assert instruction_problem(plan, replace(draft(plan), asked=cut)) == f"instruction_{reason}"
    assert answer_problem(plan, replace(draft(plan), answered=cut)) == f"answer_{reason}"


def test_an_instruction_must_end_as_the_template_ends_it(plan: Plan) -> None:
    end_of_text = plan.tokenizer.id_of("<|end_of_text|>")
    header = plan.tokenizer.id_of("<|start_header_id|>")
    other = Ending(reason="stop", stop=end_of_text, tokens=1)

    assert instruction_problem(plan, replace(draft(plan), asked=other)) == "instruction_stop"
    # An answer may end with the text as well, but not run into another turn.
    assert answer_problem(plan, replace(draft(plan), answered=other)) is None
    running_on = replace(other, stop=header)
    assert answer_problem(plan, replace(draft(plan), answered=running_on)) == "answer_stop"


def test_empty_and_garbled_texts_are_rejected(plan: Plan) -> None:
    assert instruction_problem(plan, draft(plan, instruction="")) == "instruction_empty"
    assert instruction_problem(plan, draft(plan, instruction="a\ufffdb")) == "instruction_garbled"
    assert answer_problem(plan, draft(plan, answer="")) == "answer_empty"
    assert answer_problem(plan, draft(plan, answer="\ufffd")) == "answer_garbled"


def test_duplicates_are_told_without_regard_to_case_and_whitespace() -> None:
    assert key_of("What  is\n1 + 1?") == key_of("what is 1 + 1? ")
    assert key_of("What is 1 + 1?") != key_of("What is 1+1?")
    assert key_of("STRASSE") == key_of("straße")


def test_row_seeds_differ_and_every_json_reader_keeps_them() -> None:
    seeds = {row_seed(seed, index) for seed in (-1, 0, 1) for index in range(1000)}

    assert len(seeds) == 3000
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert row_seed(0, 0) == 131978767253905
