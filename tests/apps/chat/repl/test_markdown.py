"""Markdown that is rendered while it arrives."""

import io
import itertools
import re

import pytest
from rich.console import Console

from mlx_suite_apps.chat.repl import markdown
from mlx_suite_apps.chat.repl.markdown import MarkdownStream, PlainStream, block_starts, rendered, visible

ANSWER = """# Plan

Some **bold** text, `code` and a [link](https://example.com/a).
Still the same paragraph.
- tight
- list

1. loose

2. list

```python
def f(x):

    return x
```
Title
=====
| a | b |
|---|---|
| 1 | 2 |

> quote
> goes on

<div>shown</div>

***
[1]: https://example.com/b

The end, without a newline"""


class Clock:
    """A clock that is a second later at every look, so that everything is drawn."""

    def __init__(self) -> None:
        self.monotonic = itertools.count(1.0).__next__


def console(**settings: object) -> Console:
    return Console(file=io.StringIO(), width=40, height=10, **settings)  # type: ignore[arg-type]


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def streamed(text: str, size: int, to: Console) -> str:
    with MarkdownStream(to) as stream:
        for start in range(0, len(text), size):
            stream.add(text[start : start + size])
        stream.finish()
    return output(to)


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_blocks_add_up_to_the_whole_text(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "time", Clock())
    whole = console()
    whole.print(rendered(ANSWER))

    shown = streamed(ANSWER, size, console())

    assert words(shown) == words(output(whole))
    assert "\n\n\n" not in "\n".join(line.rstrip() for line in shown.splitlines())
    assert "[1]: https://example.com/b" in shown
    assert "<div>shown</div>" in shown
    assert "link (https://example.com/a)" in " ".join(shown.split())


def test_every_line_of_a_paragraph_stays_a_line() -> None:
    lines = streamed("Roses are red,\nviolets are blue.\n", 5, console()).splitlines()
    assert [line.rstrip() for line in lines] == ["Roses are red,", "violets are blue."]


def test_a_block_ends_where_no_later_text_can_change_it() -> None:
    text = "one\ntwo\n\n- a\n\n  still a\n- b\n\nthree\n"
    assert [text[start:].split("\n")[0] for start in block_starts(text)] == ["one", "- a", "three"]


def replayed(shown: str, rows: int) -> list[str]:
    """Everything on a terminal of `rows` rows in the end, with what has scrolled away."""
    lines, row = [""], 0
    for part in re.split(r"(\n|\r|\x1b\[[0-9;?]*[a-zA-Z])", shown):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[1A":
            row -= 1
            assert row >= len(lines) - rows, "the row has scrolled away"
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part and part != "\r" and not part.startswith("\x1b"):
            lines[row] += part
    return "\n".join(line.rstrip() for line in lines).rstrip("\n").split("\n")


def test_a_block_higher_than_the_screen_is_shown_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "time", Clock())
    block = "```\n" + "".join(f"line {number}\n" for number in range(40)) + "```\n"
    screen = console(force_terminal=True, color_system=None, legacy_windows=False, _environ={"TERM": "xterm"})

    shown = streamed(f"First.\n\n{block}\nLast.", 5, screen)

    assert shown.count("line 30 ") > 1  # the end of the block is drawn again while it grows
    assert replayed(shown, 10) == ["First.", "", *(f" line {number}" for number in range(40)), "", "Last."]


def test_control_characters_of_a_model_do_not_reach_the_terminal() -> None:
    assert visible("a\x1b[2Jb\x07\tc\n\x9bd\x7f") == "a␛[2Jb␇\tc\n\ufffdd␡"
    assert "\x1b" not in streamed("red \x1b[31m text", 100, console())


def test_plain_text_is_written_at_once_and_its_last_line_ended() -> None:
    written: list[str] = []
    stream = PlainStream(written.append)
    stream.add("**a**")
    assert written == ["**a**"]
    stream.finish()
    assert written == ["**a**", "\n"]

    empty: list[str] = []
    PlainStream(empty.append).finish()
    assert empty == []
