"""Questions about a conversation in each family's tokens, and tags from the replies."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_suite import load
from mlx_suite.curation.tags.full_questions import CATEGORIES, FULL_QUESTIONS, LANGUAGES
from mlx_suite.curation.tags.tagging import (
    Tag,
    Tagger,
    make_tagger,
    only,
    probabilities,
    questions_for,
    unique_prefixes,
)
from mlx_suite.data.questions import Question, Questions, write_questions
from mlx_suite.engine import Engine, Given, Program, Query, Reply, Request
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message, encode_chat, load_chat_template, load_tokenizer
from mlx_suite.text.message import ASSISTANT, USER
from tests.text.conftest import byte_folder, family, gemma2_folder, llama3_folder  # noqa: F401

FAMILIES = ("llama3", "llama31", "gemma2", "mistral", "qwen2", "qwen25", "phi3")
BRIEF = Questions(
    listening="Yes?",
    questions=(
        Question(name="category", about="instruction", text="Category?", labels=("Math", "Maths", "Other")),
        Question(name="quality", about="answer", text="Good?", labels=("very poor", "very good", "good")),
    ),
)
CONVERSATION = (Message(USER, "What is 2 + 2?"), Message(ASSISTANT, "It is 4."))


def tagger_of(one: Any, questions: Questions = BRIEF, embed: bool = False) -> Tagger:
    return make_tagger(one.tokenizer, one.template, questions, embed=embed)


def written(one: Any, query: Query) -> tuple[str, list[str]]:
    labels = [one.tokenizer.decode(label, skip_special=False).strip() for label in query.labels]
    return one.tokenizer.decode(query.tokens, skip_special=False), labels


@pytest.mark.parametrize("name", FAMILIES)
def test_query_tokens_are_what_the_template_renders_next(name: str, family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family(name)
    tagger = tagger_of(one)

    def encoded(*turns: Message, prompt: bool = True) -> list[int]:
        return encode_chat(one.tokenizer, one.template, turns, add_generation_prompt=prompt).ids

    for queries, turns in ((tagger.instruction, CONVERSATION[:1]), (tagger.answer, CONVERSATION)):
        [query] = queries.queries
        listening = (Message(ASSISTANT, "Yes?"),) if len(turns) == 1 else ()
        text = "Category?" if len(turns) == 1 else "Good?"
        whole = encoded(*turns, *listening, Message(USER, text))
        alone = encoded(*turns, prompt=False)
        assert whole[-len(query.tokens) :] == list(query.tokens)
        # Before it comes the conversation, up to the stop token of its last turn.
        before = whole[: -len(query.tokens)]
        assert alone[: len(before)] == before
        assert before[-1] in one.tokenizer.special_ids


def test_the_queries_of_a_byte_tokenizer_spell_out_every_letter(byte_folder: Path) -> None:  # noqa: F811
    tokenizer = load_tokenizer(byte_folder)
    brief = Questions(
        listening="Y", questions=(replace(BRIEF.questions[0], text="C"), replace(BRIEF.questions[1], text="G"))
    )

    tagger = make_tagger(tokenizer, load_chat_template(byte_folder), brief, embed=False)

    def turn(role: str, text: str | None = None) -> list[int]:
        header = [262, *(ord(letter) - 33 for letter in role), 263, 198, 198]
        return header if text is None else [*header, *(ord(letter) - 33 for letter in text), 265]

    [category], [quality] = tagger.instruction.queries, tagger.answer.queries
    assert list(category.tokens) == [*turn("assistant", "Y"), *turn("user", "C"), *turn("assistant")]
    assert list(quality.tokens) == [*turn("user", "G"), *turn("assistant")]
    math_letters = tuple(ord(letter) - 33 for letter in "Math")
    assert category.labels == ((*math_letters, 265), (*math_letters, ord("s") - 33), (ord("O") - 33,))


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_are_cut_to_prefixes_that_no_other_label_shares(name: str, family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family(name)
    tagger = tagger_of(one)

    for question, query in zip(BRIEF.questions, (*tagger.instruction.queries, *tagger.answer.queries), strict=True):
        shown = written(one, query)[1]
        stop = one.tokenizer.decode(tagger_stop(one), skip_special=False)
        for label, whole in zip(shown, question.labels, strict=True):
            assert f"{whole}{stop}".startswith(label)
        for a in query.labels:
            assert [b for b in query.labels if b[: len(a)] == a] == [a]


def tagger_stop(one: Any) -> list[int]:
    from mlx_suite.text import derive_pre_query

    return [derive_pre_query(one.tokenizer, one.template).assistant_stop_ids[0]]


def test_unique_prefixes_of_known_labels() -> None:
    assert unique_prefixes(((1, 2, 9), (1, 2, 3, 9), (1, 4, 9), (5, 9), (6, 9))) == (
        (1, 2, 9),
        (1, 2, 3),
        (1, 4),
        (5,),
        (6,),
    )


def test_confidence_is_the_probability_among_the_labels() -> None:
    tagger = Tagger(questions=BRIEF, embed=False, instruction=None, answer=None)  # type: ignore[arg-type]
    reply = Reply(index=1, log_probs=(math.log(0.01), math.log(0.06), math.log(0.03)))

    assert probabilities(reply.log_probs) == pytest.approx([0.1, 0.6, 0.3])
    assert tagger.instruction_tags((reply,)) == {"category": Tag(label="Maths", confidence=0.6)}
    assert tagger.answer_tags((reply,)) == {"quality": Tag(label="very good", confidence=0.6)}
    assert probabilities((-2000.0, -2001.0)) == pytest.approx([0.7310585786, 0.2689414214])


def test_without_replies_there_are_no_tags() -> None:
    tagger = Tagger(questions=BRIEF, embed=True, instruction=None, answer=None)  # type: ignore[arg-type]

    assert tagger.instruction_tags(None) == tagger.answer_tags(None) == {}
    assert tagger.embedding(None) is None


def test_the_embedding_comes_from_the_last_query_and_is_a_unit_vector(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("llama3")
    tagger = tagger_of(one, embed=True)
    category, about = tagger.instruction.queries

    assert about.state and not about.labels and not category.state
    assert about.tokens and category.tokens[: len(about.tokens)] == about.tokens
    replies = (
        Reply(index=0, log_probs=(0.0, -9.0, -9.0)),
        Reply(index=None, log_probs=(), state=np.array([3.0, 0.0, 4.0], np.float32)),
    )
    vector = tagger.embedding(replies)
    assert vector is not None and vector.dtype == np.float32
    np.testing.assert_allclose(vector, [0.6, 0.0, 0.8], rtol=1e-6)
    assert list(tagger.instruction_tags(replies)) == ["category"]
    assert tagger_of(one).embedding(replies) is None


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_queries_on_the_shipped_models_equal_full_conversations(name: str) -> None:
    folder = Path(__file__).parents[3] / "models" / name
    model, tokenizer = load(folder)
    template = load_chat_template(folder)
    tagger = make_tagger(tokenizer, template, BRIEF, embed=True)
    engine = Engine(model, slots=2)

    def alone(query: Query) -> Program:
        """The same question as a separate conversation."""
        turns = (*CONVERSATION[:1], Message(ASSISTANT, "Yes?"), Message(USER, "Category?"))
        ids = encode_chat(tokenizer, template, turns, add_generation_prompt=True).ids
        yield Given(tuple(ids[:-1]))
        from mlx_suite.engine import Queries

        [reply] = yield Queries((Query(tokens=tuple(ids[-1:]), labels=query.labels),))
        return reply

    def after(tokens: list[int]) -> Program:
        yield Given(tuple(tokens))
        return (yield tagger.instruction)

    whole = encode_chat(tokenizer, template, CONVERSATION[:1]).ids
    stop = next(i for i in range(len(whole) - 1, 0, -1) if whole[i] in tokenizer.special_ids)
    first, second = (
        each.result
        for each in engine.run(
            [Request(program=after(whole[: stop + 1])), Request(program=alone(tagger.instruction.queries[0]))]
        )
    )
    assert first[0].log_probs == pytest.approx(second.log_probs, abs=1e-3)
    vector = tagger.embedding(first)
    assert vector is not None and np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_a_template_that_alters_texts_is_refused(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("llama3")
    source = one.template.source.replace("message.content | trim", "message.content | trim | upper")
    assert source != one.template.source

    with pytest.raises(UserError, match="chat template"):
        tagger_of(replace(one, template=replace(one.template, source=source)))


REMINDER = "{% if loop.last and loop.length == 3 and add_generation_prompt %}Be brief. {% endif %}"
TEMPLATE = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def test_text_that_a_template_adds_to_a_later_turn_is_part_of_the_query(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("llama3")
    source = TEMPLATE.replace("{{ m.content }}", REMINDER + "{{ m.content }}")

    tagger = tagger_of(replace(one, template=replace(one.template, source=source)))

    assert "user<|end_header_id|>\n\nBe brief. Category?<|eot_id|>" in written(one, tagger.instruction.queries[0])[0]


def test_a_template_whose_generation_prompt_depends_on_the_turns_is_refused(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("llama3")
    source = TEMPLATE.removesuffix("{% endif %}") + "{% if messages | length == 3 %}Well: {% endif %}{% endif %}"

    with pytest.raises(UserError, match="the generation prompt depends on the turns"):
        tagger_of(replace(one, template=replace(one.template, source=source)))


def test_questions_come_from_the_file_the_checkpoint_or_the_general_set(tmp_path: Path) -> None:
    own, given = tmp_path / "model", tmp_path / "mine.json"
    own.mkdir()
    assert questions_for(None) is FULL_QUESTIONS
    assert questions_for(own) is FULL_QUESTIONS
    write_questions(BRIEF, own / "tag_questions.json")
    write_questions(replace(BRIEF, listening="Hm?"), given)

    assert questions_for(own) == BRIEF
    assert questions_for(own, given).listening == "Hm?"
    given.write_text(json.dumps({"questions": []}))
    with pytest.raises(UserError, match="The questions are not valid"):
        questions_for(own, given)


def test_only_keeps_the_named_questions_in_their_order() -> None:
    some = only(FULL_QUESTIONS, ["answer_quality", "category"])
    assert [each.name for each in some.questions] == ["category", "answer_quality"]

    with pytest.raises(UserError) as error:
        only(FULL_QUESTIONS, ["categroy", "mood"])
    assert error.value.details[0] == "categroy: did you mean category?"
    assert error.value.details[1].startswith("mood: one of category,")


def test_the_general_questions_spell_out_every_label() -> None:
    assert [each.name for each in FULL_QUESTIONS.questions] == [
        "category",
        "difficulty",
        "input_quality",
        "language",
        "safety",
        "answer_quality",
        "answer_safety",
    ]
    for question in FULL_QUESTIONS.questions:
        if question.name != "language":  # too many to list
            assert all(label in question.text for label in question.labels)
    assert (len(CATEGORIES), len(LANGUAGES)) == (12, 16)
