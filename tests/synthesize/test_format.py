"""The synthesizer's format: exact text and tokens, the loss mask, and a parser that keeps what is whole."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.format import (
    Example,
    Pair,
    Rewrite,
    contains_tags,
    encode_chain,
    encode_prompt,
    parse_pairs,
    parse_rewrite,
    read_pair,
    write_completion,
    write_pair,
)
from mlx_suite.text import Tokenizer

TOWN = Example(
    text="Oakford lies on the Alba.",
    pairs=(Pair(question="Which river is it?", answer="the Alba"), Pair(question="Which town?", answer="Oakford")),
)
PERSON = Example(text="Ada is a baker.", pairs=(Pair(question="What is Ada?", answer="a baker"),))
CHOICE = Pair(question="Who bakes?", options=("Ben", "Ada"), answer="Ada")
REASONED = Pair(question="Is Ada old?", reasoning="She was born in 1950.", answer="yes")
BOTH = Pair(question="Who is older?", options=("Ada", "Ben"), reasoning="1950 is before 1960.", answer="Ada")


def text_of(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special=False)


def trained_text(tokenizer: Tokenizer, chain: list[Example], **options: bool) -> list[str]:
    """The stretches of trained tokens."""
    document = encode_chain(tokenizer, chain, **options)
    runs: list[list[int]] = [[]]
    for token, weight in zip(document.tokens, document.weights, strict=True):
        if weight:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [text_of(tokenizer, run) for run in runs if run]


# ---- text


def test_a_pair_of_each_kind_is_written_as_in_the_paper() -> None:
    assert write_pair(PERSON.pairs[0]) == "<QUE> What is Ada? <ANS> a baker </END>"
    assert write_pair(CHOICE) == "<QUE> Who bakes?\nOptions:\n- Ben\n- Ada <ANS> Ada </END>"
    assert write_pair(REASONED) == (
        "<QUE> Is Ada old?\nLet's think step by step. <ANS> She was born in 1950.\nTherefore, the answer is yes </END>"
    )
    assert write_pair(BOTH) == (
        "<QUE> Who is older?\nOptions:\n- Ada\n- Ben\nLet's think step by step. "
        "<ANS> 1950 is before 1960.\nTherefore, the answer is Ada </END>"
    )
    assert [pair.kind for pair in (PERSON.pairs[0], CHOICE, REASONED, BOTH)] == ["free", "choice", "reasoning", "both"]


def test_pairs_are_separated_by_a_blank_line() -> None:
    assert write_completion(TOWN) == (
        "<QUE> Which river is it? <ANS> the Alba </END>\n\n<QUE> Which town? <ANS> Oakford </END>"
    )


def test_a_rewrite_is_written_with_its_form() -> None:
    example = Example(text="Ada bakes.", rewrite=Rewrite(form="table", text="| Ada | bakes |"))
    assert write_completion(example) == "<REW> table <OUT> | Ada | bakes | </END>"
    assert parse_rewrite("<REW> table <OUT> | Ada | bakes | </END>", "table") == "| Ada | bakes |"


@pytest.mark.parametrize(
    "completion",
    [
        "<REW> table <OUT> | Ada | ba",
        "<REW> quiz <OUT> 1. Ada </END>",
        "<REW> table <OUT>  </END>",
        "<REW> table <OUT> | Ada | </END> and more",
        "| Ada | </END>",
    ],
)
def test_a_rewrite_that_is_cut_off_empty_continued_or_of_another_form_is_none(completion: str) -> None:
    assert parse_rewrite(completion, "table") is None


# ---- tokens


def test_a_chain_has_a_space_after_bos_a_blank_line_after_the_text_and_eos_bos_between_examples(
    gemma2: Tokenizer,
) -> None:
    assert text_of(gemma2, list(encode_chain(gemma2, [TOWN, PERSON]).tokens)) == (
        "<bos> <CON> Oakford lies on the Alba. </CON>\n\n"
        "<QUE> Which river is it? <ANS> the Alba </END>\n\n<QUE> Which town? <ANS> Oakford </END><eos>"
        "<bos> <CON> Ada is a baker. </CON>\n\n<QUE> What is Ada? <ANS> a baker </END><eos>"
    )


def test_a_prompt_ends_after_the_blank_line(gemma2: Tokenizer) -> None:
    assert text_of(gemma2, encode_prompt(gemma2, [PERSON], "Ben is a pilot.")) == (
        "<bos> <CON> Ada is a baker. </CON>\n\n<QUE> What is Ada? <ANS> a baker </END><eos>"
        "<bos> <CON> Ben is a pilot. </CON>\n\n"
    )
    assert text_of(gemma2, encode_prompt(gemma2, [], "Ben is a pilot.", "table")) == (
        "<bos> <CON> Ben is a pilot. </CON>\n\n<REW> table <OUT>"
    )


def test_a_mistral_tokenizer_gives_the_tokens_of_the_reference_prompt(mistral: Tokenizer, mistral_folder: Path) -> None:
    ids = encode_prompt(mistral, [], "Ada bakes.")
    tokens = [mistral.token_of(index) for index in ids]
    # Mistral puts a space before " <CON>", so two spaces follow <s>; newlines are bytes.
    assert tokens == [
        *("<s>", "▁▁", "<", "C", "O", "N", ">", "▁", "A", "d", "a", "▁", "b", "a", "k", "e", "s", "."),
        *("▁<", "/", "C", "O", "N", ">", "<0x0A>", "<0x0A>"),
    ]
    reference = Library.from_file(str(mistral_folder / "tokenizer.json"))
    assert ids == reference.encode("<s> <CON> Ada bakes. </CON>\n\n", add_special_tokens=False).ids


def test_a_mistral_tokenizer_gives_the_tokens_of_a_reference_chain(mistral: Tokenizer, mistral_folder: Path) -> None:
    reference = Library.from_file(str(mistral_folder / "tokenizer.json"))
    written = (
        "<s> <CON> Ada is a baker. </CON>\n\n<QUE> What is Ada? <ANS> a baker </END></s><s> <CON> Ben bakes. </CON>\n\n"
    )
    assert encode_prompt(mistral, [PERSON], "Ben bakes.") == reference.encode(written, add_special_tokens=False).ids


@pytest.mark.parametrize("name", ["gemma2", "gemma2_pieces", "letters", "mistral"])
def test_the_prompt_is_a_prefix_of_the_example(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    for example in (TOWN, Example(text="Ada bakes.", rewrite=Rewrite(form="table", text="| Ada | bakes |"))):
        form = None if example.rewrite is None else example.rewrite.form
        prompt = encode_prompt(tokenizer, [PERSON], example.text, form)
        assert list(encode_chain(tokenizer, [PERSON, example]).tokens)[: len(prompt)] == prompt


@pytest.mark.parametrize("name", ["gemma2", "gemma2_pieces", "letters", "mistral"])
def test_a_text_that_spells_special_tokens_stays_text(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    begin, end = (tokenizer.settings.roles[role] for role in ("bos_token", "eos_token"))
    text = f"It says {end} and {begin}."
    example = Example(text=text, pairs=(Pair(question=f"What is {end}?", answer=f"{end}{begin}"),))
    ids = list(encode_chain(tokenizer, [example]).tokens)
    assert [ids.count(tokenizer.id_of(name) or 0) for name in (begin, end)] == [1, 1]
    assert text in text_of(tokenizer, ids)


def test_a_tokenizer_without_eos_is_refused(letters: Tokenizer) -> None:
    endless = replace(letters, settings=replace(letters.settings, roles={}))
    with pytest.raises(UserError, match="no EOS token"):
        encode_prompt(endless, [PERSON], "Ada bakes.")


def test_tags_in_a_text_are_noticed() -> None:
    assert contains_tags("a tag, <ANS>, in a text")
    assert not contains_tags("ANS > CON, <b>bold</b>, </con>")


# ---- loss


@pytest.mark.parametrize("name", ["gemma2", "gemma2_pieces", "letters", "mistral"])
def test_pairs_and_eos_are_trained_and_what_comes_before_them_is_not(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    end = tokenizer.settings.roles["eos_token"]
    assert trained_text(tokenizer, [TOWN, PERSON]) == [
        f"<QUE> Which river is it? <ANS> the Alba </END>\n\n<QUE> Which town? <ANS> Oakford </END>{end}",
        f"<QUE> What is Ada? <ANS> a baker </END>{end}",
    ]


def test_with_context_everything_is_trained(gemma2: Tokenizer) -> None:
    assert len(trained_text(gemma2, [TOWN, PERSON], context=True)) == 1


def test_a_text_without_pairs_trains_eos_only(gemma2: Tokenizer) -> None:
    assert trained_text(gemma2, [Example(text="Nothing to ask.")]) == ["<eos>"]


def test_a_rewrite_is_trained_like_pairs(gemma2: Tokenizer) -> None:
    example = Example(text="Ada bakes.", rewrite=Rewrite(form="table", text="| Ada | bakes |"))
    assert trained_text(gemma2, [example]) == ["<REW> table <OUT> | Ada | bakes | </END><eos>"]


def test_bos_is_not_trained_where_it_is_the_same_token_as_eos(letters: Tokenizer) -> None:
    roles = {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"}
    same = replace(letters, settings=replace(letters.settings, roles=roles))
    assert trained_text(same, [PERSON, PERSON]) == ["<QUE> What is Ada? <ANS> a baker </END><|end_of_text|>"] * 2


# ---- parser


def test_whole_pairs_are_kept_and_a_cut_off_one_is_dropped() -> None:
    parsed = parse_pairs("<QUE> Who? <ANS> Ada </END>\n\n<QUE> Where? <ANS> Oak")
    assert parsed.pairs == (Pair(question="Who?", answer="Ada"),)
    assert parsed.dropped == {"cut off": 1}
    assert parsed.pieces == 2


def test_every_malformed_piece_is_dropped_and_counted_by_reason() -> None:
    parsed = parse_pairs(
        "<QUE> no answer </END> <QUE> two <ANS> a <ANS> b </END> <QUE> q <QUE> r <ANS> s </END>"
        "<QUE> <ANS> nothing asked </END> <QUE> empty <ANS>  </END> Who? <ANS> Ada </END> </END>"
        "<QUE> Who bakes? <ANS> Ada </END> <QUE> WHO BAKES? <ANS> Ben </END>"
    )
    assert parsed.pairs == (Pair(question="Who bakes?", answer="Ada"),)
    assert parsed.dropped == {"not one answer": 3, "empty": 2, "no question": 2, "repeated": 1}
    assert parsed.pieces == 9


def test_an_empty_completion_has_no_pieces() -> None:
    assert parse_pairs(" \n").pieces == 0


@pytest.mark.parametrize("pair", [PERSON.pairs[0], CHOICE, REASONED, BOTH])
def test_each_kind_is_read_back(pair: Pair) -> None:
    assert parse_pairs(write_pair(pair)).pairs == (pair,)


def test_the_same_question_with_other_options_is_another_question() -> None:
    other = Pair(question="Who bakes?", options=("Ida", "Ada"), answer="Ada")
    assert parse_pairs(f"{write_pair(CHOICE)}\n\n{write_pair(other)}").pairs == (CHOICE, other)


def test_a_request_to_reason_without_a_conclusion_is_part_of_a_free_question() -> None:
    pair = read_pair("Is Ada old?\nLet's think step by step.", "yes")
    assert pair == Pair(question="Is Ada old?\nLet's think step by step.", answer="yes")


def test_the_last_conclusion_gives_the_answer() -> None:
    pair = read_pair(
        "Old?\nLet's think step by step.", "One says:\nTherefore, the answer is no\nTherefore, the answer is yes"
    )
    assert (pair.reasoning, pair.answer) == ("One says:\nTherefore, the answer is no", "yes")


words = st.text(
    st.characters(codec="utf-8", exclude_characters="<>\n\r", exclude_categories=("Cs", "Cc", "Z")), min_size=1
)
phrases = st.lists(words, min_size=1, max_size=4).map(" ".join).filter(lambda text: text == text.strip())
pairs = st.builds(
    Pair,
    question=phrases,
    answer=phrases,
    options=st.one_of(st.just(()), st.lists(phrases, min_size=1, max_size=4).map(tuple)),
    reasoning=st.one_of(st.just(""), phrases),
)


@given(st.lists(pairs, max_size=4, unique_by=lambda pair: pair.question.lower()))
def test_valid_pairs_survive_writing_and_reading(written: list[Pair]) -> None:
    parsed = parse_pairs(write_completion(Example(text="", pairs=tuple(written))))
    assert parsed.pairs == tuple(written)
    assert parsed.dropped == Counter()


@given(
    st.lists(st.sampled_from(["<QUE>", "<ANS>", "</END>", "a", "B", "\nOptions:", "\n- x", " ", "\n\n"]), max_size=24)
)
def test_no_completion_breaks_the_parser_and_every_piece_is_counted(parts: list[str]) -> None:
    completion = "".join(parts)
    parsed = parse_pairs(completion)
    *whole, tail = completion.split("</END>")
    assert parsed.pieces == len(whole) + bool(tail.strip())
    for pair in parsed.pairs:
        assert pair.question.strip() and pair.answer.strip()
        assert "<QUE>" not in pair.question_text + pair.answer_text
        assert "<ANS>" not in pair.question_text + pair.answer_text
