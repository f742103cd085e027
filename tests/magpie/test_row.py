"""What a row is fed and what it may write."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_suite import load
from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS
from mlx_suite.data.questions import Questions
from mlx_suite.data.steering import AGREEMENT
from mlx_suite.magpie import MagpieSettings
from mlx_suite.magpie.row import Plan, plan_rows
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message, encode_chat, load_chat_template
from mlx_suite.text.training import GEMMA2_TEMPLATE
from tests.magpie.conftest import QUESTIONS, Loaded

TEMPLATES = Path(__file__).parents[1] / "text" / "templates"


def plan_with(checkpoint: Loaded, source: str, **settings: str) -> Plan:
    template = replace(checkpoint.template, source=source)
    return plan_rows(checkpoint.model, checkpoint.tokenizer, template, checkpoint.settings(**settings), QUESTIONS)


def header(plan: Plan) -> str:
    return plan.tokenizer.decode(plan.pre_query.header_ids, skip_special=False)


def test_special_tokens_are_nobodys_text(checkpoint: Loaded) -> None:
    plan = plan_with(checkpoint, checkpoint.template.source)

    for sample in (plan.asking(SamplingSetting(temperature=1.0)), plan.answering):
        assert sample.stop | set(sample.sampling.banned) == checkpoint.tokenizer.special_ids
        assert not sample.stop & set(sample.sampling.banned)


def test_rows_of_the_embedding_without_a_token_are_banned(checkpoint: Loaded) -> None:
    class Padded:
        """A model whose vocabulary is padded for speed."""

        config = replace(checkpoint.model.config, vocab_size=checkpoint.tokenizer.vocab_size + 2)

    plan = plan_rows(Padded(), checkpoint.tokenizer, checkpoint.template, checkpoint.settings(), QUESTIONS)
    size = checkpoint.tokenizer.vocab_size

    assert {size, size + 1} <= set(plan.asking(SamplingSetting(temperature=1.0)).sampling.banned)


def test_a_template_without_a_system_role_is_steered_by_a_first_exchange(checkpoint: Loaded) -> None:
    source = GEMMA2_TEMPLATE.replace("<start_of_turn>", "<|start_header_id|>").replace("<end_of_turn>", "<|eot_id|>")
    plan = plan_with(checkpoint, source, system="Ask about cats.")

    exchange = [Message("user", "Ask about cats."), Message("assistant", AGREEMENT), Message("user", "Why?")]
    template = replace(checkpoint.template, source=source)
    whole = encode_chat(checkpoint.tokenizer, template, exchange).ids
    ids = list(plan.pre_query.header_ids)
    assert whole[: len(ids)] == ids
    assert checkpoint.tokenizer.decode(whole[len(ids) :]).startswith("Why?")


def test_a_header_with_a_date_is_the_same_tomorrow(checkpoint: Loaded) -> None:
    source = (TEMPLATES / "llama31.jinja").read_text().replace("'26 Jul 2024'", "strftime_now('%d %b %Y')")
    assert "strftime_now" in source  # as Llama 3.2's own has it

    assert "Today Date: 26 Jul 2024" in header(plan_with(checkpoint, source))


def test_a_template_that_shows_no_user_turn_is_refused(checkpoint: Loaded) -> None:
    with pytest.raises(UserError, match="the pre-query header cannot be derived"):
        plan_with(checkpoint, "{% for message in messages %}{{ message['content'] }}{% endfor %}")


def test_who_speaks_is_asked_of_checkpoints_that_are_asked_the_general_questions() -> None:
    folder = Path(__file__).parents[2] / "models" / "tiny-llama3"
    model, tokenizer = load(folder)
    template = load_chat_template(folder)

    def asks(questions: Questions | None, **settings: Any) -> bool:
        return plan_rows(model, tokenizer, template, MagpieSettings(count=1, **settings), questions).role is not None

    assert asks(FULL_QUESTIONS, turns=2)
    assert not asks(FULL_QUESTIONS, turns=1)
    assert not asks(FULL_QUESTIONS, turns=2, tags=False)
    assert not asks(None, turns=2)  # its own
