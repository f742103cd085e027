"""Blocks of code: bar, colours, and colours that can be read."""

import re
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.lexers import get_lexer_by_name

from mlx_suite_apps.chat.page.code_block import (
    BLOCK_CLASSES,
    COLOURED_LANGUAGES,
    DARK,
    LIGHT,
    LONGEST_COLOURED,
    Colours,
    code_block,
    code_css,
)
from tests.apps.chat.page.answer_html import AnswerHTML

PIECES = ["def f(", "class A", "'", '"', '"""', "/*", "*/", "//", "#", "{", "}", "<a b='c'>", "</a>", "0x1F", "\n"]
ANY_CODE = st.lists(st.sampled_from([*PIECES, " ", "&"]), max_size=25).map("".join)


def kinds(html: str) -> list[str]:
    return re.findall(r'<span class="(\w+)">', html)


def test_a_block_has_a_bar_with_its_language_and_a_button_and_then_its_code() -> None:
    assert code_block("return 1  # one\n", "python") == (
        '<div class="code-block"><div class="code-bar"><span class="code-language">python</span>'
        '<button type="button" class="copy"></button></div>'
        '<pre><code><span class="keyword">return</span> <span class="number">1</span>  '
        '<span class="comment"># one</span>\n</code></pre></div>\n'
    )


@pytest.mark.parametrize(
    ("info", "language"),
    [
        ("python", "python"),
        ("Python title=a.py", "Python"),
        ("{.python .numbered}", "python"),
        ("c++", "c++"),
        ("", ""),
        ("{}", ""),
        ("<b>", "<b>"),
        ("x" * 50, "x" * 40),
    ],
)
def test_the_language_is_the_first_word_after_the_fence(info: str, language: str) -> None:
    assert AnswerHTML(code_block("", info)).text == language + "\n"


def test_the_language_is_found_by_any_of_its_names() -> None:
    assert kinds(code_block("if x", "PY")) == kinds(code_block("if x", "python3")) == ["keyword"]


@pytest.mark.parametrize("info", ["", "text", "klingon", "arduino"])
def test_other_languages_stay_uncoloured(info: str) -> None:
    assert kinds(code_block("if x: return 'a' + 1", info)) == []


def test_code_that_could_take_long_to_colour_stays_uncoloured() -> None:
    assert kinds(code_block("x = 1\n" * (LONGEST_COLOURED // 6), "python")) != []
    assert kinds(code_block("x = 1\n" * (LONGEST_COLOURED // 6 + 1), "python")) == []
    assert kinds(code_block("x = 1" + " " * 100 + "# end", "python")) == []
    assert kinds(code_block("x = 1 #" + "a" * 500, "python")) == []
    assert kinds(code_block("int a = 1; " + "a\n" * 80, "java")) == []


def test_a_diff_shows_what_came_and_went() -> None:
    assert kinds(code_block("-old\n+new\n", "diff")) == ["deleted", "inserted"]


def test_every_language_of_the_list_is_one_that_pygments_knows() -> None:
    assert [name for name in COLOURED_LANGUAGES if name not in get_lexer_by_name(name).aliases] == []


@settings(max_examples=200)
@given(st.sampled_from(sorted(COLOURED_LANGUAGES)), st.one_of(ANY_CODE, st.text(max_size=60)))
def test_no_language_changes_the_code(language: str, code: str) -> None:
    html = code_block(code, language)
    answer = AnswerHTML(html)

    assert answer.harm == []
    assert html.count("<pre><code>") == 1
    assert AnswerHTML(html.split("<pre>")[1].split("</pre>")[0]).text == code


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_can_be_read_on_its_background(colours: Colours) -> None:
    """WCAG 2.2, success criterion 1.4.3, level AA: 4.5 to 1 for text of ordinary size."""
    contrasts = {name: contrast(value, colours.background) for name, value in asdict(colours).items()}
    del contrasts["background"]

    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_the_style_sheet_colours_every_class_in_light_and_in_dark_and_loads_nothing() -> None:
    css = code_css()
    classes = BLOCK_CLASSES["span"] - {"code-language"}

    assert len(classes) == 8
    for name in classes:
        assert f".code-block .{name} {{ color: var(--code-{name}); }}" in css
        for colours in (LIGHT, DARK):
            assert f"--code-{name}: {asdict(colours)[name]};" in css
    assert set(re.findall(r"var\((--[\w-]+)\)", css)) <= set(re.findall(r"(--[\w-]+):", css))
    assert "@import" not in css and "url(" not in css


def test_the_theme_of_the_page_wins_over_that_of_the_system() -> None:
    system, page = '@media (prefers-color-scheme: dark) { :root:not([data-theme="light"])', ':root[data-theme="dark"]'

    assert system in code_css() and page in code_css()


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1 to 21."""
    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
