"""Wordings of a multiple-choice question: slots {question}, {options} and {answer}; and of its options.

{options} is a block of lines: a header, the labelled options, and an end.
"""

from dataclasses import dataclass

ALONE = (
    "{question}\n{options}\n{answer}",
    "{question}\n{options}\nAnswer: {answer}",
    "{question}\n\n{options}\n\nAnswer: {answer}",
    "Question: {question}\n{options}\nAnswer: {answer}",
    "Q: {question}\n{options}\nA: {answer}",
    "QUESTION: {question}\n{options}\nANSWER: {answer}",
    "**Question:** {question}\n{options}\n**Answer:** {answer}",
    "### Question\n{question}\n{options}\n### Answer\n{answer}",
    "### Instruction:\n{question}\n{options}\n\n### Response:\n{answer}",
    "Problem: {question}\n{options}\nSolution: {answer}",
    "Multiple choice: {question}\n{options}\nRight: {answer}",
    "{question}\n{options}\nThe right one is {answer}",
    "{question}\n{options}\nI choose {answer}",
    "{question}\n{options}\nMy pick: {answer}",
    "{question}\n{options}\nCorrect: {answer}",
    "Choose one. {question}\n{options}\nChosen: {answer}",
    "Only one of these is right. {question}\n{options}\nIt is {answer}",
    "Test item: {question}\n{options}\nKey: {answer}",
    "Quiz: {question}\n{options}\nResult: {answer}",
    "{options}\nWhich of these answers the question? {question}\n{answer}",
    "{options}\nQuestion: {question}\nAnswer: {answer}",
    "Instruction: {question}\n{options}\nResponse: {answer}",
    "Input: {question}\n{options}\nOutput: {answer}",
    "Tick the right box. {question}\n{options}\nTicked: {answer}",
)
"""Wordings that do not need the text."""
INVERTED = (
    "Key: {answer}\nTest item: {question}\n{options}",
    "The solution is {answer}; this was the question: {question}\n{options}",
    "Answer: {answer}\nQuestion: {question}\n{options}",
)
"""The same, with the answer first."""
ABOUT_TEXT = (
    "Which option agrees with the text? {question}\n{options}\n{answer}",
    "Use the passage to decide. {question}\n{options}\nAnswer: {answer}",
    "{question}\n{options}\nThe text supports {answer}",
    "{question}\n{options}\nFrom the passage it follows: {answer}",
    "Reading test: {question}\n{options}\nRight answer: {answer}",
    "Check your reading. {question}\n{options}\nWhat you should have chosen: {answer}",
    "A question on the text: {question}\n{options}\nA careful reader picks {answer}",
    "{question} Decide by what you have read.\n{options}\n{answer}",
)
"""Wordings that mention the text."""

HEADERS = (
    "",
    "Options:",
    "OPTIONS:",
    "Choices:",
    "Possible answers:",
    "Choose from:",
    "Pick one:",
    "Select one of these:",
    "Available answers:",
    "Candidates:",
    "Suggestions:",
    "You can choose between:",
    "One of the following is right:",
    "Alternatives:",
    "The options are:",
    "Your choices:",
    "Answers to choose from:",
    "Which one?",
)
"""Lines before the options; an empty one is omitted."""
ENDS = ("", "", "", "(One is right.)", "Choose one.", "Give the right option.", "Which is it?")
"""Lines after the options; an empty one is omitted, and is more frequent than the others."""


@dataclass(frozen=True)
class LabelStyle:
    """How an option is labelled: `item` before it in the list, `answer` where the answer names it."""

    item: str
    """With a slot {} for the letter or number, or without for a bullet."""
    answer: str
    """Empty for a bullet: the answer is then the option itself."""
    letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    """Letters in order; empty for numbers from 1."""


_SMALL = "abcdefghijklmnopqrstuvwxyz"
LABELS = (
    LabelStyle("({})", "({})"),
    LabelStyle("({})", "{}"),
    LabelStyle("{}.", "{}"),
    LabelStyle("{}.", "{}."),
    LabelStyle("{})", "{}"),
    LabelStyle("{}:", "{}"),
    LabelStyle("[{}]", "[{}]"),
    LabelStyle("{} -", "{}"),
    LabelStyle("Option {}:", "Option {}"),
    LabelStyle("Choice {}:", "{}"),
    LabelStyle("({})", "({})", _SMALL),
    LabelStyle("{}.", "{}", _SMALL),
    LabelStyle("{})", "{})", _SMALL),
    LabelStyle("[{}]", "[{}]", _SMALL),
    LabelStyle("option {}:", "option {}", _SMALL),
    LabelStyle("{}.", "{}", ""),
    LabelStyle("{})", "{}", ""),
    LabelStyle("({})", "({})", ""),
    LabelStyle("[{}]", "[{}]", ""),
    LabelStyle("#{}", "#{}", ""),
    LabelStyle("No. {}:", "No. {}", ""),
    LabelStyle("Option {}:", "Option {}", ""),
    LabelStyle("-", ""),
    LabelStyle("*", ""),
    LabelStyle("•", ""),
    LabelStyle("+", ""),
    LabelStyle("–", ""),
    LabelStyle(">", ""),
)
NAMES_ITEM = (False, False, True)
"""Whether an answer names its option with its label and text, instead of the label only."""
