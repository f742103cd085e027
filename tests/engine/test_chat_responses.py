"""Greedy responses, log-probabilities of labels, and prompts that fill the context."""

import math

import pytest

from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.text import Message
from tests.engine.scripted import ScriptedModel
from tests.evaluate.conftest import Loaded, checkpoint  # noqa: F401

ASKED = [[Message("user", text)] for text in ("a", "b c", "")]


def scripted(loaded: Loaded, script: dict[str, str | dict[str, float]], style: str = "chat") -> ChatModel:
    """A model that predicts a letter, or letters by probability, after each letter; `.` ends the turn."""
    end = loaded.tokenizer.id_of("<|eot_id|>")
    assert end is not None

    def token(letter: str) -> int:
        return end if letter == "." else loaded.tokenizer.encode(letter)[0]

    lines = {
        token(before): token(after) if isinstance(after, str) else {token(each): p for each, p in after.items()}
        for before, after in script.items()
    }
    return ChatModel(
        model=ScriptedModel(lines, vocab_size=272),
        tokenizer=loaded.tokenizer,
        template=loaded.template,
        style=style,
        slots=2,
    )


def test_every_conversation_gets_a_response_up_to_its_stop_token(checkpoint: Loaded) -> None:  # noqa: F811
    # The chat template ends with a newline before the answer.
    chat = scripted(checkpoint, {"\n": "8", "8": "5", "5": "."})
    found = sorted((number, reply.text, reply.reason) for number, reply in chat.respond(ASKED, 10))
    assert found == [(0, "85", "stop"), (1, "85", "stop"), (2, "85", "stop")]


def test_a_response_at_the_limit_has_that_reason(checkpoint: Loaded) -> None:  # noqa: F811
    [(_, reply)] = scripted(checkpoint, {"\n": "8", "8": "8"}).respond(ASKED[:1], 4)
    assert (reply.text, reply.reason) == ("8888", "limit")


def test_a_labels_stop_token_counts_so_none_is_a_prefix_of_another(checkpoint: Loaded) -> None:  # noqa: F811
    script: dict[str, str | dict[str, float]] = {"\n": {"1": 0.5, "7": 0.25}, "1": "0", "0": {"0": 0.5, ".": 0.5}}
    chat = scripted(checkpoint, {**script, "7": "."})
    found = dict(chat.preferences(ASKED, ("10", "7")))
    assert sorted(found) == [0, 1, 2]
    for preference in found.values():
        assert preference is not None
        # "10" and its end: ½ · 1 · ½; "7" and its end: ¼. The rest of the table is e^-30.
        expected = (0.5 / 0.75 * 0.5, 0.25 / 0.75)
        assert preference == pytest.approx([math.log(p) for p in expected], abs=1e-4)


def test_a_prompt_that_fills_the_context_has_no_preferences_and_no_response(checkpoint: Loaded) -> None:  # noqa: F811
    chat = ChatModel(model=checkpoint.model, tokenizer=checkpoint.tokenizer, template=checkpoint.template)
    long = [[Message("user", "a" * 300)], [Message("user", "a")]]
    preferences = dict(chat.preferences(long, ("A", "B")))
    assert preferences[0] is None and preferences[1] is not None
    answers = dict(chat.respond(long, 3))
    assert (answers[0].text, answers[0].reason) == ("", "context")
    assert answers[1].reason in ("limit", "stop")


def test_a_prompt_has_the_style_the_model_was_trained_in(checkpoint: Loaded) -> None:  # noqa: F811
    chat = ChatModel(model=checkpoint.model, tokenizer=checkpoint.tokenizer, template=None, style="alpaca")
    text = checkpoint.tokenizer.decode(chat.styled_prompt([Message("user", "Sum up.")], "Long text."))
    assert text.endswith("### Instruction:\nSum up.\n\n### Input:\nLong text.\n\n### Response:\n")
    assert set(chat.stop_ids) >= checkpoint.tokenizer.stop_ids
