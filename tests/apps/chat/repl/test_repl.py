"""The loop of a chat: turns, commands, errors and Ctrl-C."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlx_suite_apps.chat.repl.commands import completions
from mlx_suite_apps.chat.repl.repl import PipeReader, Repl
from mlx_suite_apps.chat.repl.session import Session
from mlx_suite_apps.cli.main import app, main
from tests.apps.chat.repl.sessions import new_session

MAY = "The month before May is April.\n"


class Typist:
    """A reader that types given inputs, and notes the text that it finds in each prompt."""

    keys = [("Key", "What it does.")]
    interactive = True

    def __init__(self, *inputs: str | Callable[[str], str]) -> None:
        self._inputs = iter(inputs)
        self.defaults: list[str] = []

    def read(self, default: str) -> str | None:
        self.defaults.append(default)
        found = next(self._inputs, None)
        return found(default) if callable(found) else found


def talk(session: Session, *inputs: str | Callable[[str], str]) -> tuple[str, str, list[str]]:
    """Type inputs. Returns stdout, stderr and the texts found in the prompts."""
    out, err, typist = io.StringIO(), io.StringIO(), Typist(*inputs)
    Repl(session, typist, out, err).run()
    return out.getvalue(), err.getvalue(), typist.defaults


def pipe(*lines: str, session: Session) -> tuple[str, str, bool]:
    """Send lines through a pipe. Returns stdout, stderr and whether an error was shown."""
    out, err = io.StringIO(), io.StringIO()
    repl = Repl(session, PipeReader(io.BytesIO("".join(f"{line}\n" for line in lines).encode())), out, err)
    repl.run()
    return out.getvalue(), err.getvalue(), repl.failed


def run(*arguments: str | Path, stdin: str | bytes) -> Result:
    return CliRunner().invoke(app, ["chat", *map(str, arguments)], input=stdin, catch_exceptions=False)


# ---- a pipe


def test_every_line_of_a_pipe_is_a_turn_and_only_responses_are_printed() -> None:
    result = run("tiny-llama3", stdin="Which month comes before May?\n\nAnd before that?\r\n")
    assert result.exit_code == 0
    assert result.stdout == MAY + "The month before April is March.\n"
    assert result.stderr == ""


def test_an_error_in_a_pipe_does_not_end_it_but_sets_the_exit_code() -> None:
    result = run("tiny-llama3", stdin=b"/sav\n\xff\nWhich month comes before May?\n")
    assert result.exit_code == 2
    assert result.stdout == MAY
    assert result.stderr == (
        "error: /sav is not a command\n"
        "fix:   did you mean /save?\n"
        "error: The line is not UTF-8 text: invalid start byte at byte 0\n"
        "where: standard input:2\n"
        "fix:   convert it to UTF-8 first\n"
    )


def test_flags_set_the_system_prompt_and_the_sampling() -> None:
    result = run(
        "tiny-llama3", "--system", "Be brief.", "--max-tokens", "3", "--seed", "4", stdin="Hi\n/system\n/set\n"
    )
    assert result.stdout.splitlines()[1:] == [
        "system prompt: Be brief.",
        "temperature         0",
        "top_p               1",
        "min_p               0",
        "top_k               0",
        "repetition_penalty  1",
        "presence_penalty    0",
        "frequency_penalty   0",
        "stop                none",
        "logit_bias          none",
        "max_tokens          3",
        "seed                4",
    ]
    assert result.stderr == "[truncated by max_tokens]\n"


def test_invalid_flags_are_reported_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "chat", "tiny-llama3", "--top-p", "0", "--max-tokens", "0"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    assert capsys.readouterr().err == (
        "error: 2 flags are invalid\n"
        "       - --max-tokens is 0: expected at least 1\n"
        "       - --top-p is 0.0: expected above 0 and at most 1\n"
        "fix:   see mlx-suite chat --help for the allowed values\n"
    )


def test_a_terminal_without_prompt_toolkit_is_told_which_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "chat", "tiny-llama3"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == (
        "error: A chat in a terminal needs prompt_toolkit, which is not installed\n"
        "where: prompt_toolkit\n"
        "fix:   pip install 'mlx-suite[chat]'\n"
    )


# ---- turns


def test_two_slashes_begin_a_turn_with_one() -> None:
    session = new_session("tiny-llama3", max_tokens=2)
    _, _, defaults = talk(session, "//etc/hosts?", " /indented", "/undo", "/edit", lambda text: text + "!")
    assert defaults[4] == "//etc/hosts?"
    assert [message.content for message in session.messages[::2]] == ["/etc/hosts?!"]


def test_ctrl_c_stops_the_response_and_keeps_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    session = new_session("tiny-llama3")
    ask = session.ask

    def interrupted(text: str, on_text: Callable[[str], None]) -> object:
        def show(piece: str) -> None:
            on_text(piece)
            if piece.endswith("month"):
                os.kill(os.getpid(), signal.SIGINT)

        return ask(text, show)

    monkeypatch.setattr(session, "ask", interrupted)
    usual = signal.getsignal(signal.SIGINT)
    out, err, _ = talk(session, "Which month comes before May?")

    assert out.startswith("The month")
    assert len(out) < len(MAY)
    assert err == "[stopped]\n"
    assert session.messages[1].content == out.strip()
    assert signal.getsignal(signal.SIGINT) is usual


def test_a_turn_stopped_before_its_first_token_returns_to_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    session = new_session("tiny-llama3")
    run = session._engine.run  # type: ignore[union-attr]

    def stopping(requests: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return run(requests)  # type: ignore[arg-type]

    session._engine.run = stopping  # type: ignore[union-attr, assignment, method-assign]
    _, err, defaults = talk(session, "Which month?")
    assert err == "[stopped before the first token]\n"
    assert defaults == ["", "Which month?"]
    assert session.messages == ()


def test_a_turn_that_does_not_fit_is_kept_until_the_user_chooses(random_model: Path) -> None:
    """The model's context has 256 tokens, and it writes until that is full."""
    session = new_session(str(random_model))
    out, err, defaults = talk(session, "abc", "cba", "/undo", lambda default: default, "more", "/stats", "/drop")

    full = [
        "[truncated: the context is full; /drop makes room]",
        "error: The prompt has 282 tokens; the context of prompt and response is 256. The turn was not sent",
        "       - /drop    drop the oldest turns until it fits, and send the turn",
        "       - /undo    remove the last turn and its response",
        "       - /reset   remove all turns",
        "where: random",
        "fix:   choose one of these",
    ]
    assert err.splitlines() == [
        *full,
        "[/retry sends the turn that did not fit]",
        full[0],
        full[1].replace("282", "283"),
        *full[2:],
        full[0],
    ]
    assert defaults == ["", "", "", "cba", "", "", "", ""]
    assert "dropped the 1 oldest exchange, 25" in out
    assert [message.content for message in session.messages[::2]] == ["more"]


