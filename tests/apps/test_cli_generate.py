"""`mlx-suite generate`: the response on stdout, everything else on stderr."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlx_suite import load
from mlx_suite.engine import Done, Engine, Given, Program, Request, Sample, Sampling, Written
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message, Tokenizer, encode_chat, load_chat_template
from mlx_suite.text.training import GEMMA2_TEMPLATE
from mlx_suite_apps.cli import generate as command
from mlx_suite_apps.cli.main import app, main

START = "from mlx_suite_apps.cli.main import main; main()"


def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["generate", *map(str, arguments)], input=stdin, catch_exceptions=False)


def expected(folder: Path, prompt: str, seed: int, limit: int = 40) -> tuple[Written, Tokenizer]:
    """Generate the response with the engine, without the command line."""
    model, tokenizer = load(folder)
    template = load_chat_template(folder)
    ids = encode_chat(tokenizer, template, [Message("user", prompt)], add_generation_prompt=True).ids
    stop = frozenset(tokenizer.stop_ids | {id for id in ids if id in tokenizer.special_ids})

    def program() -> Program:
        yield Given(tuple(ids))
        return (yield Sample(limit=limit, stop=stop, sampling=Sampling(temperature=1.0)))

    [done] = Engine(model, slots=1, context=256).run([Request(program=program(), seed=seed)])
    return done.result, tokenizer


def test_the_response_is_that_of_the_engine(random_model: Path) -> None:
    for seed in range(3):
        written, tokenizer = expected(random_model, "Why?", seed)
        arguments = [random_model, "Why?", "--temperature", "1", "--seed", str(seed), "--max-tokens", "40"]

        assert run(*arguments).stdout == tokenizer.decode(written.tokens) + "\n"

        facts = json.loads(run(*arguments, "--json").stdout)
        assert facts["text"] == tokenizer.decode(written.tokens)
        assert (facts["reason"], facts["tokens"], facts["seed"]) == (written.reason, len(written.tokens), seed)
        assert facts["model"] == "random"
        assert facts["prompt_tokens"] > len("Why?")


def test_a_draft_model_changes_the_steps_and_not_the_text(random_model: Path) -> None:
    arguments = [random_model, "Why?", "--max-tokens", "20", "--temperature", "1", "--seed", "5", "--json"]

    plain = json.loads(run(*arguments, "--no-lookup").stdout)
    drafted = json.loads(run(*arguments, "--draft", random_model).stdout)

    assert drafted["text"] == plain["text"]
    assert (plain["guessed"], plain["guessed_right"]) == (0, 0)
    assert drafted["guessed"] == drafted["guessed_right"] > 0


def test_a_draft_model_with_another_tokenizer_is_refused(random_model: Path) -> None:
    with pytest.raises(UserError, match="tiny-llama3 has another tokenizer than random"):
        run(random_model, "Why?", "--draft", "tiny-llama3")


def test_a_variable_of_the_chat_template_changes_the_prompt(random_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(random_model, folder)
    template = folder / "chat_template.jinja"
    end = "{% if thinking is defined and thinking is false %}{{ 'abc' }}{% endif %}"
    template.write_text(template.read_text() + end)

    def prompt_tokens(*flags: str) -> int:
        facts = json.loads(run(folder, "Why?", "--max-tokens", "1", "--json", *flags).stdout)
        return int(facts["prompt_tokens"])

    assert prompt_tokens("--template-arg", "thinking=true") == prompt_tokens()
    assert prompt_tokens("--template-arg", "thinking=false") > prompt_tokens()


@pytest.mark.parametrize(("opened", "said"), [("", "<think>abab</think>cab"), ("<think>", "abab</think>cab")])
def test_reasoning_is_dropped_from_what_is_shown(
    opened: str, said: str, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(random_model, folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if add_generation_prompt %}" + opened + "{% endif %}")
    tokenizer = load(folder)[1]
    ids = (*tokenizer.encode(said), min(tokenizer.stop_ids))

    class SpeakingEngine:
        """An engine that generates `ids`."""

        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, requests: list[Request]) -> object:
            [request] = requests
            for token in ids:
                assert request.on_token is not None
                request.on_token(token)
            yield Done(request=request, value=Written(tokens=ids[:-1], reason="stop", stop_token=ids[-1]))

    monkeypatch.setattr("mlx_suite.engine.Engine", SpeakingEngine)
    assert run(folder, "Why?").stdout == said + "\n"
    assert run(folder, "Why?", "--reasoning", "drop").stdout == "cab\n"
    facts = json.loads(run(folder, "Why?", "--reasoning", "drop", "--json").stdout)
    assert (facts["text"], facts["reasoning"]) == ("cab", "abab")


def test_a_stop_text_ends_the_response_and_is_not_shown(random_model: Path) -> None:
    flags = [random_model, "Why?", "--temperature", "1", "--seed", "12", "--max-tokens", "40"]
    whole = run(*flags).stdout.removesuffix("\n")
    stop = whole[2:4]
    cut = run(*flags, "--stop", stop)
    assert len(whole) > 4 and cut.stdout == whole[: whole.index(stop)] + "\n"
    facts = json.loads(run(*flags, "--stop", stop, "--stop", "never", "--json").stdout)
    assert (facts["reason"], facts["stop"]) == ("stop", stop)
    assert run(*flags, "--stop", "never").stdout == whole + "\n"


def test_top_k_penalties_and_biases_change_what_is_sampled(random_model: Path) -> None:
    _, tokenizer = load(random_model)
    [letter] = tokenizer.encode("b")

    def text(*flags: str) -> str:
        return run(random_model, "Why?", "--seed", "3", "--max-tokens", "20", "--temperature", "1", *flags).stdout

    assert set(text("--logit-bias", f"{letter}=100").strip()) == {"b"}
    assert "b" not in text("--logit-bias", f"{letter}=-100")
    assert text("--top-k", "1") == text("--temperature", "0")
    pushed = ["--logit-bias", f"{letter}=50"]
    assert text(*pushed, "--frequency-penalty", "60") != text(*pushed)
    assert text(*pushed, "--presence-penalty", "60").count("b") < text(*pushed).count("b")
    assert text("--repetition-penalty", "9") != text()


def test_every_invalid_sampling_flag_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--top-k", "-1", "--repetition-penalty", "0", "--stop", "", "--logit-bias", "b=1"]
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "generate", "tiny-llama3", "Hi", *flags])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    for problem in ("--top-k is -1", "--repetition-penalty is 0.0", "--stop is empty", "--logit-bias is 'b=1'"):
        assert problem in error


def test_streaming_never_shows_incomplete_characters(monkeypatch: pytest.MonkeyPatch, random_model: Path) -> None:
    _, tokenizer = load(random_model)
    text = "naïve 🦙 日本"
    shown: list[str] = []

    class ByteEngine:
        """An engine that generates `text` one byte at a time."""

        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, requests: list[Request]) -> object:
            [request] = requests
            tokens = tokenizer.encode(text)
            for token in tokens:
                assert request.on_token is not None
                request.on_token(token)
                shown.append(sys.stdout.getvalue() if hasattr(sys.stdout, "getvalue") else "")
            yield Done(request=request, value=Written(tokens=tuple(tokens), reason="limit"))

    monkeypatch.setattr("mlx_suite.engine.Engine", ByteEngine)
    result = run(random_model, "x")
    assert result.stdout == text + "\n"
    assert result.stderr == "[truncated by --max-tokens]\n"
    assert len(shown) == len(text.encode())
    assert "\ufffd" not in "".join(shown)


def test_the_prompt_is_an_argument_or_read_from_a_pipe(random_model: Path) -> None:
    def tokens(*arguments: str, stdin: str | None = None) -> int:
        facts = run(random_model, *arguments, "--max-tokens", "1", "--json", stdin=stdin)
        return int(json.loads(facts.stdout)["prompt_tokens"])

    count = tokens("Why\nnot?")
    assert tokens("-", stdin="Why\nnot?\n") == count
    assert tokens(stdin="Why\nnot?\n") == count
    assert tokens("Why?", stdin="Why\nnot?\n") == count - len("\nnot")


def test_raw_text_is_continued_without_the_chat_template(random_model: Path) -> None:
    flags = ["--temperature", "1", "--seed", "3", "--max-tokens", "30", "--json"]
    facts = json.loads(run(random_model, "abc", "--raw", *flags).stdout)

    assert facts["prompt_tokens"] == 1 + len("abc")  # with BOS
    assert facts["text"] != json.loads(run(random_model, "abc", *flags).stdout)["text"]


def test_verbose_prints_statistics_on_stderr(random_model: Path) -> None:
    flags = ["--temperature", "0.9", "--top-p", "0.95", "--seed", "3", "--max-tokens", "2", "--verbose"]
    result = run(random_model, "Why?", *flags, "--no-lookup")
    lines = result.stderr.splitlines()

    assert [line.split()[0] for line in lines] == ["prompt", "response", "speed", "sampling"]
    assert lines[1] == "response  2 tokens, truncated by --max-tokens"
    assert lines[2].startswith("speed     first token after ")
    assert lines[3] == "sampling  temperature 0.9, top-p 0.95, min-p 0, seed 3"


def test_a_system_prompt_works_with_every_template(random_model: Path, tmp_path: Path) -> None:
    flags = ["--max-tokens", "1", "--json", "--verbose"]
    plain = json.loads(run(random_model, "Why?", *flags).stdout)["prompt_tokens"]
    result = run(random_model, "Why?", "--system", "Be brief.", *flags)
    assert json.loads(result.stdout)["prompt_tokens"] > plain + len("Be brief.")
    assert "note" not in result.stderr

    for file in random_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    refusing = GEMMA2_TEMPLATE.replace("<start_of_turn>", "<|start_header_id|>")
    (tmp_path / "chat_template.jinja").write_text(refusing.replace("<end_of_turn>", "<|eot_id|>"))
    plain = json.loads(run(tmp_path, "Why?", *flags).stdout)["prompt_tokens"]
    result = run(tmp_path, "Why?", "--system", "Be brief.", *flags)
    assert json.loads(result.stdout)["prompt_tokens"] == plain + len("Be brief.\n\n")
    assert "note      the chat template has no system role" in result.stderr


def test_all_invalid_flags_are_reported_in_one_error(
    random_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--max-tokens", "0", "--temperature", "-1", "--top-p", "0", "--min-p", "2", "--raw", "--system", "x"]
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "generate", str(random_model), "Why?", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    assert capsys.readouterr().err == (
        "error: 5 flags are invalid\n"
        "       - --max-tokens is 0: expected at least 1\n"
        "       - --temperature is -1.0: expected at least 0\n"
        "       - --top-p is 0.0: expected above 0 and at most 1\n"
        "       - --min-p is 2.0: expected between 0 and 1\n"
        "       - --system with --raw: a system prompt needs the chat template, which --raw turns off\n"
        "fix:   see mlx-suite generate --help for the allowed values\n"
    )


@pytest.mark.parametrize(
    ("arguments", "stdin", "problem"),
    [
        (["-"], "", "The prompt is empty"),
        ([" \n"], None, "The prompt is empty"),
        (["-"], b"\xff", "The prompt is not UTF-8 text"),
        (["a" * 300], None, "The prompt has 3.. tokens; the context of prompt and response is 256"),
    ],
)
def test_invalid_prompts_are_refused(
    random_model: Path, arguments: list[str], stdin: str | bytes | None, problem: str
) -> None:
    from mlx_suite.runtime.errors import UserError

    with pytest.raises(UserError, match=problem):
        run(random_model, *arguments, stdin=stdin)


def test_a_missing_prompt_at_a_terminal_is_refused(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_suite.runtime.errors import UserError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(UserError, match="There is no prompt"):
        command._read_prompt(None)


def test_ctrl_c_keeps_the_text_so_far(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = command._StreamedResponse._show
    shown: list[str] = []

    def interrupted(self: command._StreamedResponse, text: str) -> None:
        show(self, text)
        shown.append(text)
        if len(shown) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(command._StreamedResponse, "_show", interrupted)
    written, tokenizer = expected(random_model, "Why?", 1)
    result = run(random_model, "Why?", "--temperature", "1", "--seed", "1", "--max-tokens", "40")
    assert result.exit_code == 130
    assert result.stdout == tokenizer.decode(written.tokens[:4]) + "\n"


def test_a_closed_pipe_is_not_an_error(random_model: Path) -> None:
    command = [sys.executable, "-c", START, "generate", str(random_model), "Why?", "--temperature", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 141


def test_help_has_an_example_and_every_flag() -> None:
    text = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(app, ["generate", "--help"]).stdout.split())

    assert 'mlx-suite generate tiny-llama3 "What is 12 plus 30?"' in text
    for flag in ("--system", "--max-tokens", "--temperature", "--top-p", "--min-p", "--seed", "--raw", "--json"):
        assert flag in text
