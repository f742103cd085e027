"""Flags that say what the library says: the help of a flag is the docstring of its settings field."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from typing import Annotated, Any, get_type_hints

import typer


def option(settings: type, field: str, *flags: str, metavar: str | None = None, argument: str | None = None) -> Any:
    """The flag for a field of a settings class, called like the field unless `flags` are given; or an argument."""
    if argument:
        return typer.Argument(help=field_docs(settings)[field], metavar=argument, show_default=False)
    names = flags or (f"--{field.replace('_', '-')}",)
    return typer.Option(*names, help=field_docs(settings)[field], metavar=metavar)


@cache
def field_docs(settings: type) -> dict[str, str]:
    """The docstrings behind the fields of a class, each as one line."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                docs[name] = " ".join(doc.split())
    return docs


def takes_settings(settings: type, groups: Mapping[str, Sequence[str]]) -> Callable[[Callable[..., None]], Any]:
    """Give a command one flag for each field that `groups` names, under its group's title in the help.

    The command is called with `typed`, the values of those that stood on the command line; its own parameters stay as
    they are.
    """
    hints, defaults = get_type_hints(settings), {field.name: field.default for field in fields(settings)}

    def decorate(command: Callable[..., None]) -> Any:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "typed"]
        flags = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(defaults[name]),
                annotation=Annotated[_flag_type(hints[name]), _flag(settings, name, hints[name], group)],
            )
            for group, names in groups.items()
            for name in names
        ]
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

        @wraps(command)
        def run(context: typer.Context, **values: Any) -> None:
            given = {flag.name: values.pop(flag.name) for flag in flags}
            command(**values, typed={name: value for name, value in given.items() if _was_typed(context, name)})

        parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *flags]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(settings: type, name: str, hint: Any, group: str) -> Any:
    flag = f"--{name.replace('_', '-')}"
    metavar = "NAMES" if hint == tuple[str, ...] else "NUMBERS" if hint == tuple[int, ...] | None else None
    return typer.Option(
        f"{flag}/--no-{flag[2:]}" if hint is bool else flag,
        help=field_docs(settings)[name],
        metavar=metavar,
        rich_help_panel=group,
        show_default=hint is not bool,
    )


def _flag_type(hint: Any) -> Any:
    """Lists are one comma-separated text."""
    return str | None if hint in (tuple[str, ...], tuple[int, ...] | None) else hint


def _default(value: Any) -> Any:
    return (",".join(value) or None) if isinstance(value, tuple) else value
