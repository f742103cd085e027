"""Flags that say what the library says: the help of a flag is the docstring of its settings field."""

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

import typer


def option(settings: type, field: str, *flags: str, metavar: str | None = None) -> Any:
    """The flag for a field of a settings class, called like the field unless `flags` are given."""
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
