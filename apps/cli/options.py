"""Flags made from settings: a flag takes its help from the docstring of its field, and the field's default."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, wraps
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer


@dataclass(frozen=True)
class Flag:
    """Deviations of a field's flag from the usual `--name VALUE`."""

    names: tuple[str, ...] = ()
    """Names instead of the field's own."""
    metavar: str | None = None
    repeated: bool = False
    """True if a tuple's values are given one per flag instead of separated by commas."""


def option(
    settings: type,
    field: str,
    *flags: str,
    metavar: str | None = None,
    argument: str | None = None,
    panel: str | None = None,
) -> Any:
    """Make the flag of a settings field, named like the field unless `flags` are given; or an argument.

    A flag with a `panel` is rare: only `--help-all` shows it, under this heading.
    """
    if argument:
        return typer.Argument(help=field_docs(settings)[field], metavar=argument, show_default=False)
    names = flags or (f"--{field.replace('_', '-')}",)
    help = field_docs(settings)[field]
    return typer.Option(*names, help=help, metavar=metavar, hidden=panel is not None, rich_help_panel=panel)


@cache
def field_docs(settings: type) -> dict[str, str]:
    """Return the attribute docstrings of a class and its bases by field, each as one line."""
    inherited = [field_docs(base) for base in settings.__bases__ if is_dataclass(base)]
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {name: doc for each in inherited for name, doc in each.items()}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                docs[name] = " ".join(doc.split())
    return docs


def takes_settings(
    settings: type,
    groups: Mapping[str, Sequence[str]],
    flags: Mapping[str, Flag] = {},
    common: Collection[str] | None = None,
) -> Callable[[Callable[..., None]], Any]:
    """Give a command one flag for each field that `groups` names, under its group's title in the help.

    The command is called with `typed`, the values of the flags on the command line; its own parameters stay as they
    are.

    Args:
        flags: Fields whose flags are unusual.
        common: Fields whose flags the short help shows; None shows all.
    """
    hints = get_type_hints(settings)
    defaults = {field.name: field.default for field in fields(settings)}

    def decorate(command: Callable[..., None]) -> Any:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "typed"]
        made = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(defaults[name], flags.get(name, Flag())),
                annotation=Annotated[
                    _flag_type(hints[name], flags.get(name, Flag())),
                    _flag(settings, name, hints[name], group, flags.get(name, Flag()), common),
                ],
            )
            for group, names in groups.items()
            for name in names
        ]
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

        @wraps(command)
        def run(context: typer.Context, **values: Any) -> None:
            given = {flag.name: values.pop(flag.name) for flag in made}
            typed = {name: _value(value, hints[name]) for name, value in given.items() if _was_typed(context, name)}
            command(**values, typed=typed)

        parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *made]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(settings: type, name: str, hint: Any, group: str, flag: Flag, common: Collection[str] | None) -> Any:
    usual = f"--{name.replace('_', '-')}"
    metavar = flag.metavar or ("NAMES" if hint == tuple[str, ...] else _choices(hint))
    if hint == tuple[int, ...] | None:
        metavar = "NUMBERS"
    return typer.Option(
        *(flag.names or (f"{usual}/--no-{usual[2:]}" if hint in (bool, bool | None) else usual,)),
        help=field_docs(settings)[name],
        metavar=metavar,
        rich_help_panel=group,
        show_default=hint not in (bool, bool | None),
        hidden=common is not None and name not in common,
    )


def _choices(hint: Any) -> str | None:
    return "|".join(get_args(hint)) if get_origin(hint) is Literal else None


def _flag_type(hint: Any, flag: Flag) -> Any:
    """Type of a flag's value: tuples are repeated flags or comma-separated text; choices are text, checked later."""
    if flag.repeated:
        return list[str] | None
    if get_origin(hint) is Literal:
        return str
    return str | None if hint in (tuple[str, ...], tuple[int, ...] | None) else hint


def _default(value: Any, flag: Flag) -> Any:
    if value is MISSING:
        return inspect.Parameter.empty
    if flag.repeated:
        return None
    return (",".join(value) or None) if isinstance(value, tuple) else value


def _value(value: Any, hint: Any) -> Any:
    """Convert a flag's value to the field's type."""
    if hint != tuple[str, ...]:
        return value
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() if isinstance(value, str) else part for part in parts if part.strip())
