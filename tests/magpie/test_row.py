"""The program of one row, and the short version in its docstring."""

from pathlib import Path

import pytest

from mlx_suite import engine, load, text
from mlx_suite.curation.tags.tagging import make_tagger, questions_for
from mlx_suite.engine import Rewind, Sample, Written
from mlx_suite.magpie import row
from mlx_suite.magpie.plan import plan_rows
from mlx_suite.text import Message, encode_chat, load_chat_template
from tests.magpie.conftest import Loaded

MODELS = Path(__file__).parents[2] / "models"


def test_the_program_in_the_docstring_runs() -> None:
    assert row.__doc__ is not None
    lines = [line[4:] for line in row.__doc__.splitlines() if line.startswith("    ") or not line]
    model, tokenizer = load(MODELS / "tiny-llama3")
    names = {
        **vars(engine),
        **vars(text),
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


@pytest.mark.parametrize("instruction", ["What is ab?", "Question: What is ab?"], ids=["plain", "sanitised"])
def test_a_steered_instruction_is_answered_without_the_steering_prompt(checkpoint: Loaded, instruction: str) -> None:
    settings = checkpoint.settings(tags=False, embeddings=False)
    plan = plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, settings)
    program = row.row_request(plan, 6, (("topic", "cats"),), lambda draft: False).program
    sequence: list[int] = []

    def run_to_sample(result: Written | None) -> None:
        segment = program.send(result)
        while not isinstance(segment, Sample):
            if isinstance(segment, Rewind):
                del sequence[segment.length :]
            else:
                sequence.extend(segment.tokens)
            segment = program.send(None)

    run_to_sample(None)
    assert "The user asks about cats." in plan.tokenizer.decode(sequence, skip_special=False)
    tokens = tuple(plan.tokenizer.encode(instruction))
    sequence.extend((*tokens, plan.user_end))
    run_to_sample(Written(tokens=tokens, reason="stop", stop_token=plan.user_end))

    messages = [Message("user", "What is ab?")]
    assert sequence == encode_chat(plan.tokenizer, plan.template, messages, add_generation_prompt=True).ids
