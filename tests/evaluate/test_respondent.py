"""A model that is asked: greedy answers, labels with their ends, and what does not fit."""

import math

import pytest

from mlx_suite.evaluate.respondent import Respondent
from mlx_suite.text import Message
from tests.engine.scripted import ScriptedModel
from tests.evaluate.conftest import Loaded

ASKED = [[Message("user", text)] for text in ("a", "b c", "")]


def scripted(checkpoint: Loaded, script: dict[str, str | dict[str, float]], style: str = "chat") -> Respondent:
    """After a letter comes a letter, or letters by probability; `.` is the end of the turn."""
    end = checkpoint.tokenizer.id_of("<|eot_id|>")
    assert end is not None

    def token(letter: str) -> int:
        return end if letter == "." else checkpoint.tokenizer.encode(letter)[0]

    lines = {
        token(before): token(after) if isinstance(after, str) else {token(each): p for each, p in after.items()}
        for before, after in script.items()
    }
    return Respondent(
        model=ScriptedModel(lines, vocab_size=272),
        tokenizer=checkpoint.tokenizer,
        template=checkpoint.template,
        style=style,
        slots=2,
    )


def test_every_question_gets_the_answer_up_to_the_end_of_the_turn(checkpoint: Loaded) -> None:
    # The chat template ends with a newline before the answer.
    respondent = scripted(checkpoint, {"\n": "8", "8": "5", "5": "."})
    found = sorted((number, reply.text, reply.reason) for number, reply in respondent.answers(ASKED, 10))
    assert found == [(0, "85", "stop"), (1, "85", "stop"), (2, "85", "stop")]


def test_a_cut_off_answer_says_so(checkpoint: Loaded) -> None:
    [(_, reply)] = scripted(checkpoint, {"\n": "8", "8": "8"}).answers(ASKED[:1], 4)
    assert (reply.text, reply.reason) == ("8888", "limit")


def test_a_label_counts_with_its_end_so_none_begins_another(checkpoint: Loaded) -> None:
    script: dict[str, str | dict[str, float]] = {"\n": {"1": 0.5, "7": 0.25}, "1": "0", "0": {"0": 0.5, ".": 0.5}}
    respondent = scripted(checkpoint, {**script, "7": "."})
    found = dict(respondent.preferences(ASKED, ("10", "7")))
    assert sorted(found) == [0, 1, 2]
    for preference in found.values():
        assert preference is not None
        # "10" and its end: ½ · 1 · ½; "7" and its end: ¼. The rest of the table is e^-30.
        expected = (0.5 / 0.75 * 0.5, 0.25 / 0.75)
        assert preference.log_probs == pytest.approx([math.log(p) for p in expected], abs=1e-4)


def test_a_question_without_room_has_no_preference_and_no_answer(checkpoint: Loaded) -> None:
    respondent = Respondent(model=checkpoint.model, tokenizer=checkpoint.tokenizer, template=checkpoint.template)
    long = [[Message("user", "a" * 300)], [Message("user", "a")]]
    preferences = dict(respondent.preferences(long, ("A", "B")))
    assert preferences[0] is None and preferences[1] is not None
    answers = dict(respondent.answers(long, 3))
    assert (answers[0].text, answers[0].reason) == ("", "context")
    assert answers[1].reason in ("limit", "stop")


def test_a_model_is_asked_in_the_style_it_was_trained_in(checkpoint: Loaded) -> None:
    respondent = Respondent(model=checkpoint.model, tokenizer=checkpoint.tokenizer, template=None, style="alpaca")
    text = checkpoint.tokenizer.decode(respondent.prompt([Message("user", "Sum up.")], "Long text."))
    assert text.endswith("### Instruction:\nSum up.\n\n### Input:\nLong text.\n\n### Response:\n")
    assert set(respondent.stop_ids) >= checkpoint.tokenizer.stop_ids
