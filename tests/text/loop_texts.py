"""Texts that repeat with good reason, and texts in which a model has lost its thread."""

GOOD: dict[str, str] = {
    "a shopping list": "You need:\n"
    + "\n".join(
        f"- {n} {what}"
        for n, what in enumerate(
            "apples pears plums leeks eggs rolls lemons limes onions carrots potatoes tomatoes figs nuts".split(), 2
        )
    ),
    "a plan for 30 days": "\n".join(f"Day {day}: Walk for {10 + day} minutes and drink water." for day in range(1, 31)),
    "a multiplication table": "\n".join(f"{a} x {b} = {a * b}" for a in range(1, 11) for b in range(1, 11)),
    "a table with equal cells": "| Day | Morning | Evening |\n|---|---|---|\n"
    + "\n".join(f"| {day} | closed | closed |" for day in "Mon Tue Wed Thu Fri Sat Sun".split()),
    "a matrix of zeros": "grid = [\n" + "    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],\n" * 10 + "]",
    "an empty table in HTML": "<table>\n" + "  <tr><td></td><td></td><td></td></tr>\n" * 12 + "</table>",
    "code with equal branches": "def parse(text):\n"
    + "".join(f"    if text.startswith({name!r}):\n        return None\n" for name in "abcdefghijklmnop"),
    "numbers without words": "Some numbers: " + ", ".join(str(n * n % 89) for n in range(300)),
    "a ruler of dashes": "Results\n" + "-" * 120 + "\nNothing was found.\n" + "=" * 120,
    "a poem with a refrain": "\n\n".join(
        f"The {what} went out to sea at {when},\nand never a word said she.\n"
        "Sail on, sail on, my lonely heart,\nsail on, sail on with me."
        for what, when in (("cutter", "dawn"), ("trawler", "noon"), ("ferry", "dusk"), ("wherry", "night"))
    ),
    "a song with a chorus": "Clap your hands, clap your hands,\n" * 3
    + "and stamp your feet on the floor!\n"
    + "La la la la la la la la la la la la la la la\n" * 2
    + "Clap your hands once more!",
    "laughter": "He could not stop: " + "ha " * 30 + "and then he fell off his chair.",
    "a counting-out rhyme": "\n".join(
        f"{n} green bottles hanging on the wall,\nand if one green bottle should fall by chance"
        for n in range(10, 0, -1)
    ),
    "a conjugation": "\n".join(f"{who} would have been going" for who in "I you he she it we you they".split()),
    "a list of the same shape": "\n".join(
        f"The capital of {land} is {town}."
        for land, town in (
            ("France", "Paris"),
            ("Spain", "Madrid"),
            ("Italy", "Rome"),
            ("Norway", "Oslo"),
            ("Poland", "Warsaw"),
            ("Greece", "Athens"),
            ("Peru", "Lima"),
            ("Chile", "Santiago"),
            ("Japan", "Tokyo"),
            ("Egypt", "Cairo"),
        )
    ),
    "a byte array in code": "const zeros = new Uint8Array([" + "0x00, " * 64 + "]);",
    "an apology in three sentences": "I am sorry. I am really sorry. I am so very sorry that I cannot say it.",
}
"""Texts that must be kept."""

_PARAGRAPH = (
    "The museum was founded in the last century by a group of citizens who wanted to keep the tools of the old "
    "craftsmen. Today it shows looms, anvils and lathes, and on Sundays a smith works at the forge. Children may "
    "try the potter's wheel. The collection has grown so much that only a tenth of it can be shown at any time. "
)
LOOPING: dict[str, str] = {
    "a sentence": "The answer is no. " + "I do not know what you want from me. " * 12,
    "a question": "What is the plural of mouse? " * 14,
    "two sentences": "Well. " + "He went to the door and opened it. She was not there. " * 8,
    "a phrase without an end": "It was a very " + "very long and winding and " * 20,
    "a paragraph": _PARAGRAPH * 4,
    "a list of one item": "Here are ten ideas:\n" + "- Make a list of all your goals\n" * 12,
    "a numbered list of one item": "\n".join(f"{n}. Make a list of your goals" for n in range(1, 60)),
    "one word": "yes " * 150,
    "a syllable": "ba" * 300,
    "a line of code": "x = 1\n" + "result = compute(result, value)\n" * 40,
    "dots": "And so on " + "." * 1500,
    "zeros": "The result is 3." + " 0 0 0 0" * 300,
    "a table row": "| a | b |\n|---|---|\n" + "| The same row | again |\n" * 60,
    "Chinese": "你好。" + "我不知道你想要什么答案请再说一遍。" * 20,
    "German with a broken end": "Also: " + "Das Wetter ist heute schön und morgen auch. " * 9 + "Das Wetter ist",
    "a turn that plays both parts": "User: Can you help me?\nAssistant: Of course, I can help you.\n" * 8,
    "a loop in capitals": "THIS IS THE END OF THE STORY. This is the end of the story. " * 6,
}
"""Texts that must be cut."""
