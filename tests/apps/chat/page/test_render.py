"""Markdown of a model's answer as HTML: what a reader sees, and that no text can break it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite_apps.chat.page.render import render
from tests.apps.chat.page.answer_html import AnswerHTML

# Every character there is, lone surrogates and NUL too.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
MARKS = "* ** *** _ __ ~~ ` `` ``` ```py [ ] ]( ) ![ < > & | |- - + 1. # === --- \\ \t \n \n\n <br> &lt; <b> x https://e.example"
MARKDOWN = st.lists(st.sampled_from([*MARKS.split(" "), " ", "    ", "word", "\0", "\ud800"]), max_size=60).map("".join)
PLACES = (
    "HERE",
    "[x](HERE)",
    "[x](<https://HERE>)",
    "[HERE](https://e.example)",
    "![HERE](https://HERE)",
    "<https://HERE>",
    "[x][1]\n\n[1]: https://HERE",
    "```HERE\nx\n```",
    "```html\nHERE\n```",
    "| a |\n|---|\n| HERE |",
    "> - HERE",
)

WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
SHAPES = (
    "{}",
    "**{}**",
    "*{}",
    "~~{}~~",
    "`{}`",
    "``{}",
    "# {}",
    "> {}",
    "- {}",
    "7. {}",
    "[{}](https://e.example)",
    "[{}](javascript:0)",
    "[{}](https://e.ex",
    "![{}](https://e.example/p.png)",
    "![{}](p.png)",
    "| {} |\n|---|",
    "```python\n {}\n```",
    "~~~\n{}\n~~~",
    "    {}",
    "<b>{}</b>",
    "&{}",
    "\\{}",
    "x\n{}\n---",
)
OPENERS = ("> ", ">", "- ", "1. ", "* > ", "[", "![", "(", "*a ", "**a *b ", "_a ", "~~a ", "`", "<", "<b>", "\\")
PAIRS = (("*a ", " b*"), ("~~a ", " b~~"), ("[a ", "](https://e.example)"), ("![a ", "](p.png)"))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Plain & simple.", "<p>Plain &amp; simple.</p>\n"),
        (
            "**bold** *soft* ~~gone~~ `x<y`",
            "<p><strong>bold</strong> <em>soft</em> <s>gone</s> <code>x&lt;y</code></p>\n",
        ),
        ("## Title", "<h2>Title</h2>\n"),
        ("one\ntwo", "<p>one<br>\ntwo</p>\n"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>\n'),
        ("> said", "<blockquote>\n<p>said</p>\n</blockquote>\n"),
        ("a\n\n---\n\nb", "<p>a</p>\n<hr>\n<p>b</p>\n"),
        ("a<br>b<BR />c", "<p>a<br>\nb<br>\nc</p>\n"),
        ("\\<br>", "<p>&lt;br&gt;</p>\n"),
        ("", ""),
    ],
)
def test_markdown_becomes_html(text: str, html: str) -> None:
    assert render(text) == html


def test_a_table_lies_in_a_box_of_its_own_and_aligns_by_class() -> None:
    assert render("| a | b | c |\n|:--|:-:|--:|\n| 1 | 2 | 3<br>4 |") == (
        '<div class="table"><table>\n'
        "<thead>\n<tr>\n"
        '<th class="left">a</th>\n<th class="center">b</th>\n<th class="right">c</th>\n'
        "</tr>\n</thead>\n<tbody>\n<tr>\n"
        '<td class="left">1</td>\n<td class="center">2</td>\n<td class="right">3<br>\n4</td>\n'
        "</tr>\n</tbody>\n</table></div>\n"
    )


def test_a_link_opens_a_new_tab_that_does_not_know_where_it_comes_from() -> None:
    assert render('[docs](https://e.example/a?b=1&c=2 "title")') == (
        '<p><a href="https://e.example/a?b=1&amp;c=2" target="_blank" rel="noopener noreferrer nofollow">docs</a></p>\n'
    )


def test_web_and_mail_links_are_followed_and_a_link_without_a_label_shows_its_address() -> None:
    answer = AnswerHTML(render("<http://e.example> <me@e.example> [](https://e.example/x) [**a**](HTTPS://e.example)"))

    assert answer.links() == ["http://e.example", "mailto:me@e.example", "https://e.example/x", "HTTPS://e.example"]
    assert answer.text == "http://e.example me@e.example https://e.example/x a\n"


def test_an_open_fence_is_a_block_of_code_to_the_end() -> None:
    assert AnswerHTML(render("```\na **b**\n\n# c")).text == "a **b**\n\n# c\n"
    assert render("```\nx") == (
        '<div class="code-block"><div class="code-bar"><span class="code-language"></span>'
        '<button type="button" class="copy"></button></div><pre><code>x</code></pre></div>\n'
    )


def test_nul_and_lone_surrogates_are_shown_as_replacement_characters() -> None:
    assert render("a\0b\ud800c\udfff") == "<p>a\ufffdb\ufffdc\ufffd</p>\n"
    assert render("&#0; &#xD800;") == "<p>\ufffd \ufffd</p>\n"


@pytest.mark.parametrize(
    "opener", ["> ", ">", "- ", "1. ", "* > ", "[", "![", "(", "*a ", "**a *b ", "_a ", "~~a ", "`", "<", "<b>", "\\"]
)
def test_ten_thousand_openers_nest_a_few_dozen_elements_and_lose_no_word(opener: str) -> None:
    answer = AnswerHTML(render(opener * 10_000 + "word"))

    assert answer.harm == []
    assert answer.deepest <= 50
    assert answer.text.rstrip().endswith("word")


@pytest.mark.parametrize(
    ("start", "end"), [("*a ", " b*"), ("~~a ", " b~~"), ("[a ", "](https://e.example)"), ("![a ", "](p.png)")]
)
def test_a_thousand_pairs_nest_a_few_dozen_elements(start: str, end: str) -> None:
    answer = AnswerHTML(render(start * 1_000 + "word" + end * 1_000))

    assert answer.harm == []
    assert answer.deepest <= 50
    assert "word" in answer.text


def test_what_is_deeper_than_the_deepest_block_is_shown_as_a_paragraph() -> None:
    answer = AnswerHTML(render(f"{'> ' * 26}deep\n> shallow\n\nafter"))

    assert answer.tags().count("blockquote") == 24
    assert " ".join(answer.text.split()) == "> > deep shallow after"


@settings(max_examples=400)
@given(st.sampled_from(PLACES), st.one_of(ANY_TEXT, MARKDOWN), st.booleans())
def test_any_text_becomes_harmless_and_balanced_html(place: str, text: str, unfinished: bool) -> None:
    assert AnswerHTML(render(place.replace("HERE", text), unfinished=unfinished)).harm == []


@given(st.lists(st.tuples(st.sampled_from(SHAPES), WORD), min_size=1, max_size=12), st.booleans())
def test_every_word_is_shown_and_in_order(pieces: list[tuple[str, str]], unfinished: bool) -> None:
    """Each word in a paragraph, list, table or block of its own; a last line to let go of what is held back."""
    text = "\n\n".join([*(shape.format(word) for shape, word in pieces), "end.\n"])

    words = re.findall("[a-z]+", AnswerHTML(render(text, unfinished=unfinished)).text)

    rest = iter(words)
    assert [word for _, word in pieces if word not in rest] == []
