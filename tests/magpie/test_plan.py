"""Headers, sampling, and bans on first tokens, from a template and a vocabulary."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models

from mlx_suite import load
from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS
from mlx_suite.data.questions import Questions
from mlx_suite.data.steering import AGREEMENT
from mlx_suite.magpie import MagpieSettings
from mlx_suite.magpie.plan import RowPlan, first_token_bans, plan_rows, row_seed
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message, Tokenizer, encode_chat, load_chat_template, load_tokenizer
from mlx_suite.text.training import GEMMA2_TEMPLATE, train_llama3_tokenizer
from tests.magpie.conftest import QUESTIONS, Loaded

MODELS = Path(__file__).parents[2] / "models"
TEMPLATES = Path(__file__).parents[1] / "text" / "templates"
PLAIN = SamplingSetting(temperature=1.0)


def plan_with(checkpoint: Loaded, source: str, **settings: str) -> RowPlan:
    template = replace(checkpoint.template, source=source)
    return plan_rows(checkpoint.model, checkpoint.tokenizer, template, checkpoint.settings(**settings), QUESTIONS)


def test_special_tokens_either_stop_a_text_or_are_banned(checkpoint: Loaded) -> None:
    plan = plan_with(checkpoint, checkpoint.template.source)

    for sample in (plan.instruction_sample(PLAIN), plan.response_sample):
        assert sample.stop | set(sample.sampling.banned) == checkpoint.tokenizer.special_ids
        assert not sample.stop & set(sample.sampling.banned)


def test_embedding_rows_without_a_token_are_banned(checkpoint: Loaded) -> None:
    class Padded:
        """A model with a padded vocabulary."""

        config = replace(checkpoint.model.config, vocab_size=checkpoint.tokenizer.vocab_size + 2)

    plan = plan_rows(Padded(), checkpoint.tokenizer, checkpoint.template, checkpoint.settings(), QUESTIONS)
    size = checkpoint.tokenizer.vocab_size

    assert {size, size + 1} <= set(plan.instruction_sample(PLAIN).sampling.banned)


def test_a_template_without_a_system_role_is_steered_by_a_first_exchange(checkpoint: Loaded) -> None:
    source = GEMMA2_TEMPLATE.replace("<start_of_turn>", "<|start_header_id|>").replace("<end_of_turn>", "<|eot_id|>")
    plan = plan_with(checkpoint, source, system="Ask about cats.")

    exchange = [Message("user", "Ask about cats."), Message("assistant", AGREEMENT), Message("user", "Why?")]
    template = replace(checkpoint.template, source=source)
    whole = encode_chat(checkpoint.tokenizer, template, exchange).ids
    ids = list(plan.pre_query.header_ids)
    assert whole[: len(ids)] == ids
    assert checkpoint.tokenizer.decode(whole[len(ids) :]).startswith("Why?")


def test_a_header_with_a_date_does_not_change_from_day_to_day(checkpoint: Loaded) -> None:
    source = (TEMPLATES / "llama31.jinja").read_text().replace("'26 Jul 2024'", "strftime_now('%d %b %Y')")
    assert "strftime_now" in source  # as in Llama 3.2's own template
    plan = plan_with(checkpoint, source)

    assert "Today Date: 26 Jul 2024" in plan.tokenizer.decode(plan.pre_query.header_ids, skip_special=False)


def test_a_template_that_shows_no_user_turn_is_refused(checkpoint: Loaded) -> None:
    with pytest.raises(UserError, match="the pre-query header cannot be derived"):
        plan_with(checkpoint, "{% for message in messages %}{{ message['content'] }}{% endfor %}")


def test_only_checkpoints_with_the_general_questions_are_asked_who_speaks() -> None:
    folder = MODELS / "tiny-llama3"
    model, tokenizer = load(folder)
    template = load_chat_template(folder)

    def asks(questions: Questions | None, **settings: Any) -> bool:
        return plan_rows(model, tokenizer, template, MagpieSettings(count=1, **settings), questions).role is not None

    assert asks(FULL_QUESTIONS, turns=2)
    assert not asks(FULL_QUESTIONS, turns=1)
    assert not asks(FULL_QUESTIONS, turns=2, tags=False)
    assert not asks(None, turns=2)  # the checkpoint's own questions


def test_row_seeds_differ_and_fit_into_a_json_number() -> None:
    seeds = {row_seed(seed, index) for seed in (-1, 0, 1) for index in range(1000)}

    assert len(seeds) == 3000
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert row_seed(0, 0) == 131978767253905


def test_ban_first_applies_to_instructions_alone(checkpoint: Loaded) -> None:
    settings = checkpoint.settings(ban_first=("a", "?"))
    plan = plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, settings, QUESTIONS)
    banned = plan.instruction_sample(PLAIN).sampling.banned_first

    assert {plan.tokenizer.decode([token]).lstrip()[0] for token in banned} == {"a", "?"}
    assert not plan.response_sample.sampling.banned_first


def tokenizer_of(folder: Path, tokens: list[str], decoder: object) -> Tokenizer:
    library = Library(models.BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=[]))
    library.decoder = decoder
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return load_tokenizer(folder)


def test_two_strings_ban_the_seven_ids_of_the_reference_code(tmp_path: Path) -> None:
    # Llama 3.1's own tokens for the ids listed in Magpie (4) and in magpie-ultra (3), among others.
    tokens = ["#", "##", "###", "####", "**", "Ġ**", "**:", "a#", "*", "Ġ", "Ċ", "ĠĠ#", "#include"]
    tokenizer = tokenizer_of(tmp_path, tokens, decoders.ByteLevel())
    banned = first_token_bans(tokenizer, ["#", "**"])
    assert [tokens[index] for index in banned] == [
        "#", "##", "###", "####", "**", "Ġ**", "**:", "ĠĠ#", "#include"
    ]  # fmt: skip


def test_sentencepiece_spells_spaces_and_bytes_in_its_own_way(tmp_path: Path) -> None:
    tokens = ["▁#", "#", "▁▁##", "<0x23>", "<0x2A>", "▁", "▁a", "a", "*", "▁**", "**▁", "<0xE2>"]
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer = tokenizer_of(tmp_path, tokens, decoders.Sequence(steps))
    banned = {string: [tokens[index] for index in first_token_bans(tokenizer, [string])] for string in ("#", "**", "*")}
    assert banned == {
        "#": ["▁#", "#", "▁▁##", "<0x23>"],
        "**": ["▁**", "**▁"],
        "*": ["<0x2A>", "*", "▁**", "**▁"],
    }


def test_an_unknown_spelling_is_decoded_by_the_library(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, ["#", "##x", "# a", "a"], decoders.BPEDecoder(suffix="</w>"))
    assert tokenizer.backend.token_bytes is None
    assert first_token_bans(tokenizer, ["#"]) == (0, 1, 2)


def test_single_characters_are_found_at_their_ids(tmp_path: Path) -> None:
    train_llama3_tokenizer([], tmp_path, vocab_size=256 + 16)
    tokenizer = load_tokenizer(tmp_path)
    assert first_token_bans(tokenizer, ["#", "*"]) == (ord("#") - 33, ord("*") - 33)


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_exactly_the_tokens_that_start_with_a_string_are_banned(name: str) -> None:
    tokenizer = load_tokenizer(MODELS / name)
    banned = set(first_token_bans(tokenizer, ["W", "#"]))
    words = {token for token in range(tokenizer.vocab_size) if token not in tokenizer.special_ids}
    starts = {
        token for token in words if tokenizer.bytes_of(token).decode(errors="replace").lstrip().startswith(("W", "#"))
    }
    assert banned == starts
    assert {tokenizer.encode("What")[0], tokenizer.encode("# a")[0]} <= banned


def test_stop_tokens_are_never_banned() -> None:
    tokenizer = load_tokenizer(MODELS / "tiny-llama3")
    assert not set(first_token_bans(tokenizer, ["<"])) & tokenizer.special_ids


def test_a_ban_without_effect_is_refused(tmp_path: Path) -> None:
    train_llama3_tokenizer([], tmp_path, vocab_size=256 + 16)
    with pytest.raises(UserError) as caught:
        first_token_bans(load_tokenizer(tmp_path), ["#", "**", "é", " "])
    assert caught.value.what == "A ban on the first token bans nothing"
    assert caught.value.details == ("no token starts with '**'", "no token starts with 'é'", "a string is empty")


def test_no_strings_ban_nothing() -> None:
    assert first_token_bans(load_tokenizer(MODELS / "tiny-gemma2"), []) == ()
