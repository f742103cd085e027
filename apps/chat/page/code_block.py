"""A block of code: its HTML, coloured by Pygments, and the style sheet of its colours.

Pygments knows about 80 kinds of token; here they are the eight that a reader tells apart, each a class.
"""

import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from html import escape
from itertools import groupby
from operator import itemgetter

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Literal, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

# The languages that are coloured. Of Pygments' other 500 lexers, some need many seconds for a page of brackets.
COLOURED_LANGUAGES = frozenset(
    """
    ada bash batch c clojure cmake cpp csharp css cuda dart diff docker elixir erlang fish fortran fsharp gdscript go
    graphql groovy haskell html http ini java javascript json jsx julia kotlin latex llvm lua make markdown matlab
    nasm nginx nim objective-c ocaml perl php powershell prolog properties protobuf pycon python r ruby rust
    scala scheme scss solidity sql swift terraform toml tsx typescript vb.net verilog vhdl vim vue xml yaml zig
    """.split()
)
LONGEST_COLOURED = 20_000
# In these the lexers left take quadratic time: an endless line, much white space, many words without punctuation.
_SLOW = re.compile(r"[^\n]{500}|\s{100}|(?<!\S)(?:[\w.$<>?@\[\]]++\s++){80}")
_LONGEST_LANGUAGE = 40

_KINDS = {
    Comment: "comment",
    Comment.Preproc: "keyword",
    Keyword: "keyword",
    Keyword.Constant: "number",
    Keyword.Type: "type",
    Operator.Word: "keyword",
    Literal: "number",
    Number: "number",
    String: "string",
    Name.Attribute: "function",
    Name.Builtin: "type",
    Name.Class: "type",
    Name.Decorator: "function",
    Name.Exception: "type",
    Name.Function: "function",
    Name.Tag: "keyword",
    Generic.Deleted: "deleted",
    Generic.Heading: "keyword",
    Generic.Inserted: "inserted",
    Generic.Prompt: "comment",
    Generic.Subheading: "keyword",
}

# Classes in the HTML of a code block, per tag.
BLOCK_CLASSES = {
    "div": frozenset({"code-block", "code-bar"}),
    "span": frozenset({"code-language", *_KINDS.values()}),
    "button": frozenset({"copy"}),
}


@dataclass(frozen=True)
class Colours:
    """Colours of code; all are readable on `background` (WCAG AA, 4.5 to 1)."""

    background: str
    text: str
    comment: str
    keyword: str
    string: str
    number: str
    function: str
    type: str
    inserted: str
    deleted: str


LIGHT = Colours(
    background="#f6f7f9",
    text="#1f2430",
    comment="#5b6472",
    keyword="#8a1f6b",
    string="#0f6b3a",
    number="#8f4a00",
    function="#1a4fb4",
    type="#5a3fb0",
    inserted="#0f6b3a",
    deleted="#b3202a",
)
DARK = Colours(
    background="#171a21",
    text="#e4e7ee",
    comment="#9aa3b2",
    keyword="#f08cc8",
    string="#86d6a0",
    number="#f2b366",
    function="#8ab8ff",
    type="#c3aaff",
    inserted="#86d6a0",
    deleted="#ff938f",
)


def code_css() -> str:
    """Style sheet of the colours: the system's choice of light or dark, or that of `<html data-theme="…">`."""
    rules = [
        f":root {{ {_variables(LIGHT)} }}",
        f'@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {_variables(DARK)} }} }}',
        f':root[data-theme="dark"] {{ {_variables(DARK)} }}',
        ".code-block { background: var(--code-background); color: var(--code-text); }",
        ".code-language { color: var(--code-comment); }",
    ]
    rules += [f".code-block .{kind} {{ color: var(--code-{kind}); }}" for kind in sorted(set(_KINDS.values()))]
    return "\n".join(rules) + "\n"


def _variables(colours: Colours) -> str:
    return " ".join(f"--code-{name}: {value};" for name, value in asdict(colours).items())


def code_block(code: str, info: str) -> str:
    """HTML of `code` under a bar with its language, the first word of a fence's `info`, and a button for copying."""
    words = info.replace("{", " ").replace("}", " ").split()
    language = words[0].lstrip(".")[:_LONGEST_LANGUAGE] if words else ""
    bar = f'<span class="code-language">{escape(language)}</span><button type="button" class="copy"></button>'
    body = _coloured(code, language) if len(code) <= LONGEST_COLOURED else escape(code, quote=False)
    return f'<div class="code-block"><div class="code-bar">{bar}</div><pre><code>{body}</code></pre></div>\n'


# A streamed answer is rendered again and again; its blocks that are finished are coloured once.
@lru_cache(maxsize=128)
def _coloured(code: str, language: str) -> str:
    return "".join(
        f'<span class="{kind}">{escape(text, quote=False)}</span>' if kind else escape(text, quote=False)
        for kind, text in _pieces(code, language)
    )


def _pieces(code: str, language: str) -> list[tuple[str, str]]:
    """`code` as pairs of a kind ("" for plain) and its text; one plain piece where it is not coloured."""
    plain = [("", code)]
    if not language or _SLOW.search(code):
        return plain
    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
        if COLOURED_LANGUAGES.isdisjoint(lexer.aliases):
            return plain
        pairs = [(_kind(token), text) for token, text in lexer.get_tokens(code)]
    except ClassNotFound:
        return plain
    except Exception:  # A defect in a lexer costs the colours, not the answer.
        return plain
    pieces = [(kind, "".join(text for _, text in run)) for kind, run in groupby(pairs, key=itemgetter(0))]
    return pieces if "".join(text for _, text in pieces) == code else plain


def _kind(token: _TokenType) -> str:
    """The kind of the nearest ancestor that has one."""
    while token is not None:
        if token in _KINDS:
            return _KINDS[token]
        token = token.parent
    return ""
