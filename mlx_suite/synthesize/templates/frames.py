"""What stands around a text and its pairs: introductions, dialogues, numbered lists, few-shot prompts, separators."""

from dataclasses import dataclass

READ_STARTS = (
    "{text}",
    "{text}",
    "{text}",
    "Text: {text}",
    "Text:\n{text}",
    "Passage: {text}",
    "Passage:\n{text}",
    "Article:\n{text}",
    "Context: {text}",
    "### Text\n{text}",
    "### Context:\n{text}",
    "**Passage**\n\n{text}",
    "<text>\n{text}\n</text>",
    "[Text] {text}",
    "Please read:\n\n{text}",
    "Read this first.\n\n{text}",
    "Start by reading the passage.\n\n{text}",
    "Have a look at this text.\n\n{text}",
    "Here is something to read:\n\n{text}",
    "Here is a text: {text}",
    "Take a minute for this passage:\n{text}",
    "Study the following carefully:\n{text}",
    "This is what we will talk about:\n\n{text}",
    "From a document:\n{text}",
    "Someone wrote this:\n\n{text}",
    "The following was found in a collection of texts.\n\n{text}",
    "Background:\n{text}",
    "Source:\n{text}",
    "An extract: {text}",
    "Reading material:\n\n{text}",
    "Lesson text:\n{text}",
    "---\n{text}\n---",
    "Begin of text\n{text}\nEnd of text",
)
"""A text that pairs follow: slot {text}. Plain text is more frequent than each of the others."""
COMPREHENSION_STARTS = (
    "",
    "",
    "",
    "Questions:",
    "Questions about the text:",
    "Questions and answers:",
    "Exercises:",
    "Now some questions.",
    "Now answer what is asked about it.",
    "What have you understood?",
    "What can we learn from it?",
    "Let us see what it says.",
    "Let us look closer.",
    "After reading, answer the following:",
    "Use what you have read.",
    "Use the text above.",
    "Here is what readers asked:",
    "Here is what one may ask about it:",
    "A few tasks on this text:",
    "A short test:",
    "Test your understanding.",
    "With the text in mind:",
    "On the basis of the passage:",
    "The text answers the following.",
    "This tells us the following.",
    "Discussion:",
    "Notes on the text:",
    "### Questions",
    "**Exercises**",
    "Reading comprehension:",
    "Did you read it well?",
    "Tasks:",
    "To be answered from the passage:",
)
"""Lines between a text and its pairs; an empty one is omitted."""
QUESTION_STARTS = (
    "",
    "",
    "Some questions first; the text comes after.",
    "What is asked and answered here can be read below.",
    "Before the text, what it is about:",
    "Questions to keep in mind while reading:",
    "Questions and answers about a text:",
    "Exercises on the text below:",
)
"""Lines before the pairs where the text comes last."""
TEXT_ENDS = (
    "{text}",
    "The text:\n{text}",
    "Text: {text}",
    "All of this is taken from the following text.\n\n{text}",
    "You can read it here:\n\n{text}",
    "Source:\n{text}",
    "The answers come from this passage:\n{text}",
    "Here is the passage behind these questions.\n\n{text}",
    "Now read the text yourself:\n\n{text}",
    "### Text\n{text}",
    "This is where it says so:\n\n{text}",
    "Context: {text}",
)
"""A text after its pairs: slot {text}."""

PAIR_GAPS = ("\n\n", "\n\n", "\n")
"""Between the pairs of a text."""
SEPARATORS = ("\n\n", "\n\n\n", "\n\n---\n\n", "\n\n***\n\n", "\n\n* * *\n\n", "\n\n=====\n\n", "\n\n#####\n\n")
"""Between the texts of a chain."""
REWRITE_STARTS = (
    "",
    "",
    "In other words:",
    "In another form:",
    "The same again:",
    "Written differently:",
    "Rewritten:",
)
"""Lines between a text and a rewrite of it, whichever comes first; an empty one is omitted."""

SPEAKERS = (
    ("User", "Assistant"),
    ("Human", "Assistant"),
    ("Student", "Teacher"),
    ("Teacher", "Student"),
    ("Reader", "Librarian"),
    ("Visitor", "Guide"),
    ("Interviewer", "Expert"),
    ("Reporter", "Witness"),
    ("Child", "Grandmother"),
    ("Customer", "Clerk"),
    ("Host", "Guest"),
    ("Q", "A"),
    ("Person A", "Person B"),
    ("Anna", "Ben"),
    ("Me", "You"),
    ("Speaker 1", "Speaker 2"),
)
"""Who asks and who answers."""
TURNS = (
    "{name}: {turn}",
    "[{name}] {turn}",
    "{name} - {turn}",
    "**{name}**: {turn}",
    "<{name}> {turn}",
    "{name}:\n{turn}",
)
"""One turn of a dialogue."""
DIALOGUE_STARTS = (
    "",
    "Two people talk about it.",
    "A conversation about the text:",
    "Dialogue:",
    "They read it together and talk.",
    "What was said afterwards:",
    "Transcript:",
    "In a chat:",
)
"""Lines before a dialogue; an empty one is omitted."""


