"""`mlx-suite generate`: one response, streamed."""

import json
import os
import secrets
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.runtime.errors import UserError, invalid

from ..chat.settings import ResponseSettings
from .checkpoint import Checkpoint, open_checkpoint, speculation_for
from .flags import (
    AdapterFolder,
    DraftName,
    FrequencyPenalty,
    LogitBias,
    Lookup,
    MaxTokens,
    MinP,
    ModelName,
    PresencePenalty,
    RepetitionPenalty,
    StopTexts,
    Temperature,
    TemplateVariables,
    TopK,
    TopP,
    check_choice,
    named_as_flags,
)

if TYPE_CHECKING:
    from mlx_suite.engine import Program, Sample, Speculation, Written
    from mlx_suite.serving.response_reader import Part, ResponseReader

    from ..chat.repl.answer import Answer

BROKEN_PIPE = 141
"""Exit code if the reader of a pipe exits, as after SIGPIPE."""


def generate(
    model: ModelName,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT|-", help="The prompt; `-`, or nothing after a pipe, reads standard input."),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="System prompt; prepended to the prompt if the chat template has no system role.",
        ),
    ] = None,
    max_tokens: MaxTokens = 1024,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    top_k: TopK = 0,
    repetition_penalty: RepetitionPenalty = 1.0,
    presence_penalty: PresencePenalty = 0.0,
    frequency_penalty: FrequencyPenalty = 0.0,
    stop: StopTexts = [],  # noqa: B006
    logit_bias: LogitBias = [],  # noqa: B006
    seed: Annotated[
        int | None, typer.Option(help="Random seed. Default: a new one, which --verbose and --json report.")
    ] = None,
    adapter: AdapterFolder = None,
    template_arg: TemplateVariables = [],  # noqa: B006
    reasoning: Annotated[
        str,
        typer.Option(
            metavar="keep|drop",
            help="Reasoning in <think> tags before the response: keep (show it as it is written) or drop (show the "
            "response only; --json has both).",
        ),
    ] = "keep",
    lookup: Lookup = True,
    draft: DraftName = "",
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end instead of streaming.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print statistics on stderr.")] = False,
) -> None:
    """Generate one response and stream it.

    Example: `mlx-suite generate tiny-llama3 "What is 12 plus 30?"`

    Example: `cat notes.txt | mlx-suite generate OWNER/REPO --system "Summarise this in one line."`
    """
    settings = ResponseSettings(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        stop=tuple(stop),
        logit_bias=tuple(logit_bias),
    )
    problems = named_as_flags(settings.problems())
    if raw and system:
        problems.append("--system with --raw: a system prompt needs the chat template, which --raw turns off")
    if problems:
        raise invalid("flag", problems, "mlx-suite generate --help")
    check_choice("--reasoning", reasoning, ("keep", "drop"))
    text = _read_prompt(prompt)
    checkpoint = open_checkpoint(model, adapter=adapter, variables=template_arg)
    turn = _raw_turn(checkpoint, text) if raw else _chat_turn(checkpoint, text, system)
    if temperature and seed is None:
        seed = secrets.randbelow(1 << 31)
    from mlx_suite.engine import Sample
    from mlx_suite.engine.never_sampled import banning, untrained

    never = untrained(checkpoint.model, checkpoint.tokenizer)
    sample = Sample(
        limit=max_tokens,
        stop=frozenset(turn.stop),
        sampling=banning(settings.sampling(checkpoint.tokenizer), never, turn.stop),
    )
    hidden = _hidden_reasoning(checkpoint, turn) if reasoning == "drop" else None
    speculation = speculation_for(checkpoint, lookup=lookup, draft=draft)
    response = _StreamedResponse(
        checkpoint, shown=not as_json, stop_texts=settings.stop, speculation=speculation, reader=hidden
    )
    try:
        written, answer = response.write(turn, sample, seed or 0)
    except KeyboardInterrupt:
        response.end_line()
        raise
    except BrokenPipeError:
        _ignore_stdout()
        raise typer.Exit(BROKEN_PIPE) from None
    facts = response.facts(written, answer, seed)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
    if verbose:
        _report(facts, turn, sample)
    elif written.reason != "stop" and not as_json:
        print(f"[{_ending(facts)}]", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """Prompt tokens and stop tokens."""

    ids: list[int]
    stop: Iterable[int]
    notes: tuple[str, ...] = ()
    show_special: bool = False
    """Whether special tokens in the response are shown."""


@dataclass
class _StreamedResponse:
    """Streams a response."""

    checkpoint: Checkpoint
    shown: bool
    stop_texts: tuple[str, ...] = ()
    speculation: "Speculation | None" = None
    stop_text: str | None = None
    """The one that ended the response."""
    reader: "ResponseReader | None" = None
    """Tells reasoning from the response, if only the response is shown."""
    thoughts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def write(self, turn: _Turn, sample: "Sample", seed: int) -> "tuple[Written, Answer]":
        """Generate the response, token by token. Raises UserError if the prompt fills the context."""
        from mlx_suite.engine import Engine, Given, Request, context_length
        from mlx_suite.text import StreamingDetokenizer

        from ..chat.repl.answer import AnswerStream

        context = context_length(self.checkpoint.model)
        if len(turn.ids) >= context:
            raise UserError(
                f"The prompt has {len(turn.ids):,} tokens; the context of prompt and response is {context:,}",
                where=str(self.checkpoint.folder),
                fix="shorten the prompt, or use a model with a longer context",
            )
        detokenizer = StreamingDetokenizer(self.checkpoint.tokenizer, skip_special=not turn.show_special)

        stream = AnswerStream(detokenizer, sample.stop, self._show, self.stop_texts)
        if self.stop_texts:
            sample = replace(sample, until=stream.until)

        def program() -> "Program":
            yield Given(tuple(turn.ids))
            return (yield sample)

        engine = Engine(self.checkpoint.model, slots=1, context=context, speculation=self.speculation)
        [done] = engine.run([Request(program=program(), seed=seed, on_token=stream.on_token)])
        written: Written = done.result
        answer = stream.answer(written.reason, prompt_tokens=len(turn.ids), reused=done.reused, seed=seed)
        self.stop_text = stream.stop_text
        if self.reader is not None:
            self._show_parts(self.reader.finish())
            answer = replace(answer, text="".join(self.texts))
        self.end_line()
        return written, answer

    def _show(self, text: str) -> None:
        if self.reader is None:
            self._print(text)
        else:
            self._show_parts(self.reader.read(text))

    def _show_parts(self, parts: "Iterable[Part]") -> None:
        from mlx_suite.serving.chat import ReasoningDelta, TextDelta

        for part in parts:
            if isinstance(part, ReasoningDelta):
                self.thoughts.append(part.text)
            elif isinstance(part, TextDelta):
                self.texts.append(part.text)
                self._print(part.text)

    def _print(self, text: str) -> None:
        if self.shown:
            sys.stdout.write(text)
            sys.stdout.flush()

    def end_line(self) -> None:
        """End the line, so that later output starts on its own."""
        if self.shown:
            sys.stdout.write("\n")
            sys.stdout.flush()

    def facts(self, written: "Written", answer: "Answer", seed: int | None) -> dict[str, Any]:
        """Fields of `--json`."""
        stop = self.stop_text
        if written.stop_token is not None:
            stop = self.checkpoint.tokenizer.token_of(written.stop_token)
        first, speed = answer.first_token_seconds, answer.tokens_per_second
        return {
            "model": self.checkpoint.name,
            "adapter": self.checkpoint.adapter,
            "text": answer.text,
            **({} if self.reader is None else {"reasoning": "".join(self.thoughts)}),
            "reason": written.reason,
            "stop": stop,
            "prompt_tokens": answer.prompt_tokens,
            "tokens": len(written.tokens),
            "first_token_seconds": None if first is None else round(first, 4),
            "tokens_per_second": None if speed is None else round(speed, 2),
            "guessed": self.speculation.guessed if self.speculation else 0,
            "guessed_right": self.speculation.kept if self.speculation else 0,
            "seed": seed,
        }


def _read_prompt(prompt: str | None) -> str:
    if prompt is None and sys.stdin.isatty():
        raise UserError(
            "There is no prompt",
            fix='mlx-suite generate MODEL "What is 12 plus 30?"',
        )
    where = "PROMPT"
    if prompt is None or prompt == "-":
        where = "standard input"
        try:
            prompt = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"The prompt is not UTF-8 text: {error.reason} at byte {error.start}",
                where=where,
                fix="convert it to UTF-8 first",
            ) from error
        prompt = prompt.removesuffix("\n")  # shell tools end their output with one
    if not prompt.strip():
        raise UserError("The prompt is empty", where=where, fix="give a text for the model to respond to")
    return prompt


