"""The sanitiser keeps the user's message and removes everything else."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.magpie.sanitiser.code_blocks import fenced_blocks
from mlx_suite.magpie.sanitiser.request_checks import lacks_payload, looks_like_answer
from mlx_suite.magpie.sanitiser.sanitise import NAMES, sanitise
from mlx_suite.microworld import make_world, sample_example
from tests.magpie.sanitise_cases import BAD, GOOD


@pytest.mark.parametrize("name", GOOD)
def test_a_clean_message_is_unchanged(name: str) -> None:
    done = sanitise(f" \n{GOOD[name]}\n ")
    assert done.text == GOOD[name].strip()
    assert done.removed == ()


@pytest.mark.parametrize("name", BAD)
def test_everything_around_a_message_is_removed(name: str) -> None:
    text, expected, rules = BAD[name]
    done = sanitise(text)
    assert done.text == expected
    assert done.removed == rules


def test_every_rule_is_covered_by_a_case() -> None:
    assert {rule for _, _, rules in BAD.values() for rule in rules} == set(NAMES)


@pytest.mark.parametrize(
    ("lossy", "text"),
    [
        (
            "the second sentence",
            "What is the capital of France? Explain why Paris was chosen and compare it with Lyon.",
        ),
        ("the payload", "Summarise the following text:\nThe cat sat on the mat."),
        ("all but the first line", "Write three things:\n1. a rhyme\n2. a joke\n3. a riddle"),
        ("everything before the first line with text", "\n\nFirst read this.\n\nThen say what you think of it."),
        ("what follows the word assistant", "Draft a contract for an administrative assistant in Bonn."),
        ("code, at the first newline", "Why is this slow?\n\n```python\nfor i in range(n):\n    print(i)\n```"),
    ],
)
def test_the_sanitiser_keeps_what_others_lose(lossy: str, text: str) -> None:
    assert sanitise(text).text == text.strip(), lossy


@pytest.mark.parametrize(
    "mark", ["Answer: x", "Explanation: x", "Solution: x", "Correct answer: x", "The answer is: x"]
)
def test_an_answer_marker_needs_at_most_one_colon(mark: str) -> None:
    assert sanitise(f"What is x?\n\n{mark}").text == "What is x?"


def test_a_text_may_contain_no_message() -> None:
    assert sanitise(" \n ").text == ""
    assert sanitise("\x00\x01").text == ""
    assert sanitise("\x00\x01").removed == ("control_characters",)


LINES = st.one_of(
    st.sampled_from(
        [
            "```", "```python", "~~~", "~~~~", "---", "***", "", "", "", "    code", "\tcode", "user", "assistant",
            "model", "Task:", "Task 2: Write a poem.", "Question 3: What is it?", "1. What is it?", "2) Why?",
            "- Which one?", "Answer: 4", "**Answer:** 4", "### Response:", "## Step 1: Add", "Assistant: Hello.",
            "What is it?", '"What is it?"', "“What is it?”", "**What is it?**", "<b>What is it?</b>", "<b>What is it?",
            "Here:", "Write a poem.", "<|im_start|>user", "What?<|im_end|>", "<|eot_id|>", "[INST] Hi [/INST]",
            "Name: Tom", "# Hi", ": What?", "`\x00``", "什么是湖？", "答案：湖", "What?\r", "\ufeffWhat?",
            "<p><b>What is it?</b></p>", "'''", '"', "**",
        ]
    ),
    st.text(alphabet="ab?.:*\"'`~#-<b>/ \t\n\x00\r１。", max_size=12),
)  # fmt: skip
TEXTS = st.one_of(st.lists(LINES, max_size=8).map("\n".join), st.text(max_size=40))


@given(TEXTS)
def test_sanitising_twice_changes_nothing_more(text: str) -> None:
    once = sanitise(text).text
    assert sanitise(once).text == once
    assert sanitise(once).removed == ()


@given(TEXTS)
def test_nothing_is_added(text: str) -> None:
    done = sanitise(text)
    assert len(done.text) <= len(text)
    assert set(done.removed) <= set(NAMES)
    assert _is_subsequence(*(re.sub("[\v\f\r\x85]", " ", one) for one in (done.text, text)))


@given(TEXTS)
def test_the_result_consists_of_lines_of_the_text_in_order(text: str) -> None:
    # A line may lose text at its ends, and control characters anywhere.
    lines = iter([_plain(line) for line in text.strip().split("\n")])
    for kept in sanitise(text).text.split("\n"):
        assert any(_plain(kept) in line for line in lines)


@given(TEXTS)
def test_fenced_blocks_are_never_changed(text: str) -> None:
    before, after = fenced_blocks(text.strip()), fenced_blocks(sanitise(text).text)
    assert after == before[: len(after)]


def test_instructions_of_the_microworld_pass_unchanged() -> None:
    random, world = Random(0), make_world(0)
    for _ in range(1000):
        instruction = sample_example(random, world).instruction
        assert sanitise(instruction).text == instruction
        assert not lacks_payload(instruction)
        assert not looks_like_answer(instruction)


def _is_subsequence(part: str, text: str) -> bool:
    chars = iter(text)
    return all(char in chars for char in part)


def _plain(line: str) -> str:
    return "".join(char for char in line if char.isprintable() and not char.isspace())
