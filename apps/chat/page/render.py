"""A model's answer: Markdown in, HTML that is safe to put into the page out.

The text is never trusted. Raw HTML is shown as text, links go to http, https and mailto only, pictures become links,
and nh3 lets through only the tags, attributes and classes listed here. Nothing in the result runs, loads or has an
inline style, so the page's content security policy never has to stop anything.
"""

import re
from collections.abc import Iterator, Sequence

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from .code_block import BLOCK_CLASSES, code_block
from .unfinished import settled

# Quotes and lists inside each other, and emphasis inside emphasis; browsers stop at 512 elements, people long before.
DEEPEST_BLOCK = 24
DEEPEST_EMPHASIS = 16

_SCHEMES = frozenset({"http", "https", "mailto"})
_FOLLOWED = re.compile(r"(?:https?://|mailto:)[^\s/]", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_BREAK = re.compile(r"<br\s{0,9}/?>", re.IGNORECASE)

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS = frozenset({"p", "blockquote", "ul", "ol", "li", "hr", "pre", "div", "button"})
_TABLES = frozenset({"table", "thead", "tbody", "tr", "th", "td"})
_INLINES = frozenset({"a", "em", "strong", "s", "code", "br", "span"})
_ALIGNMENTS = frozenset({"left", "center", "right"})

_CLEANER = nh3.Cleaner(
    tags=_HEADINGS | _BLOCKS | _TABLES | _INLINES,
    attributes={"a": {"href"}, "ol": {"start"}},
    tag_attribute_values={"button": {"type": {"button"}}},
    allowed_classes={**BLOCK_CLASSES, "div": BLOCK_CLASSES["div"] | {"table"}, "th": _ALIGNMENTS, "td": _ALIGNMENTS},
    url_schemes=_SCHEMES,
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
)


def render(text: str, *, unfinished: bool = False) -> str:
    """HTML of a message in Markdown (CommonMark, tables, strikethrough; line breaks are kept).

    With `unfinished`, more text is to follow: a last line that may still turn into something else is held back, and
    open emphasis, code and links are closed, so that what is on the page does not jump when the rest arrives.
    """
    text = _SURROGATE.sub("\ufffd", text)
    return _CLEANER.clean(_MARKDOWN.render(settled(text) if unfinished else text))


class _Page(RendererHTML):
    """Code blocks with a bar, tables that can scroll, alignment as a class."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return code_block(tokens[idx].content, tokens[idx].info)

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return code_block(tokens[idx].content, "")

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return '<div class="table"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])


def _cell(token: Token) -> str:
    """Start of a table cell; markdown-it writes its alignment as an inline style."""
    alignment = str(token.attrGet("style") or "").removeprefix("text-align:")
    return f'<{token.tag} class="{alignment}">' if alignment else f"<{token.tag}>"


def _too_deep(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Block rule: what lies deeper than DEEPEST_BLOCK is one paragraph. (markdown-it itself would drop it.)"""
    if silent or state.level < DEEPEST_BLOCK:
        return False
    stop = start + 1
    while stop < end and (state.isEmpty(stop) or state.sCount[stop] < 0 or state.sCount[stop] >= state.blkIndent):
        stop += 1
    state.push("paragraph_open", "p", 1)
    inline = state.push("inline", "", 0)
    inline.content = state.getLines(start, stop, state.blkIndent, False).strip()
    inline.children = []
    state.push("paragraph_close", "p", -1)
    state.line = stop
    return True


def _line_break(state: StateInline, silent: bool) -> bool:
    """Inline rule: `<br>`, which models write into table cells, is a line break."""
    found = _LINE_BREAK.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = found.end()
    return True


def _tame_inline(state: StateCore) -> None:
    """Core rule: no pictures, no links that must not be followed, no bottomless emphasis."""
    for token in state.tokens:
        if token.type == "inline" and token.children:
            shallow = [child for child in token.children if child.nesting == 0 or child.level < DEEPEST_EMPHASIS]
            token.children = list(_tame_links(shallow))


def _tame_links(tokens: list[Token]) -> Iterator[Token]:
    """The same tokens; pictures are links to them or their description, refused links their label."""
    inside = False
    label_is_empty = True
    href = ""
    for token in tokens:
        if token.type == "link_open":
            href = str(token.attrGet("href") or "")
            inside, label_is_empty = _may_follow(href), True
            if inside:
                yield _link(href)
        elif token.type == "link_close":
            if inside:
                if label_is_empty:
                    yield _text(href)
                yield token
            inside = False
        elif token.type == "image":
            label_is_empty = False
            yield from _picture(token, inside)
        else:
            label_is_empty = label_is_empty and token.nesting == 0 and not token.content.strip()
            yield token


def _picture(token: Token, inside_link: bool) -> Iterator[Token]:
    source = str(token.attrGet("src") or "")
    followed = _may_follow(source)
    text = _text(_description(token) or (source if followed else ""))
    if inside_link or not followed:
        yield text
    else:
        yield from (_link(source), text, Token("link_close", "a", -1))


def _description(image: Token) -> str:
    """Text of a picture's description, whatever markup it has."""
    parts = [_description(child) if child.type == "image" else child.content for child in image.children or []]
    return " ".join("".join(parts).split())


def _may_follow(url: str) -> bool:
    return _FOLLOWED.match(url) is not None


def _link(href: str) -> Token:
    return Token("link_open", "a", 1, attrs={"href": href})


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _markdown() -> MarkdownIt:
    options = {"html": False, "breaks": True, "xhtmlOut": False, "maxNesting": 2 * DEEPEST_BLOCK}
    parser = MarkdownIt("commonmark", options, renderer_cls=_Page).enable(["table", "strikethrough"])
    # Every destination is parsed as one; _tame_links decides which may be followed.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    parser.block.ruler.before("table", "too_deep", _too_deep)
    parser.inline.ruler.before("html_inline", "line_break", _line_break)
    parser.core.ruler.push("tame_inline", _tame_inline)
    return parser


_MARKDOWN = _markdown()
