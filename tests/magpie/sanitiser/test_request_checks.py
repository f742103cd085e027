"""Requests without their payload, and replies instead of requests."""

import pytest

from mlx_suite.magpie.sanitiser.request_checks import lacks_payload, looks_like_answer


@pytest.mark.parametrize(
    "text",
    [
        "Summarise the following text:",
        "Summarise the following text.",
        "Summarize the following article in three sentences. Keep it simple.",
        "Can you translate the following sentence into French?",
        "Fix the code below.",
        "What is wrong with the SQL query shown below?",
        "Proofread this essay.",
        "Please summarise this article for a child.",
        "Translate to German:",
        "**Rewrite the text:**",
        "I wrote a poem.\nPlease translate the following:",
        "Here are some examples:",
        "Translate the text.\n\nText:",
        "请翻译下面的句子：",
        "Summarise this: [Insert text here]",
        "Grade the essay.\n\n[paste your essay here]",
    ],
)
def test_a_missing_payload_is_detected(text: str) -> None:
    assert lacks_payload(text)


@pytest.mark.parametrize(
    "text",
    [
        "Summarise the following text:\nThe cat sat on the mat.",
        "Sort the following numbers: 3, 1, 2",
        'Translate the following sentence into French: "I am late."',
        "Translate the following sentence. I am late.",
        "Fix the code below.\n\nx = [1, 2",
        "What does the following do?\n```\nls -la\n```",
        "What does this print?\n\n    print(1)",
        "Q: 1 + 1?\nA: 2\nQ: 2 + 2?\nA:",
        "Review: I slept.\nSentiment:",
        "The glacier has lost a third of its length since 1900, and the loss has become faster of late.\n\nTL;DR:",
        "The quick brown fox jumps over the lazy dog.\nIt does so daily.\nTranslation:",
        "Atheism:\nChristianity:\nIslam:\nHinduism:",
        "hot : cold :: up :",
        "Use these words: plow, pull, horse.\nWrite a sentence with all of them:",
        "What happened in the days following the election?",
        "What is the best way of following a recipe?",
        "Why do temperatures below zero hurt?",
        "Write an email template with [Your Name] as a placeholder.",
        "Write a story about this text adventure I have in mind. It has a dragon.",
        "What is a lake?",
        "",
    ],
)
def test_a_payload_that_is_present_is_recognised(text: str) -> None:
    assert not lacks_payload(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sure! Here is a poem about rain:\n\nDrops fall.",
        "Sure, here are five ideas:\n1. Go for a walk\n2. Read a book",
        "Certainly! Below is the code you asked for.",
        "Of course. I'd be happy to help. What would you like me to do?",
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but as an AI language model I do not have feelings.",
        "I cannot assist with this request. Is there anything else I can help you with?",
        "As an AI, I have no opinions.",
        "Hello! How can I assist you today?",
        "I'd be happy to help you with your essay!",
        "You're welcome! Let me know if there is anything else.",
        "That's a great question! The sky is blue because light is scattered.",
        "Thank you for reaching out. Your order is on its way.",
        "Here's a simple recipe:\n\n- flour\n- water",
        "The answer is 4.",
        "Answer: 4",
        "## Step 1: Find the common denominator\nIt is 12.",
        "How can I help you today?",
    ],
)
def test_a_reply_is_recognised(text: str) -> None:
    assert looks_like_answer(text)


@pytest.mark.parametrize(
    "text",
    [
        "Here is my code:\n\nx = 1\n\nWhy does it fail?",
        "Here's a poem I wrote. Can you make it rhyme?",
        "Here are the sales of last year. Plot them.\n\n2, 4, 6",
        "Here is a recipe for bread:\n- flour\n- water\n\nConvert it to ounces.",
        "Sure, I could use a for loop, but is there a faster way?",
        "I'm sorry, but I don't understand recursion. Can you explain it?",
        "I can't create an account on your site. What should I do?",
        "Great! What is the next step?",
        "Hello! Can you tell me how tides work?",
        "Hi, I need a name for my cat.",
        "How can I help my son with fractions?",
        "Would you like to live forever?",
        "Thank you for your help. I say open. You say the opposite.",
        "The answer is 42. What is the question?",
        "Act as an AI that hates puns.",
        "Okay, let's play a game. Give me a riddle.",
        "Answer as a pirate: where is the gold?",
        "What is a lake?",
        "",
    ],
)
def test_a_request_that_begins_like_a_reply_is_not_a_reply(text: str) -> None:
    assert not looks_like_answer(text)
