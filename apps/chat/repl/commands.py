"""The commands of a chat, such as `/save FILE`: what they do, and how they are completed."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_suite.runtime.errors import UserError, nearest_name

from ..settings import ResponseSettings
from .completion import Completer, models, one_of, paths

if TYPE_CHECKING:
    from .repl import Repl

NOTHING = "none"
"""Argument that removes the system prompt, the adapter, the seed, stop texts or biases."""
FORCE = "--force"
SHOWN = 60
"""Characters of a turn that are quoted."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, typed as `/name argument`."""

    run: Callable[["Repl", str], None]
    help: str
    argument: str = ""
    """Placeholder of the argument, in brackets if it may be left out."""
    complete: Completer | None = None
    """Completes the argument."""


def is_command(text: str) -> bool:
    """Whether an input is a command; `//` begins a turn with a slash."""
    return text.startswith("/") and not text.startswith("//")


def run_command(repl: "Repl", text: str) -> None:
    """Run the command in an input. Raises UserError if it is unknown or fails."""
    name, _, argument = text[1:].partition(" ")
    if "\n" in name:  # a pasted text
        name, _, argument = re.split(r"(\s)", text[1:], maxsplit=1)
    known = COMMANDS.get(name.strip())
    if known is None:
        raise UserError(
            f"/{name.strip()} is not a command",
            fix=nearest_name(f"/{name.strip()}", (f"/{each}" for each in COMMANDS), cutoff=0.5),
        )
    argument = argument.strip()
    if argument and not known.argument:
        raise UserError(f"/{name} takes no argument", where=argument[:SHOWN], fix=f"/{name}")
    known.run(repl, argument)


