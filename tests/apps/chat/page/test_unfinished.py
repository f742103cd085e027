"""An answer while it is written: what is on the page never jumps."""

from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite_apps.chat.page.render import render
from mlx_suite_apps.chat.page.unfinished import settled
from tests.apps.chat.page.answer_html import AnswerHTML

ANSWER = """\
# A title

Some **bold words**, *soft words*, ***both*** and `code with ** stars`, 2 * 3, a [link](https://e.example/a) to
**[a bold link](https://e.example/b)** and ~~nothing~~.
- **Item**: one
- two
  1. `deep`

> A quote with **weight**
> and a second line.

| Name | Size |
|:-----|-----:|
| **a** | 1 |
| `b` | 2 |

```python
x = [1, 2]  # a | b

```
Text after it
- a list

---

The *end*.
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Text\n-", "Text"),
        ("Text\n=", "Text"),
        ("Text\n- ", "Text"),
        ("Text\n- a", "Text\n- a"),
        ("Text\n#", "Text"),
        ("Text\n1.", "Text"),
        ("Text\n1. **", "Text"),
        ("Text\n1. a", "Text\n1. a"),
        ("Text\n``", "Text"),
        ("| a | b", ""),
        ("| a | b |\n", ""),
        ("Text\n\n| a | b |\n|--", "Text\n"),
        ("| a | b |\n|---|---|\n", "| a | b |\n|---|---|\n"),
        ("| a | b |\n|---|---|\n| 1", "| a | b |\n|---|---|\n| 1"),
        ("a **b", "a **b**"),
        ("a **b c ", "a **b c**"),
        ("a **b*", "a **b**"),
        ("a **", "a"),
        ("a *b **c", "a *b **c***"),
        ("***a", "***a***"),
        ("a ~~b", "a ~~b~~"),
        ("a `b", "a `b`"),
        ("a ``b`", "a ``b``"),
        ("a `**", "a `**`"),
        ("a `", "a"),
        ("2 * 3", "2 * 3"),
        ("a*b", "a*b"),
        ("\\*a", "\\*a"),
        ("see [the", "see the"),
        ("see [the docs]", "see the docs"),
        ("see [the docs](https://e.ex", "see the docs"),
        ("see [the docs](https://e.example)", "see [the docs](https://e.example)"),
        ("see ![a fox](https://e.ex", "see a fox"),
        ("x = [1, 2", "x = [1, 2"),
        ("a[i", "a[i"),
        ("```py\nx = **y", "```py\nx = **y"),
        ("```py\nx\n``", "```py\nx\n"),
        ("```py\nx\n```", "```py\nx\n"),
        ("```py\nx\n```\n**a", "```py\nx\n```\n**a**"),
        ("~~~\n```\n| a", "~~~\n```\n| a"),
        ("", ""),
    ],
)
def test_an_end_that_is_not_settled_is_closed_or_held_back(text: str, shown: str) -> None:
    assert settled(text) == shown


@cache
def pages() -> list[AnswerHTML]:
    """The page after each character of the answer."""
    return [AnswerHTML(render(ANSWER[:end], unfinished=True)) for end in range(len(ANSWER))]


def test_while_an_answer_is_written_only_words_are_added() -> None:
    whole = without_spaces(AnswerHTML(render(ANSWER)))

    assert [ANSWER[:end] for end, page in enumerate(pages()) if not whole.startswith(without_spaces(page))] == []


def test_while_an_answer_is_written_no_element_turns_into_another() -> None:
    """A list item is no heading first, a link no picture, a table no paragraph with bars."""
    whole = Counter(AnswerHTML(render(ANSWER)).tags())

    assert [ANSWER[:end] for end, page in enumerate(pages()) if Counter(page.tags()) - whole] == []


def test_what_is_written_is_on_the_page_two_lines_later_at_the_latest() -> None:
    for end, page in enumerate(pages()):
        older = "\n".join(ANSWER[:end].split("\n")[:-2])
        assert letters(page).startswith(finished_letters(older)), ANSWER[:end]


def test_a_long_line_that_starts_with_a_bar_is_no_table() -> None:
    line = "|x| is the absolute value of x, " * 10

    assert settled(line) == line


def test_a_finished_answer_is_shown_as_it_is() -> None:
    assert render("a **b\n-") == "<h2>a **b</h2>\n"


@given(st.text(st.characters(exclude_categories=()), max_size=100))
def test_plain_lines_before_the_last_are_never_touched(last: str) -> None:
    assert settled("One line.\nAnother.\n\n" + last).startswith("One line.\nAnother.")


@pytest.mark.parametrize("opener", ["> ", "- ", "[", "![", "](", "*a ", "**a *b ", "~~a ", "`", "``` ", "|"])
def test_ten_thousand_openers_are_closed_without_harm(opener: str) -> None:
    assert AnswerHTML(render(opener * 10_000 + "word", unfinished=True)).harm == []


@cache
def finished_letters(text: str) -> str:
    return letters(AnswerHTML(render(text)))


def letters(page: AnswerHTML) -> str:
    return "".join(filter(str.isalpha, page.text))


def without_spaces(page: AnswerHTML) -> str:
    return "".join(page.text.split())