@dataclass(frozen=True)
class NumberedStyle:
    """Pairs with numbers: slot {n}, and {question} or {answer}."""

    question: str
    answer: str
    apart: bool = False
    """Whether all answers follow after all questions."""
    answers_start: str = ""
    """Line before the answers, if they are apart."""


NUMBERED = (
    NumberedStyle("{n}. {question}", "{answer}"),
    NumberedStyle("({n}) {question}", "{answer}"),
    NumberedStyle("Question {n}: {question}", "Answer {n}: {answer}"),
    NumberedStyle("Q{n}: {question}", "A{n}: {answer}"),
    NumberedStyle("{n}) {question}", "- {answer}"),
    NumberedStyle("Exercise {n}. {question}", "Solution: {answer}"),
    NumberedStyle("Task {n}: {question}", "Result {n}: {answer}"),
    NumberedStyle("[{n}] {question}", "=> {answer}"),
    NumberedStyle("{n}. {question}", "{n}. {answer}", apart=True, answers_start="Answers:"),
    NumberedStyle("({n}) {question}", "({n}) {answer}", apart=True, answers_start="Solutions:"),
    NumberedStyle("Q{n}: {question}", "A{n}: {answer}", apart=True),
    NumberedStyle("Question {n}. {question}", "Answer {n}. {answer}", apart=True, answers_start="And the answers:"),
    NumberedStyle("{n}) {question}", "{n}) {answer}", apart=True, answers_start="Key:"),
)


@dataclass(frozen=True)
class FewShotStyle:
    """Earlier pairs as examples, the last one as the task; slots {question} and {answer}."""

    start: str
    example: str
    task_start: str
    """Line before the last pair; an empty one is omitted."""
    task: str


FEW_SHOT = (
    FewShotStyle("Examples:", "{question} → {answer}", "Now you:", "{question} → {answer}"),
    FewShotStyle(
        "Some worked examples:", "Input: {question}\nOutput: {answer}", "", "Input: {question}\nOutput: {answer}"
    ),
    FewShotStyle(
        "It was done like this:",
        "Q: {question}\nA: {answer}",
        "Do the next in the same way.",
        "Q: {question}\nA: {answer}",
    ),
    FewShotStyle("", "Example: {question}\nAnswer: {answer}", "", "Task: {question}\nAnswer: {answer}"),
    FewShotStyle(
        "Answer as in the examples.",
        "Question: {question}\nAnswer: {answer}",
        "Your turn.",
        "Question: {question}\nAnswer: {answer}",
    ),
    FewShotStyle("Already answered:", "- {question} {answer}", "Still open:", "- {question} {answer}"),
    FewShotStyle(
        "See how others answered.",
        '"{question}" was answered with: {answer}',
        "What about this one?",
        '"{question}" is answered with: {answer}',
    ),
    FewShotStyle("Pattern:", "[{question}] [{answer}]", "Complete the pattern:", "[{question}] [{answer}]"),
    FewShotStyle(
        "First some that are solved:",
        "Problem: {question}\nSolution: {answer}",
        "And one to solve:",
        "Problem: {question}\nSolution: {answer}",
    ),
    FewShotStyle("### Examples", "{question}\n{answer}", "### Task", "{question}\n{answer}"),
)


@dataclass(frozen=True)
class NextTurnStyle:
    """A dialogue, and a request for its next turn."""

    start: str
    request: str
    """Line between the dialogue so far and its next turn; an empty one is omitted."""


NEXT_TURN = (
    NextTurnStyle("The conversation so far:", "The next turn:"),
    NextTurnStyle("Here is a chat.", "How does it go on?"),
    NextTurnStyle("Read the dialogue.", "What is the reply?"),
    NextTurnStyle("Continue this dialogue.", ""),
    NextTurnStyle("An unfinished conversation:", "Its end:"),
    NextTurnStyle("Dialogue history:", "Response:"),
    NextTurnStyle("They talked:", "And then came the answer:"),
    NextTurnStyle("Chat log:", "Write the missing last line."),
    NextTurnStyle("[Dialogue]", "[Next turn]"),
    NextTurnStyle("Up to now:", "Now:"),
)
