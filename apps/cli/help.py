"""How `--help` looks: plain text that never cuts the name of a flag, and the common flags first.

A command with many flags shows the common ones to `--help` and all of them, by panel, to `--help-all`.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

WIDEST = 100
"""Columns at most: longer lines are hard to read."""
INDENT, GAP, FIRST_COLUMN = 2, 2, 26
"""Spaces before a flag and after it, and the widest flag whose help stands on the same line."""
EXAMPLE = re.compile(r"Examples?: `(.+?)`$")
HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
"""Context settings of every program."""

Row = tuple[str, str]


class HelpCommand(TyperCommand):
    """A command whose help is written by this module."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        if any(getattr(param, "hidden", False) for param in params):
            params.append(_HELP_ALL)
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(command_help(self, ctx, everything=False))


class HelpGroup(TyperGroup):
    """A group of commands whose help is written by this module."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(group_help(self, ctx))


def new_app(name: str, help: str, **settings: Any) -> typer.Typer:
    """A group of commands; a command joins it with `add`."""
    return typer.Typer(
        name=name,
        help=help,
        cls=HelpGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=HELP_FLAGS,
        **settings,
    )


def add(app: typer.Typer, command: Any, name: str | None = None) -> None:
    """Add a function to a group as a command."""
    app.command(name, cls=HelpCommand)(command)


def command_help(command: Any, ctx: Any, *, everything: bool) -> str:
    """The help of a command; `everything` shows the rare flags too."""
    params = command.get_params(ctx)
    brief = not everything and any(getattr(param, "hidden", False) for param in params)
    params = [param for param in params if everything or not getattr(param, "hidden", False)]
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name != "argument"]
    if everything:
        options = [param for param in options if param is not _HELP_ALL]
    parts = [_usage(ctx, arguments), *_description(command.help or "")]
    if arguments:
        parts.append(_section("Arguments", [(_argument_name(each), _text(each, brief)) for each in arguments]))
    panels: dict[str, list[Row]] = {}
    for param in options:
        title = (getattr(param, "rich_help_panel", None) if everything else None) or "Options"
        panels.setdefault(title, []).append((_option_names(param, ctx), _text(param, brief)))
    parts += [_section(title, rows) for title, rows in panels.items()]
    return "\n\n".join(parts) + "\n"


def group_help(group: Any, ctx: Any) -> str:
    """The help of a group: one line for each command, wrapped and never cut."""
    commands = [(name, _first_paragraph(command)) for name, command in group.commands.items() if not command.hidden]
    options = [(_option_names(param, ctx), _text(param)) for param in group.get_params(ctx)]
    usage = f"Usage: {ctx.command_path} COMMAND …"
    more = f"{ctx.command_path} COMMAND --help explains a command."
    parts = [usage, *_description(group.help or ""), _section("Commands", commands), _section("Options", options)]
    return "\n\n".join([*parts, *_wrapped(more)]) + "\n"


def _width() -> int:
    return max(30, min(WIDEST, shutil.get_terminal_size().columns) - 1)


def _usage(ctx: Any, arguments: Sequence[Any]) -> str:
    words = [_argument_name(each) if each.required else f"[{_argument_name(each)}]" for each in arguments]
    lines = textwrap.wrap(
        " ".join(["Usage:", ctx.command_path, *words, "[OPTIONS]"]), _width(), subsequent_indent=" " * 7
    )
    return "\n".join(lines)


def _description(text: str) -> Iterator[str]:
    """Paragraphs, wrapped; examples as lines of their own."""
    examples = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        line = " ".join(paragraph.split())
        found = EXAMPLE.match(line)
        if found:
            examples.append(found.group(1))
        elif line:
            yield from _wrapped(line.replace("`", ""))
    if examples:
        # Not wrapped: an example is there to be copied.
        yield "\n".join([_heading("Examples"), *(" " * INDENT + each for each in examples)])


def _section(title: str, rows: Sequence[Row]) -> str:
    """A heading and two columns; help that does not fit beside its flag begins below it."""
    column = min(FIRST_COLUMN, max(len(name) for name, _ in rows), _width() // 2)
    lines = [_heading(title)]
    for name, text in rows:
        indent = " " * (INDENT + column + GAP)
        wrapped = textwrap.wrap(text, _width(), initial_indent=indent, subsequent_indent=indent) or [""]
        if len(name) <= column:
            first = f"{' ' * INDENT}{name:<{column}}{' ' * GAP}{wrapped[0].strip()}".rstrip()
            lines += [first, *wrapped[1:]]
        else:
            lines += [" " * INDENT + name, *filter(None, wrapped)]
    return "\n".join(lines)


def _argument_name(param: Any) -> str:
    name = str(param.metavar or param.name.upper())
    return name[1:-1] if name[0] + name[-1] in ("[]", "{}") else name


def _option_names(param: Any, ctx: Any) -> str:
    text = ", ".join(sorted(param.opts, key=len))
    if param.secondary_opts:
        return f"{text}, {', '.join(param.secondary_opts)}"
    metavar = _metavar(param, ctx)
    return f"{text} {metavar}" if metavar else text


def _metavar(param: Any, ctx: Any) -> str:
    """What stands for a flag's value; empty for a flag without one."""
    if param.metavar:
        return str(param.metavar)
    kind = str(param.display_type_rich(ctx=ctx) or "").strip("<>[]")
    return {"bool": "", "int": "N", "float": "X", "str": "TEXT", "path": "PATH"}.get(kind, kind)


def _text(param: Any, brief: bool = False) -> str:
    """A flag's help, in brief its first sentence, and its default."""
    text = " ".join((param.help or "").replace("`", "").split())
    if brief:
        text = re.split(r"(?<=[a-z)\]])\. ", text)[0].rstrip(".") + "."
    if param.required and param.param_type_name != "argument":
        return f"{text} Required."
    shown, default = getattr(param, "show_default", True), param.default
    if isinstance(shown, str):
        return f"{text} Default: {shown}."
    plain = default is None or isinstance(default, bool) or callable(default) or default in ("", (), [])
    if not shown or plain or "Default:" in text:
        return text
    return f"{text} Default: {getattr(default, 'value', default)}."


def _first_paragraph(command: Any) -> str:
    return " ".join(re.split(r"\n\s*\n", (command.help or "").strip())[0].split()).replace("`", "")


def _wrapped(text: str) -> list[str]:
    return ["\n".join(textwrap.wrap(text, _width()))]


def _heading(title: str) -> str:
    return str(typer.style(title, bold=True))


def _show_everything(ctx: Any, param: Any, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        typer.echo(command_help(ctx.command, ctx, everything=True), color=ctx.color)
        ctx.exit()


def _help_all() -> Any:
    """The option itself, as Typer makes it."""

    def command(
        help_all: bool = typer.Option(
            False, "--help-all", is_eager=True, expose_value=False, help="Show all flags and exit."
        ),
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(command)
    [option] = [param for param in typer.main.get_command(app).params if "--help-all" in param.opts]
    option.expose_value = False
    option.callback = _show_everything
    return option


_HELP_ALL = _help_all()
