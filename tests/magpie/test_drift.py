"""Drift in generated user turns is detected; text that users do write is not."""

from itertools import islice

import pytest

from mlx_suite.magpie.drift import DRIFTS, drift_of, is_courtesy
from mlx_suite.microworld import training_conversations

QUESTION = "Write a short story about a fox and a hen."
ANSWER = "The fox met a hen on the road. They talked for an hour and then went home together."

USERS = (
    "Thanks! Now make it shorter.",
    "Thank you, now translate it into German.",
    "Thanks for the story, but I wanted a wolf.",
    "Great. Add a second hen.",
    "Great, now do the same in Python.",
    "Sure, make it formal then.",
    "Ok. What about a dog?",
    "No, I meant the river.",
    "Perfect. Can you add a title?",
    "Interesting facts about bees.",
    "Good advice on jobs.",
    "Amazing story of a dog",
    "As an AI, how do you feel about poems?",
    "Act as an AI that reviews code.",
    "I'm sorry, but I don't understand the last step. Can you explain?",
    "Let me know if you need more information from me. How would you start?",
    "You are welcome to use libraries. Write the function.",
    "How can I help my son learn maths?",
    "Here is my code: x = 1. Why does it fail?",
    "Here are the numbers: 3, 1, 2. Sort them.",
    "What does 'They talked for an hour and then went home together' mean?",
    "Translate this into French: The fox met a hen on the road. They talked for an hour and then went home together.",
    "Write a short story about a fox and a goose.",
    "¿Y si el zorro tuviera hambre?",
    "狐は何を食べますか",
)


@pytest.mark.parametrize("text", USERS)
def test_what_users_write_is_not_drift(text: str) -> None:
    assert drift_of(text, [QUESTION], [ANSWER]) is None


@pytest.mark.parametrize(
    ("drift", "texts"),
    [
        (
            "thanks",
            (
                "Thanks!",
                "Thank you so much for your help!",
                "Great, thanks.",
                "That's very helpful, thank you!",
                "Wow, that's amazing. Thanks a lot.",
                "Okay, that makes sense. Thanks again!",
                "What a great story!",
                "Got it, thanks! Have a great day!",
            ),
        ),
        (
            "assistant",
            (
                "As an AI language model, I don't have feelings.",
                "I’m an AI and cannot do that.",
                "I'd be happy to help you with that!",
                "How can I help you today?",
                "The story is done. I hope this helps!",
                "Let me know if you have any other questions.",
                "Is there anything else I can help you with?",
                "You're welcome! Have a great day.",
                "I'm sorry, but I cannot help with that.",
                "Sure! Here is the list you asked for.",
                "That's a great question! The sky is blue because light is scattered.",
                "I'm glad I could help.",
                "Here's another example: the wolf met a goat.",
            ),
        ),
        ("repeat", (QUESTION, "write a short story about a fox and a hen", f"Please: {QUESTION[:-1]}!")),
        (
            "echo",
            (ANSWER, "The fox met a hen on the road. They talked for an hour.", "The fox met a hen on the road, ok"),
        ),
    ],
)
def test_each_kind_of_drift_is_recognised(drift: str, texts: tuple[str, ...]) -> None:
    assert [drift_of(text, [QUESTION], [ANSWER]) for text in texts] == [drift] * len(texts)
    assert drift in DRIFTS


def test_a_repeat_of_any_earlier_question_is_found() -> None:
    questions = ["Who is Ben?", "And what does he eat?", "Where does he live?"]
    assert drift_of("who is ben", questions, []) == "repeat"
    assert drift_of("Who is Tom?", questions, []) is None


def test_a_text_without_words_is_not_a_courtesy() -> None:
    assert not is_courtesy("...")
    assert not is_courtesy("")


def test_second_turns_of_the_microworld_are_not_drift() -> None:
    two = (turns for turns in training_conversations(5) if len(turns) == 2)
    for first, second in islice(two, 200):
        assert drift_of(second.instruction, [first.instruction], [first.answer]) is None
