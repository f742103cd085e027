"""Chat templates: Jinja programs that render a conversation in the format a model was trained on.

`template_environment` has the environment in which they run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import read_object
from mlx_suite.text.message import SYSTEM, USER, Message
from mlx_suite.text.settings import LEGACY_TEMPLATE_FILE, TEMPLATE_FILE, TEMPLATES, read_settings
from mlx_suite.text.template_environment import TemplateRaised, compiled

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
        """Like `render`, for turns in OpenAI's form, which may call tools, and for tool definitions in that form.

        Where texts are `Traced`, so is the result.
        """
        program = self._program()
        try:
            return program.render(
                messages=turns,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self.special_tokens, **self.variables},
            )
        except TemplateRaised as error:
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

    def check(self) -> None:
        """Raise UserError if the source is not valid Jinja."""
        self._program()

    def _program(self) -> jinja2.Template:
        try:
            return compiled(self.source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"the chat template is not valid Jinja: {error.message} (line {error.lineno})",
                self.origin,
                f"correct the template, or put one that works into {TEMPLATE_FILE}",
            ) from error


def with_variables(template: ChatTemplate, variables: Mapping[str, Any]) -> ChatTemplate:
    """The template with further variables, which replace its own of the same name."""
    return replace(template, variables={**template.variables, **variables}) if variables else template


def with_defaults(source: str, variables: Mapping[str, Any]) -> str:
    """The Jinja text in which these variables have values, unless a caller sets others.

    Every program that reads the template then renders it as in training.
    """
    # Jinja reads Python's literals.
    lines = [f"{{%- set {name} = {name} | default({value!r}) %}}\n" for name, value in variables.items()]
    return "".join(lines) + source


def dated(template: ChatTemplate) -> ChatTemplate:
    """The template with the date fixed to FIXED_DATE, unless its variables already set one."""
    return replace(template, variables={**FIXED_DATE, **template.variables})


def load_chat_template(
    folder: str | Path, variables: Mapping[str, Any] | None = None, *, adapter: str | Path | None = None
) -> ChatTemplate:
    """Load the template of a folder: chat_template.jinja, else `chat_template` of tokenizer_config.json, else of
    chat_template.json, where processors of transformers 4 keep it.

    A chat_template.jinja in the folder of an `adapter` takes precedence: the adapter was trained with it. Among several
    named templates, `default` is used. Raises UserError if there is none, or if it is not valid Jinja.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    path = folder / TEMPLATE_FILE
    if adapter is not None and (Path(adapter) / TEMPLATE_FILE).is_file():
        path = Path(adapter) / TEMPLATE_FILE
    if path.is_file():
        source = _text_of(path)
    else:
        path, stored = folder / "tokenizer_config.json", settings.chat_template
        if stored is None and (folder / LEGACY_TEMPLATE_FILE).is_file():
            path = folder / LEGACY_TEMPLATE_FILE
            stored = read_object(path, {"chat_template": TEMPLATES}).get("chat_template")
        source = _chosen(stored, path)
    if not source.strip():
        raise UserError("the chat template is empty", str(path), _PUT_TEMPLATE.format(path.parent / TEMPLATE_FILE))
    template = ChatTemplate(
        source=source,
        special_tokens=settings.roles,
        variables=variables or {},
        origin=str(path),
    )
    template.check()
    return template


_PUT_TEMPLATE = "use the instruction-tuned model of this family, or put a template into {}"


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}", str(path), "check its permissions") from error
    except UnicodeDecodeError as error:
        what = f"the chat template is not UTF-8 text: {error.reason} at byte {error.start}"
        raise UserError(what, str(path), "convert it to UTF-8") from error


def _chosen(value: object, path: Path) -> str:
    """Select the template from the `chat_template` of a tokenizer_config.json."""
    if isinstance(value, list):
        named = {entry["name"]: entry["template"] for entry in value}
        value = named.get("default", next(iter(named.values())) if len(named) == 1 else None)
    if isinstance(value, str):
        return value
    raise UserError(
        "this checkpoint has no chat template",
        str(path),
        _PUT_TEMPLATE.format(path.parent / TEMPLATE_FILE),
    )
