"""Chat templates: Jinja programs that render a conversation in the format a model was trained on.

They are rendered as in transformers (`utils/chat_template_utils.py`): in an immutable sandbox, with `trim_blocks`,
`lstrip_blocks`, loop controls and four extras (`raise_exception`, `strftime_now`, `tojson` without HTML escapes, and
`{% generation %}`, whose content is rendered unchanged).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.message import SYSTEM, USER, Message
from mlx_suite.text.settings import TEMPLATE_FILE, read_settings

FIXED_DAY = datetime(2024, 7, 26)
FIXED_DATE: Mapping[str, Any] = {
    "date_string": FIXED_DAY.strftime("%d %b %Y"),
    "strftime_now": lambda form: FIXED_DAY.strftime(form),
}
"""The date of a run in templates that state one: the default of Llama 3.1's and 3.2's system turn. With today's date no
run could be resumed tomorrow."""


class TemplateRefusal(UserError):
    """The template rejects a conversation: it does not support a role, or turns are out of order."""


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """One chat template and the values it is rendered with."""

    source: str = field(repr=False)
    """The Jinja text."""
    special_tokens: Mapping[str, str]
    """Special tokens by role, such as `bos_token`: the names by which the template refers to them."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Additional variables, such as `{"date_string": "26 Jul 2024"}` to fix the date in Llama 3.2's template."""
    origin: str = "chat template"
    """File or style that the template came from, for error messages."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """Render the conversation as text; `add_generation_prompt` appends the header of the next assistant turn.

        Raises TemplateRefusal if the template rejects the conversation, UserError if it fails.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self.render_turns(turns, add_generation_prompt=add_generation_prompt)

    def render_turns(
        self,
        turns: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """Like `render`, for turns in OpenAI's form, which may call tools, and for tool definitions in that form."""
        program = self._program()
        try:
            return program.render(
                messages=turns,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self.special_tokens, **self.variables},
            )
        except _Raised as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise TemplateRefusal(
                f"the chat template rejects this conversation ({roles}): {error}",
                self.origin,
                "let user and assistant alternate, with any system text in the first user turn",
            ) from error
        except Exception as error:  # a template is third-party code: it can raise anything
            raise UserError(
                f"the chat template fails: {type(error).__name__}: {error}",
                self.origin,
                f"correct the template, or put one that works into {TEMPLATE_FILE}",
            ) from error

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system message is accepted and rendered."""
        try:
            shown = self.render([Message(SYSTEM, "Be brief."), Message(USER, "Hi")])
        except UserError:
            return False
        return "Be brief." in shown

    def _program(self) -> jinja2.Template:
        try:
            return _compiled(self.source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"the chat template is not valid Jinja: {error.message} (line {error.lineno})",
                self.origin,
                f"correct the template, or put one that works into {TEMPLATE_FILE}",
            ) from error


def with_variables(template: ChatTemplate, variables: Mapping[str, Any]) -> ChatTemplate:
    """The template with further variables, which replace its own of the same name."""
    return replace(template, variables={**template.variables, **variables}) if variables else template


def dated(template: ChatTemplate) -> ChatTemplate:
    """The template with the date fixed to FIXED_DATE, unless its variables already set one."""
    return replace(template, variables={**FIXED_DATE, **template.variables})


def load_chat_template(
    folder: str | Path, variables: Mapping[str, Any] | None = None, *, adapter: str | Path | None = None
) -> ChatTemplate:
    """Load the template of a folder: chat_template.jinja, else `chat_template` of tokenizer_config.json.

    A chat_template.jinja in the folder of an `adapter` takes precedence: the adapter was trained with it. Among several
    named templates, `default` is used. Raises UserError if there is none.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    path = folder / TEMPLATE_FILE
    if adapter is not None and (Path(adapter) / TEMPLATE_FILE).is_file():
        path = Path(adapter) / TEMPLATE_FILE
    if path.is_file():
        source = path.read_text(encoding="utf-8")
    else:
        path = folder / "tokenizer_config.json"
        source = _chosen(settings.chat_template, path)
    return ChatTemplate(
        source=source,
        special_tokens=settings.roles,
        variables=variables or {},
        origin=str(path),
    )


def _chosen(value: object, path: Path) -> str:
    """Select the template from the `chat_template` of a tokenizer_config.json."""
    if isinstance(value, list):
        named = {entry["name"]: entry["template"] for entry in value if isinstance(entry, dict)}
        value = named.get("default", next(iter(named.values())) if len(named) == 1 else None)
    if isinstance(value, str):
        return value
    raise UserError(
        "this checkpoint has no chat template",
        str(path),
        f"use the instruction-tuned model of this family, or put a template into {path.parent / TEMPLATE_FILE}",
    )


class _Raised(jinja2.TemplateError):
    """An error that a template raises with `raise_exception`."""


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`, which marks a response; its content is rendered unchanged."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[Node]:
        """Replace the block by its content."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=32)
def _compiled(source: str) -> jinja2.Template:
    """The program of a template; requests with variables of their own share it."""
    return _environment().from_string(source)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _raise_exception(message: str) -> None:
    raise _Raised(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