def test_the_last_turn_is_edited_in_the_input_and_answered_again() -> None:
    session = new_session("tiny-llama3")
    out, _, defaults = talk(
        session,
        "Which month comes before June?",
        "/edit",
        lambda text: text.replace("June", "May"),
        "/edit",
        "/stats",
        "And before that?",
    )
    assert defaults == ["", "", "Which month comes before June?", "", "Which month comes before May?", "", ""]
    assert MAY in out
    assert [message.content for message in session.messages[::2]] == [
        "Which month comes before May?",
        "And before that?",
    ]


# ---- commands


def test_stats_name_prefilled_and_reused_tokens_speed_and_the_use_of_the_context() -> None:
    session = new_session("tiny-llama3")
    out, _, _ = pipe("Which month comes before May?", "And before that?", "/stats", session=session)
    first, second = session.answers
    lines = out.splitlines()[2:]
    assert second.reused > first.prompt_tokens
    assert lines[0] == f"prompt     {second.prompt_tokens} tokens: {second.prefilled} prefilled, {second.reused} reused"
    assert lines[1] == f"response   {second.tokens} tokens, complete"
    assert lines[2].startswith("speed      first token after ")
    assert lines[2].endswith(" tokens/s")
    assert lines[3] == (
        f"session    2 responses: {first.prefilled + second.prefilled} tokens prefilled, {second.reused} reused, "
        f"{first.tokens + second.tokens} generated"
    )
    used = session.used()
    assert lines[4] == f"context    {used} of 512 tokens used, {used / 512:.0%}"


def test_a_conversation_is_saved_loaded_and_not_overwritten_by_accident(tmp_path: Path) -> None:
    path, other = tmp_path / "talk.json", tmp_path / "other.json"
    other.write_text("precious")
    session = new_session("tiny-llama3", system="Be brief.")
    out, err, _ = pipe(
        "/save",
        f"/save {path}",
        "Which month comes before May?",
        f"/save {path}",
        "And before that?",
        "/save",
        f"/save {other}",
        f"/load {other}",
        session=session,
    )
    saved = session.messages
    assert [line for line in err.splitlines() if line.startswith("error:")] == [
        "error: There is no file to save to",
        "error: The conversation is empty, so there is nothing to save",
        "error: The file exists",
        "error: The file is not a conversation",
    ]
    assert other.read_text() == "precious"
    assert len(json.loads(path.read_text())["messages"]) == 5

    fresh = new_session("tiny-llama3")
    pipe(f"/load {path}", f"/save --force {other}", session=fresh)
    assert (fresh.system, fresh.messages) == ("Be brief.", saved)
    assert other.read_text() == path.read_text()