def completions(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield (completion, characters of `text` that it replaces, explanation) for an input up to the cursor."""
    if not is_command(text) or "\n" in text:
        return
    name, space, argument = text[1:].partition(" ")
    if not space:
        for each, command in COMMANDS.items():
            if each.startswith(name):
                yield f"/{each}", len(text), command.help
        return
    found = COMMANDS.get(name)
    if found is not None and found.complete is not None:
        for value in found.complete(argument):
            yield value, len(argument), ""


# ---- what the commands do


def _help(repl: "Repl", argument: str) -> None:
    names = [argument.removeprefix("/")] if argument else list(COMMANDS)
    for name in names:
        if name not in COMMANDS:
            raise UserError(f"/{name} is not a command", fix=nearest_name(name, COMMANDS))
    usages = {name: f"/{name} {COMMANDS[name].argument}".strip() for name in names}
    width = max(map(len, usages.values())) + 2
    repl.show([(usages[name], COMMANDS[name].help) for name in names], width)
    if not argument:
        repl.show(repl.keys, width)


def _system(repl: "Repl", argument: str) -> None:
    session = repl.session
    if argument:
        session.system = "" if argument == NOTHING else argument
    repl.say(f"system prompt: {session.system}" if session.system else "no system prompt")


def _set(repl: "Repl", argument: str) -> None:
    name, value = (re.split(r"\s*=\s*|\s+", argument, maxsplit=1) + [""])[:2]
    name = name.replace("-", "_").lstrip("_")
    known = [each.name for each in fields(ResponseSettings)]
    if name:
        if name not in known:
            raise UserError(f"{name} is not a setting", fix=nearest_name(name, known))
        if value.strip():
            repl.session.settings = _changed(repl.session.settings, name, value.strip())
        known = [name]
    label = max(13, *(len(each) + 2 for each in known))
    repl.show([(each, _shown(getattr(repl.session.settings, each))) for each in known], label=label)


def _changed(settings: ResponseSettings, name: str, value: str) -> ResponseSettings:
    before = getattr(settings, name)
    whole = name == "seed" or isinstance(before, int)
    new: Any
    try:
        if isinstance(before, tuple):
            new = () if value == NOTHING else (value,)
        else:
            new = None if name == "seed" and value == NOTHING else int(value) if whole else float(value)
    except ValueError:
        wanted = "a whole number" if whole else "a number"
        raise UserError(f"{name} is {value!r}: expected {wanted}", fix=f"/set {name} {_EXAMPLES[name]}") from None
    changed = replace(settings, **{name: new})
    for _, problem in changed.problems():
        raise UserError(f"{name} {problem}", fix=f"/set {name} {_EXAMPLES[name]}")
    return changed


_EXAMPLES = {
    "max_tokens": "512",
    "temperature": "0.7",
    "top_p": "0.9",
    "min_p": "0.05",
    "top_k": "40",
    "repetition_penalty": "1.1",
    "presence_penalty": "0.5",
    "frequency_penalty": "0.5",
    "stop": "END",
    "logit_bias": "13=-100",
    "seed": "1",
}


def _shown(value: float | tuple[str, ...] | None) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or NOTHING
    return NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _save(repl: "Repl", argument: str) -> None:
    from .transcript import save_messages

    force = argument.split(" ")[0] == FORCE
    argument = argument.removeprefix(FORCE).strip() if force else argument
    path = Path(argument).expanduser() if argument else repl.file
    if path is None:
        raise UserError("There is no file to save to", fix="/save chat.json")
    if not repl.session.messages:
        raise UserError("The conversation is empty, so there is nothing to save", fix="type a first turn")
    if path.exists() and path != repl.file and not force:
        raise UserError("The file exists", where=str(path), fix=f"choose another name, or /save {FORCE} {argument}")
    problems = save_messages(path, repl.session.transcript())
    repl.file = path
    repl.say(f"saved to {path}")
    for problem in problems:
        repl.note(f"finetune cannot read it: {problem}")


def _load(repl: "Repl", argument: str) -> None:
    from .transcript import load_messages

    if not argument:
        raise UserError("There is no file to load", fix="/load FILE")
    path = Path(argument).expanduser()
    repl.session.restore(load_messages(path))
    repl.file = path
    repl.say(f"loaded {len(repl.session.messages)} turns from {path}; /retry answers the last one again")


def _reset(repl: "Repl", argument: str) -> None:
    repl.session.reset()
    repl.say("the conversation is empty" + (", the system prompt stays" if repl.session.system else ""))
    repl.offer_unsent()


def _retry(repl: "Repl", argument: str) -> None:
    if repl.unsent is not None:
        repl.ask(repl.unsent)
        return
    if repl.session.instruction and not repl.session.settings.temperature:
        repl.note("temperature 0 gives the same response again; /set temperature 0.7 varies it")
    repl.stream(repl.session.retry)


def _undo(repl: "Repl", argument: str) -> None:
    repl.say(f"removed the exchange {_quoted(repl.session.undo())}")
    repl.offer_unsent()


def _edit(repl: "Repl", argument: str) -> None:
    repl.edit(argument)


def _drop(repl: "Repl", argument: str) -> None:
    if argument and not argument.isdecimal():
        raise UserError(f"{argument!r} is not a number of exchanges", fix="/drop 2")
    dropped = repl.session.drop(int(argument) if argument else None, then=repl.unsent or "")
    plural = "s" * (dropped.exchanges != 1)
    repl.say(f"dropped the {dropped.exchanges} oldest exchange{plural}, {dropped.tokens:,} tokens")
    if repl.unsent is not None:
        repl.ask(repl.unsent)


def _model(repl: "Repl", argument: str) -> None:
    if argument:
        repl.session.switch(argument)
    _show_model(repl)


def _adapter(repl: "Repl", argument: str) -> None:
    if argument:
        repl.session.switch(repl.session.model, None if argument == NOTHING else Path(argument))
    _show_model(repl)


def _show_model(repl: "Repl") -> None:
    session = repl.session
    repl.show(
        [
            ("model", session.model),
            ("adapter", str(session.adapter or NOTHING)),
            ("context", f"{session.context:,} tokens"),
        ]
    )


def _stats(repl: "Repl", argument: str) -> None:
    session, answers = repl.session, repl.session.answers
    lines: list[tuple[str, str]] = []
    if answers:
        last = answers[-1]
        lines.append(("prompt", f"{last.prompt_tokens:,} tokens: {last.prefilled:,} prefilled, {last.reused:,} reused"))
        lines.append(("response", f"{last.tokens:,} tokens, {repl.ending(last)}"))
        if last.first_token_seconds is not None:
            rate = last.tokens_per_second
            speed = f"first token after {last.first_token_seconds:.2f} s" + (f", {rate:,.1f} tokens/s" if rate else "")
            lines.append(("speed", speed))
        total = [sum(getattr(each, name) for each in answers) for name in ("prefilled", "reused", "tokens")]
        lines.append(
            (
                "session",
                f"{len(answers):,} response{'s' * (len(answers) != 1)}: {total[0]:,} tokens prefilled, "
                f"{total[1]:,} reused, {total[2]:,} generated",
            )
        )
    used = session.used()
    lines.append(("context", f"{used:,} of {session.context:,} tokens used, {used / session.context:.0%}"))
    repl.show(lines)


def _quit(repl: "Repl", argument: str) -> None:
    repl.leaving = True


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line[:SHOWN]}…"' if len(line) > SHOWN else f'"{line}"'


COMMANDS: Mapping[str, Command] = {
    "help": Command(
        run=_help,
        argument="[COMMAND]",
        help="Show the commands and keys.",
        complete=lambda text: one_of(*COMMANDS)(text),
    ),
    "retry": Command(run=_retry, help="Answer the last turn again."),
    "edit": Command(run=_edit, argument="[TEXT]", help="Change the last turn and answer it again."),
    "undo": Command(run=_undo, help="Remove the last turn and its response."),
    "drop": Command(
        run=_drop,
        argument="[N]",
        help="Drop the N oldest turns and responses, or as many as the context needs.",
    ),
    "reset": Command(run=_reset, help="Remove all turns; the system prompt stays."),
    "system": Command(
        run=_system, argument="[TEXT|none]", help="Show or set the system prompt.", complete=one_of(NOTHING)
    ),
    "set": Command(
        run=_set,
        argument="[NAME VALUE]",
        help="Show or change the settings of responses.",
        complete=one_of(*(each.name for each in fields(ResponseSettings))),
    ),
    "save": Command(run=_save, argument="[FILE]", help="Save as JSON that finetune reads.", complete=paths(".json")),
    "load": Command(run=_load, argument="FILE", help="Load a saved conversation.", complete=paths(".json")),
    "model": Command(
        run=_model,
        argument="[NAME]",
        help="Show the model, or continue with another one.",
        complete=models,
    ),
    "adapter": Command(
        run=_adapter,
        argument="[DIR|none]",
        help="Show the adapter, or continue with another one.",
        complete=lambda text: chain(one_of(NOTHING)(text), paths()(text)),
    ),
    "stats": Command(run=_stats, help="Show tokens, speed and the use of the context."),
    "quit": Command(run=_quit, help="Leave."),
}
"""The commands in the order of the help."""
