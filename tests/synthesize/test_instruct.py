"""Chat models as synthesizers: what the prompt asks for, and how the response is read."""

import json
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.format import Example, Pair, Rewrite, parse_pairs
from mlx_suite.synthesize.instruct import SHOWN, ChatWriter, check_trained_forms, is_chat_model
from mlx_suite.synthesize.writer import read_outcome
from tests.synthesize.random_chat import random_job, write_random_chat


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> ChatWriter:
    found = random_job(write_random_chat(tmp_path_factory.mktemp("random")), batch=1).writer
    assert isinstance(found, ChatWriter)
    return found


def test_the_request_shows_the_tags_and_an_example_that_the_parser_reads(writer: ChatWriter) -> None:
    request = writer.request("Ada eats.", "pairs")
    shown = request[request.index("you would write:") : request.index("The text:")].removeprefix("you would write:")
    assert parse_pairs(shown.strip()).pairs == SHOWN.pairs
    assert {pair.kind for pair in SHOWN.pairs} == {"free", "choice", "reasoning"}
    assert request.endswith("The text:\n\nAda eats.")


def test_the_language_is_that_of_the_text_or_the_one_asked_for(writer: ChatWriter) -> None:
    assert "Write in the language of the text." in writer.request("Ada isst.", "faq")
    german = ChatWriter(chat=writer.chat, language="German")
    for form in ("pairs", "faq", "continue"):
        assert "Write in German, whatever the text is in." in german.request("Ada eats.", form)


def test_braces_in_a_text_stay(writer: ChatWriter) -> None:
    for form in ("pairs", "table"):
        assert writer.request("{language} {x}", form).endswith("{language} {x}")


def test_earlier_texts_are_earlier_turns(writer: ChatWriter) -> None:
    pairs = Example(text="Ada eats.", pairs=(Pair(question="Who eats?", answer="Ada"),))
    rewrite = Example(text="Ada eats.", rewrite=Rewrite(form="table", text="| Ada | eats |"))
    decode = writer.tokenizer.decode
    prompt = decode(writer.prompt([pairs], "Ben sleeps.", "pairs"))
    assert "<QUE> Who eats? <ANS> Ada </END>" in prompt
    assert prompt.index("Ada eats.") < prompt.index("Who eats?") < prompt.index("Ben sleeps.")
    assert "| Ada | eats |" in decode(writer.prompt([rewrite], "Ben sleeps.", "table"))


def test_text_around_the_pairs_of_a_response_is_dropped_and_counted(writer: ChatWriter) -> None:
    outcome = writer.read("Ada eats.", "Sure!\n<QUE> Who? <ANS> Ada </END>\n<QUE> What", "limit", "pairs")
    assert outcome.pairs == ()
    assert outcome.dropped == {"no question": 1, "cut off": 1}


def test_a_rewrite_is_the_whole_response_if_it_was_not_cut_off(writer: ChatWriter) -> None:
    assert writer.read("Ada eats.", " Food is what Ada likes. ", "stop", "prose").rewrite == "Food is what Ada likes."
    assert writer.read("Ada eats.", "Food is what", "limit", "prose").dropped == {"cut off": 1}


def test_a_loop_is_rejected_and_the_pairs_before_it_are_kept(writer: ChatWriter) -> None:
    pair = "<QUE> Who eats? <ANS> Ada </END>\n"
    outcome = read_outcome(writer, "Ada eats.", pair + "<QUE> What is it that " + "she is and " * 30, "loop", "pairs")
    assert [each.answer for each in outcome.pairs] == ["Ada"]
    assert outcome.dropped == {"repeats the same words without end": 1}
    for form in ("prose", "continue"):
        looped = read_outcome(writer, "Ada eats.", "Food. " + "Ada likes food. " * 30, "loop", form)
        assert (looped.rewrite, looped.dropped) == ("", {"repeats the same words without end": 1})


def test_a_model_with_a_chat_template_is_a_chat_model_unless_it_is_marked_as_a_synthesizer(tmp_path: Path) -> None:
    (tmp_path / "chat").mkdir()
    write_random_chat(tmp_path / "chat")
    (tmp_path / "base").mkdir()
    assert is_chat_model([tmp_path / "chat"])
    assert not is_chat_model([tmp_path / "base"])
    (tmp_path / "base" / "synthesizer.json").write_text(json.dumps({"rewrites": ["faq"]}))
    assert not is_chat_model([tmp_path / "base", tmp_path / "chat"])
    check_trained_forms([tmp_path / "base"], ["pairs", "faq", "continue"])
    with pytest.raises(UserError, match="was not trained to write table"):
        check_trained_forms([tmp_path / "base"], ["table"])