def test_settings_are_shown_changed_and_checked() -> None:
    session = new_session("tiny-llama3")
    out, err, _ = pipe(
        "/set temperature 0.5",
        "/set max-tokens=7",
        "/set seed 3",
        "/set seed none",
        "/set top_p 2",
        "/set temprature 1",
        "/set max_tokens many",
        "/set temperature nan",
        session=session,
    )
    assert out == "temperature  0.5\nmax_tokens   7\nseed         3\nseed         none\n"
    assert (session.settings.temperature, session.settings.max_tokens, session.settings.top_p) == (0.5, 7, 1.0)
    assert err == (
        "error: top_p is 2.0: expected above 0 and at most 1\n"
        "fix:   /set top_p 0.9\n"
        "error: temprature is not a setting\n"
        "fix:   did you mean temperature?\n"
        "error: max_tokens is 'many': expected a whole number\n"
        "fix:   /set max_tokens 512\n"
        "error: temperature is nan: expected at least 0\n"
        "fix:   /set temperature 0.7\n"
    )


def test_penalties_biases_and_a_stop_text_are_settings_too() -> None:
    session = new_session("tiny-llama3", max_tokens=30)
    out, err, _ = pipe(
        "/set top_k 4",
        "/set top_k many",
        "/set logit_bias 13=-100",
        "/set logit_bias 13",
        "/set logit_bias = none",
        "Which month comes before May?",
        "/set stop pr",
        "/retry",
        session=session,
    )
    assert out.splitlines() == [
        "top_k        4",
        "logit_bias   13=-100",
        "logit_bias   none",
        MAY.strip(),
        "stop         pr",
        MAY.partition("pr")[0],
    ]
    assert "fix:   /set top_k 40\n" in err
    assert "error: logit_bias is '13': expected ID=VALUE\n" in err
    assert session.answers[-1].reason == "stop"


def test_the_model_can_be_exchanged_and_a_wrong_name_keeps_it(random_model: Path) -> None:
    session = new_session("tiny-llama3", max_tokens=5)
    out, err, _ = pipe(
        "Hi", "/model tiny-lama3", f"/model {random_model}", "/adapter nowhere", "/model", session=session
    )
    assert "error: " in err
    assert "tiny-llama3" in err
    assert "There is no such folder" in err
    assert out.splitlines()[-3:] == [f"model      {random_model}", "adapter    none", "context    256 tokens"]
    assert len(session.messages) == 2


def test_retry_and_undo_and_reset_and_drop() -> None:
    session = new_session("tiny-llama3")
    out, err, _ = pipe(
        "Which month comes before May?",
        "/retry",
        "And before that?",
        "/drop 1",
        "/undo",
        "/undo",
        "/drop",
        "/drop x",
        "/drop 0",
        "/edit",
        "Hi",
        "/reset",
        "/retry",
        session=session,
    )
    assert out.count(MAY) == 2
    assert "dropped the 1 oldest exchange, " in out
    assert 'removed the exchange "And before that?"' in out
    assert "the conversation is empty\n" in out
    assert [line for line in err.splitlines() if line.startswith(("error:", "["))] == [
        "[temperature 0 gives the same response again; /set temperature 0.7 varies it]",
        "error: The conversation is empty",
        "error: The conversation is empty",
        "error: 'x' is not a number of exchanges",
        "error: The conversation is empty",
        "error: The conversation is empty",
        "error: The conversation is empty",
    ]


def test_help_lists_every_command_and_key() -> None:
    out, _, _ = talk(new_session("tiny-llama3"), "/help", "/help /save", "/quit", "never read")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == [
        *("/help", "/retry", "/edit", "/undo", "/drop", "/reset", "/system", "/set", "/save", "/load", "/model"),
        *("/adapter", "/stats", "/quit", "Key", "/save"),
    ]


def test_commands_and_their_arguments_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(text: str) -> list[str]:
        return [text[: len(text) - replaced] + each for each, replaced, _ in completions(text)]

    (tmp_path / "talks").mkdir()
    (tmp_path / "talk.json").touch()
    (tmp_path / "talk.txt").touch()
    monkeypatch.chdir(tmp_path)

    assert found("/s") == ["/system", "/set", "/save", "/stats"]
    assert found("/set t") == ["/set temperature", "/set top_p", "/set top_k"]
    assert found("/load ta") == ["/load talk.json", "/load talks/"]
    assert found(f"/save {tmp_path}/talk") == [f"/save {tmp_path}/talk.json", f"/save {tmp_path}/talks/"]
    assert found("/adapter ") == ["/adapter none", "/adapter talks/"]
    assert found("/model tiny-g") == ["/model tiny-gemma2"]
    assert found("/stats ") == found("hello /s") == found("//s") == found("/s\nx") == []
