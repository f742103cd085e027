"""The program of one row, and the short version in its docstring."""

from pathlib import Path

import pytest

from mlx_suite import engine, load, text
from mlx_suite.curation.tags.tagging import make_tagger, questions_for
from mlx_suite.engine import Given, Mark, Program, Rewind, Sample, Written
from mlx_suite.magpie import row
from mlx_suite.magpie.judge import response_problem
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.magpie.records import Decision, Draft, Recorder, draft_line, draft_of
from mlx_suite.text import Message, encode_chat, load_chat_template
from tests.magpie.conftest import Loaded

MODELS = Path(__file__).parents[2] / "models"


def test_the_program_in_the_docstring_runs() -> None:
    assert row.__doc__ is not None
    lines = [line[4:] for line in row.__doc__.splitlines() if line.startswith("    ") or not line]
    model, tokenizer = load(MODELS / "tiny-llama3")
    names = {
        **{name: getattr(module, name) for module in (engine, text) for name in module.__all__},
        "make_tagger": make_tagger,
        "questions": questions_for(MODELS / "tiny-llama3"),
        "model": model,
        "tokenizer": tokenizer,
        "template": load_chat_template(MODELS / "tiny-llama3"),
    }
    exec("\n".join(lines), names)

    assert len(names["rows"]) == 8
    for instruction, tags, response, response_tags in names["rows"]:
        assert len(tokenizer.decode(instruction)) > 3 and response
        assert "category" in tags and "answer_quality" in response_tags


def run_to_sample(program: Program, sequence: list[int], result: Written | None = None) -> None:
    """Run a row's program to its next sampled text, and do to `sequence` what the engine does to the KV cache."""
    segment = program.send(result)
    while not isinstance(segment, Sample):
        if isinstance(segment, Mark):
            segment = program.send(len(sequence))
            continue
        if isinstance(segment, Rewind):
            del sequence[segment.length :]
        else:
            assert isinstance(segment, Given)
            sequence.extend(segment.tokens)
        segment = program.send(None)


@pytest.mark.parametrize("instruction", ["What is ab?", "Question: What is ab?"], ids=["plain", "sanitised"])
def test_a_steered_instruction_is_answered_without_the_steering_prompt(checkpoint: Loaded, instruction: str) -> None:
    settings = checkpoint.settings(tags=False, embeddings=False)
    plan = plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, settings)
    program = row.row_request(plan, 6, (("topic", "cats"),), lambda draft: False).program
    sequence: list[int] = []

    run_to_sample(program, sequence)
    assert "The user asks about cats." in plan.tokenizer.decode(sequence, skip_special=False)
    tokens = tuple(plan.tokenizer.encode(instruction))
    sequence.extend((*tokens, plan.user_end))
    run_to_sample(program, sequence, Written(tokens=tokens, reason="stop", stop_token=plan.user_end))

    messages = [Message("user", "What is ab?")]
    assert sequence == encode_chat(plan.tokenizer, plan.template, messages, add_generation_prompt=True).ids


def sampled(plan: RowPlan, text: str, stop: int) -> tuple[list[int], Written]:
    """Tokens of a sampled text with its stop token, and the result of sampling it."""
    tokens = tuple(plan.tokenizer.encode(text))
    return [*tokens, stop], Written(tokens=tokens, reason="stop", stop_token=stop)


def reasoned(checkpoint: Loaded, responses: list[str]) -> tuple[RowPlan, list[int], Draft]:
    """A conversation of `responses` to the same kind of question: the plan, the sequence and the draft."""
    settings = checkpoint.settings(tags=False, embeddings=False, turns=len(responses))
    plan = plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, settings)
    program = row.row_request(plan, 0, (), lambda draft: False).program
    sequence: list[int] = []
    run_to_sample(program, sequence)
    texts = [text for number, response in enumerate(responses) for text in (f"What is a{number}?", response)]
    for number, said in enumerate(texts):
        tokens, written = sampled(plan, said, plan.assistant_end if number % 2 else plan.user_end)
        sequence.extend(tokens)
        try:
            run_to_sample(program, sequence, written)
        except StopIteration as ended:
            assert isinstance(ended.value, Draft)
            return plan, sequence, ended.value
    raise AssertionError("the row goes on")


def test_reasoning_has_a_field_of_its_own_and_does_not_stand_in_later_turns(checkpoint: Loaded) -> None:
    plan, sequence, draft = reasoned(checkpoint, ["<think>\nhm\n</think>\n\nbab", "ab", "<think>so</think>b"])
    assert (draft.reasoning, draft.response) == ("hm", "bab")
    assert [(turn.reasoning, turn.response) for turn in draft.turns] == [("", "ab"), ("so", "b")]
    questions = [Message("user", f"What is a{number}?") for number in range(3)]
    turns = [questions[0], Message("assistant", "bab"), questions[1], Message("assistant", "ab"), questions[2]]
    turns.append(Message("assistant", "b"))
    assert sequence == encode_chat(plan.tokenizer, plan.template, turns).ids
    assert response_problem(plan, draft) is None
    assert draft_of(draft_line(draft)) == draft
    messages = Recorder(plan=plan, fingerprint="0" * 16).record(draft, Decision())["messages"]
    assert messages[1] == {"role": "assistant", "content": "bab", "reasoning_content": "hm"}
    assert messages[3] == {"role": "assistant", "content": "ab"}


def test_a_response_whose_reasoning_does_not_end_is_rejected(checkpoint: Loaded) -> None:
    plan, _, draft = reasoned(checkpoint, ["<think>hm, ab"])
    assert response_problem(plan, draft) == "answer_thought"


def test_a_conversation_ends_before_a_response_whose_reasoning_does_not_end(checkpoint: Loaded) -> None:
    _, _, draft = reasoned(checkpoint, ["ab", "<think>hm"])
    assert (draft.turns, draft.turns_ended) == ((), "answer_thought")
