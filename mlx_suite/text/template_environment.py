"""The Jinja environment of chat templates, in which texts keep the owners of their letters (see `traced`).

Templates are rendered as in transformers (`utils/chat_template_utils.py`): in an immutable sandbox, with `trim_blocks`,
`lstrip_blocks`, loop controls and four extras (`raise_exception`, `strftime_now`, `tojson` without HTML escapes, and
`{% generation %}`, whose content is rendered unchanged). Operations by which Jinja makes new text out of texts are
replaced by ones with the same result that keep owners.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

import jinja2
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.nodes import Concat, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_suite.text.pieces import TEMPLATE
from mlx_suite.text.traced import Traced, attributed, formatted, is_traced, joined, owned, plain

MAKE_TEXT = (
    *("center", "e", "escape", "filesizeformat", "forceescape", "pprint", "safe", "string", "striptags", "title"),
    *("truncate", "urlencode", "urlize", "wordwrap", "xmlattr"),
)
"""Jinja's filters that make new text and keep no owners: the text belongs to the message that went in."""


class TemplateRaised(jinja2.TemplateError):
    """An error that a template raises with `raise_exception`."""


@lru_cache(maxsize=32)
def compiled(source: str) -> jinja2.Template:
    """The program of a template; requests with variables of their own share it."""
    return _environment().from_string(source)


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`, which marks a response; its content is rendered unchanged."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[Node]:
        """Replace the block by its content."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _TracedCode(CodeGenerator):
    def visit_Concat(self, node: Concat, frame: Frame) -> None:
        """`a ~ b` with owners."""
        self.write("environment.tilde((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _TracedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox in which operations on texts keep owners."""

    code_generator_class = _TracedCode
    concat = staticmethod(joined)
    intercepted_binops = frozenset({"%"})

    @staticmethod
    def tilde(values: Iterable[Any]) -> str:
        return joined(map(_text, values))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`left % right`, the only operation that is intercepted."""
        return formatted(left, right) if isinstance(left, str) else left % right

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902
        """A call in a template; the methods of a string keep owners."""
        text = getattr(__obj, "__self__", None)
        if not isinstance(text, str) or not hasattr(str, __obj.__name__):
            return super().call(__context, __obj, *args, **kwargs)
        if type(text) is str:
            __obj = getattr(owned(text, TEMPLATE), __obj.__name__)
        result = super().call(__context, __obj, *args, **kwargs)
        return attributed(result, (text, args, kwargs)) if type(result) is str else result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The safe form of `text.format`, which builds its result by itself."""
        text = getattr(value, "__self__", None)
        if type(text) is Traced and value.__name__ in ("format", "format_map"):
            value = getattr(plain(text), value.__name__)
        safe = super().wrap_str_format(value)
        return None if safe is None else lambda *args, **kwargs: attributed(safe(*args, **kwargs), (text, args, kwargs))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _TracedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_finalized
    )
    environment.filters |= {name: _attributing(environment.filters[name]) for name in MAKE_TEXT}
    environment.filters |= {
        "format": _format,
        "indent": _indent,
        "join": _join,
        "replace": _replace,
        "tojson": _tojson,
    }
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _text(value: Any) -> str:
    """`str(value)`; owned if a list or an object with owned texts is printed."""
    return value if isinstance(value, str) else attributed(str(value), value)


def _finalized(value: Any) -> Any:
    """A value as an expression prints it."""
    return attributed(str(value), value) if isinstance(value, Mapping | list | tuple) else value


def _attributing(work: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose text belongs to the message that went in."""

    @wraps(work)  # Jinja's marks on a filter are attributes of the function.
    def run(*args: Any, **kwargs: Any) -> Any:
        result = work(*args, **kwargs)
        if isinstance(result, str) and type(result) is not Traced and is_traced((args, kwargs)):
            return attributed(str(result), (args, kwargs))
        return result

    return run


def _format(pattern: Any, *args: Any, **kwargs: Any) -> str:
    return formatted(_text(pattern), kwargs or args)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    indention = width if isinstance(width, str) else " " * width
    # The last newline counts as a line.
    lines = (owned("", TEMPLATE) + _text(text) + "\n").splitlines()
    rest = [indention + line if line or blank else line for line in lines[1:]]
    return joined([indention + lines[0] if first else lines[0], *rest], "\n")


@jinja2.pass_environment
def _join(environment: jinja2.Environment, values: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    values = values if attribute is None else map(make_attrgetter(environment, attribute), values)
    return joined(map(_text, values), d)


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    return (owned("", TEMPLATE) + _text(text)).replace(_text(old), _text(new), -1 if count is None else count)


def _raise_exception(message: str) -> None:
    raise TemplateRaised(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if not is_traced(value):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    between, after_key = separators or (", " if indent is None else ",", ": ")
    step = " " * indent if isinstance(indent, int) else indent

    def written(value: Any, newline: str) -> Iterator[str]:
        if isinstance(value, str):
            yield from ('"', _quoted(value, ensure_ascii), '"')
        elif isinstance(value, Mapping) and value:
            items = sorted(value.items()) if sort_keys else value.items()
            pairs = (
                [*_key(key, ensure_ascii), after_key, *written(part, newline + (step or ""))] for key, part in items
            )
            yield from nested("{", pairs, "}", newline)
        elif isinstance(value, list | tuple) and value:
            yield from nested("[", (written(part, newline + (step or "")) for part in value), "]", newline)
        else:
            yield json.dumps(value, ensure_ascii=ensure_ascii)

    def nested(opening: str, members: Iterable[Iterable[str]], closing: str, newline: str) -> Iterator[str]:
        inner = newline + step if step is not None else ""
        yield opening + inner
        for number, member in enumerate(members):
            if number:
                yield between + inner
            yield from member
        yield (newline if step is not None else "") + closing

    return joined(written(value, "\n"))


def _key(key: Any, ensure_ascii: bool) -> tuple[str, str, str]:
    """The name of a member; JSON writes other values than text as text."""
    return ('"', _quoted(key, ensure_ascii) if isinstance(key, str) else json.dumps(key), '"')


def _quoted(text: str, ensure_ascii: bool) -> str:
    """The text as inside JSON's quotes, each letter with the owner of what it is written for."""
    whole = json.dumps(plain(text), ensure_ascii=ensure_ascii)[1:-1]
    if type(text) is not Traced or len(whole) == len(text):
        return Traced(whole, text.owners) if type(text) is Traced else whole
    letters = (json.dumps(letter, ensure_ascii=ensure_ascii)[1:-1] for letter in plain(text))
    return Traced(whole, "".join(owner * len(part) for owner, part in zip(text.owners, letters, strict=True)))
