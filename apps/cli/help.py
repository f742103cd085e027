"""Format of `--help`: plain text that never truncates the name of a flag.

A command with many flags shows only the common ones for `--help`, and all of them, by panel, for `--help-all`.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

WIDEST = 100
"""Maximum columns; longer lines are hard to read."""
INDENT, GAP, FIRST_COLUMN = 2, 2, 26
"""Spaces before and after a flag, and the widest flag whose help starts on the same line."""
EXAMPLE = re.compile(r"Examples?: `(.+?)`$")
HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
"""Context settings of every program."""

Row = tuple[str, str]
"""A name and the text beside it."""


class HelpCommand(TyperCommand):
    """A command whose help this module formats."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        if any(getattr(param, "hidden", False) for param in params):
            params.append(_HELP_ALL)
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(command_help(self, ctx, everything=False))


class HelpGroup(TyperGroup):
    """A group of commands whose help this module formats."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(group_help(self, ctx))

    def summaries(self) -> list[Row]:
        """Each command's name and the first paragraph of its help."""
        return [(name, _first_paragraph(command)) for name, command in self.commands.items() if not command.hidden]


def new_app(name: str, help: str, cls: type[HelpGroup] = HelpGroup, **settings: Any) -> typer.Typer:
    """Make an empty group of commands; `add` adds a command to it."""
    return typer.Typer(
        name=name,
        help=help,
        cls=cls,
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
    """Format the help of a command; `everything` includes the rare flags."""
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
    """Format the help of a group: one line per command, wrapped but never truncated."""
    options = [(_option_names(param, ctx), _text(param)) for param in group.get_params(ctx)]
    usage = f"Usage: {ctx.command_path} COMMAND …"
    more = f"For help on a command, run {ctx.command_path} COMMAND --help."
    parts = [
        usage,
        *_description(group.help or ""),
        _section("Commands", group.summaries()),
        _section("Options", options),
    ]
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
    """Yield wrapped paragraphs, then the examples, one per line."""
    examples = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        line = " ".join(paragraph.split())
        found = EXAMPLE.match(line)
        if found:
            examples.append(found.group(1))
        elif line:
            yield from _wrapped(line.replace("`", ""))
    if examples:
        # Not wrapped, so that an example can be copied.
        yield "\n".join([_heading("Examples"), *(" " * INDENT + each for each in examples)])


def _section(title: str, rows: Sequence[Row]) -> str:
    """Format a heading and two columns; help that does not fit next to its flag starts below it."""
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
    """Placeholder for a flag's value; empty for a flag without one."""
    if param.metavar:
        return str(param.metavar)
    kind = str(param.display_type_rich(ctx=ctx) or "").strip("<>[]")
    return {"bool": "", "int": "N", "float": "X", "str": "TEXT", "path": "PATH"}.get(kind, kind)


def _text(param: Any, brief: bool = False) -> str:
    """A flag's help (only the first sentence if `brief`) and its default."""
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
    """Make the option `--help-all` through Typer."""

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