def _raw_turn(checkpoint: Checkpoint, text: str) -> _Turn:
    tokenizer = checkpoint.tokenizer
    return _Turn(ids=tokenizer.encode_prompt(text), stop=tokenizer.stop_ids, show_special=True)


def _chat_turn(checkpoint: Checkpoint, text: str, system: str | None) -> _Turn:
    from mlx_suite.text import Message, encode_chat, fold_system

    tokenizer, template = checkpoint.tokenizer, checkpoint.template
    messages = [Message("user", text)]
    notes: list[str] = []
    if system:
        messages.insert(0, Message("system", system))
        if not template.takes_system:
            messages = fold_system(messages)
            notes.append("the chat template has no system role, so the system prompt is prepended to the prompt")
    chat = encode_chat(tokenizer, template, messages, add_generation_prompt=True)
    return _Turn(ids=chat.ids, stop=checkpoint.response_ends, notes=tuple(notes))


def _hidden_reasoning(checkpoint: Checkpoint, turn: _Turn) -> "ResponseReader":
    """Reads reasoning apart from the response; the prompt may have opened it, as DeepSeek R1's does."""
    from mlx_suite.serving.response_reader import ResponseReader
    from mlx_suite.text.reasoning import OPEN

    prompt = checkpoint.tokenizer.decode(turn.ids[-16:], skip_special=False)
    return ResponseReader(thinking=prompt.rstrip().endswith(OPEN))


def _report(facts: dict[str, Any], turn: _Turn, sample: "Sample") -> None:
    first, rate = facts["first_token_seconds"], facts["tokens_per_second"]
    sampling = sample.sampling
    lines = [
        f"prompt    {facts['prompt_tokens']:,} tokens",
        f"response  {facts['tokens']:,} tokens, {_ending(facts)}",
    ]
    if first is not None:
        lines.append(f"speed     first token after {first:.2f} s" + (f", then {rate:,.1f} tokens/s" if rate else ""))
    if facts["guessed"]:
        lines.append(f"guessed   {facts['guessed']:,} tokens, {facts['guessed_right']:,} of them right")
    if sampling.temperature:
        lines.append(
            f"sampling  temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, min-p {sampling.min_p:g}, "
            f"seed {facts['seed']}"
        )
    lines += [f"note      {note}" for note in turn.notes]
    print("\n".join(lines), file=sys.stderr)


def _ending(facts: dict[str, Any]) -> str:
    if facts["reason"] == "stop":
        return f"ended by {facts['stop']}"
    return "truncated by --max-tokens" if facts["reason"] == "limit" else "truncated by the model's context"


def _ignore_stdout() -> None:
    """Redirect stdout to nowhere, so that Python does not flush into the broken pipe on exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
