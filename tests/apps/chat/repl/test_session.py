"""A conversation with a model: prompts, reuse of the KV cache, stopping, and what happens at the end of the context."""

from pathlib import Path

import pytest

from mlx_suite.adapters.attach import AdapterConfig, save_adapter
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling, Written
from mlx_suite.loading import load
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message, encode_chat
from mlx_suite_apps.chat.repl.session import ContextFull, Session
from mlx_suite_apps.chat.settings import ResponseSettings
from mlx_suite_apps.cli.checkpoint import Checkpoint, open_checkpoint
from tests.apps.chat.repl.sessions import new_session, opened, record_prompts

TURNS = ("What is 12 plus 30?", "Which month comes before May?", "And before that?", "Name a fruit.")


def template_ids(name: str, messages: list[Message]) -> tuple[int, ...]:
    checkpoint = opened(name)
    return tuple(encode_chat(checkpoint.tokenizer, checkpoint.template, messages, add_generation_prompt=True).ids)


def generated_alone(session: Session, prompt: tuple[int, ...]) -> str:
    """The greedy response of an engine that has seen nothing before."""
    stop = opened(session.model).response_ends

    def program() -> Program:
        yield Given(prompt)
        return (yield Sample(limit=1024, stop=stop, sampling=Sampling(temperature=0.0)))

    [done] = Engine(session.chat.model, slots=1, context=session.context).run([Request(program=program())])
    written: Written = done.result
    return session.chat.tokenizer.decode(written.tokens)


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_every_prompt_is_the_template_over_the_whole_history(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = record_prompts(monkeypatch)
    session = new_session(name, system="Answer in English.")
    bos = opened(name).tokenizer.bos_id
    lead = {
        "tiny-llama3": [Message("system", "Answer in English.")],
        "tiny-gemma2": [Message("user", "Answer in English."), Message("assistant", "Understood.")],
    }[name]

    history = list(lead)
    for number, text in enumerate(TURNS):
        history.append(Message("user", text))
        answer = session.ask(text)
        history.append(Message("assistant", answer.text))
        assert prompts[number] == template_ids(name, history[:-1])
        assert prompts[number].count(bos) == 1
        assert prompts[number][0] == bos

    assert [message.role for message in session.messages] == ["user", "assistant"] * 4


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_earlier_turns_are_not_prefilled_again_and_the_text_stays_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = record_prompts(monkeypatch)
    session = new_session(name)
    sizes = []
    for number, text in enumerate(TURNS):
        answer = session.ask(text)
        assert answer.text == generated_alone(session, prompts[number])
        assert answer.prompt_tokens == answer.prefilled + answer.reused == len(prompts[number])
        sizes.append(answer.prompt_tokens + answer.tokens)
        if number:
            assert answer.reused >= sizes[number - 1] - 1  # the stop token may not have been fed
    assert sizes[-1] > 64  # Gemma's window of 32 has wrapped


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_a_stopped_response_stays_in_the_conversation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = record_prompts(monkeypatch)
    session = new_session(name)
    session.ask(TURNS[0])
    shown: list[str] = []

    def on_text(text: str) -> None:
        shown.append(text)
        if len(shown) == 3:
            session.stop()

    answer = session.ask(TURNS[1], on_text)
    after = session.ask(TURNS[2])

    assert answer.reason == "stopped"
    assert answer.text == "".join(shown) == "The month before"
    assert session.messages[3] == Message("assistant", "The month before", trained=False)
    assert prompts[2] == session.prompt(session.messages[:5])
    assert after.reused >= answer.prompt_tokens + 2
    assert after.text == generated_alone(session, prompts[2])


def test_a_response_stopped_before_its_first_token_leaves_the_conversation_as_it_was() -> None:
    session = new_session("tiny-llama3")
    session.ask(TURNS[0])
    before = session.messages
    run = session._engine.run  # type: ignore[union-attr]

    def stopping(requests: list[Request]) -> object:
        session.stop()
        return run(requests)

    session._engine.run = stopping  # type: ignore[union-attr, assignment, method-assign]
    for generate in (lambda: session.ask("More."), session.retry, lambda: session.edit("Else.")):
        answer = generate()
        assert (answer.text, answer.reason, answer.tokens) == ("", "stopped", 0)
        assert session.messages == before


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers() -> None:
    session = new_session("tiny-llama3", max_tokens=100)
    long = "one two three four five six seven eight nine ten " * 8
    session.ask(TURNS[0])
    with pytest.raises(ContextFull) as refused:
        for _ in range(9):
            session.ask(long)
    before = session.messages
    size = len(session.prompt((*before, Message("user", long))))
    assert size >= 512
    assert refused.value.what == f"The prompt has {size:,} tokens; the context of prompt and response is 512"

    with pytest.raises(ContextFull):
        session.ask(long)
    assert session.messages == before

    dropped = session.drop(then=long)
    assert session.messages == before[2 * dropped.exchanges :]
    assert len(session.prompt((*session.messages, Message("user", long)))) + 100 <= 512
    kept = before[2 * (dropped.exchanges - 1) :]
    assert len(session.prompt((*kept, Message("user", long)))) + 100 > 512
    assert session.ask(long).reason == "stop"

    with pytest.raises(ContextFull):
        session.drop(then=long * 9)
    with pytest.raises(UserError, match="exchanges, not 99"):
        session.drop(99)


def test_turns_can_be_taken_back_answered_again_and_changed() -> None:
    session = new_session("tiny-llama3", temperature=1.0, seed=3)
    first = session.ask(TURNS[3])
    second = session.ask(TURNS[1])
    texts = [second.text, session.retry().text, session.retry().text]
    assert len(set(texts)) > 1  # another random number for each
    assert [message.content for message in session.messages] == [TURNS[3], first.text, TURNS[1], texts[2]]

    again = new_session("tiny-llama3", temperature=1.0, seed=3)
    assert again.ask(TURNS[3]).text == first.text
    assert [again.ask(TURNS[1]).text, again.retry().text, again.retry().text] == texts

    changed = session.edit("Name a month.")
    assert [message.content for message in session.messages] == [TURNS[3], first.text, "Name a month.", changed.text]
    assert session.undo() == "Name a month."
    assert session.undo() == TURNS[3]
    with pytest.raises(UserError, match="The conversation is empty"):
        session.undo()


def test_the_status_names_the_model_and_the_tokens_of_the_conversation() -> None:
    session = new_session("tiny-gemma2", system="Be kind.")
    assert session.status() == "tiny-gemma2  ·  0 of 512 tokens  ·  /help"
    answer = session.ask(TURNS[1])
    # The template ends a response with its stop token, which was sampled, and a newline.
    assert session.used() == answer.prompt_tokens + answer.tokens + 1
    session.undo()
    assert session.status() == "tiny-gemma2  ·  0 of 512 tokens  ·  /help"


def test_a_conversation_continues_with_another_model_and_survives_one_that_cannot_be_loaded(
    random_model: Path,
) -> None:
    session = new_session("tiny-llama3", max_tokens=20)
    answer = session.ask(TURNS[1])

    with pytest.raises(UserError, match="tiny-llama4"):
        session.switch("tiny-llama4")
    assert (session.model, session.chat.name) == ("tiny-llama3", "tiny-llama3")
    assert session.ask(TURNS[2]).reused >= answer.prompt_tokens + answer.tokens - 1

    session.switch(str(random_model))
    assert session.ask("abc").reused == 0
    assert len(session.messages) == 6


def test_without_a_model_every_turn_says_how_to_load_one() -> None:
    names = iter(["tiny-llama3", "no-such-model", "no-such-model", "tiny-llama3"])
    session = Session(lambda name, adapter: opened(next(names)), "tiny-llama3")
    with pytest.raises(UserError, match="no-such-model"):
        session.switch("tiny-llama4")
    assert session.status() == "no model"
    with pytest.raises(UserError, match="No model is loaded"):
        session.ask("Hi")
    session.switch("tiny-llama3")
    assert session.ask(TURNS[1]).text == "The month before May is April."


def test_an_adapter_never_reuses_the_kv_cache_of_the_model_without_it(random_model: Path, tmp_path: Path) -> None:
    model, _ = load(random_model)
    config = AdapterConfig(rank=2, modules=("q_proj",))
    add_adapters(model, config)
    save_adapter(tmp_path / "adapter", model, config, base="random")
    opens: list[Path | None] = []

    def opener(name: str, adapter: Path | None) -> Checkpoint:
        opens.append(adapter)
        return open_checkpoint(name, quiet=True, adapter=adapter)

    session = Session(opener, str(random_model), settings=ResponseSettings(max_tokens=5))
    first = session.ask("abc")
    session.undo()
    session.switch(str(random_model), tmp_path / "adapter")
    assert session.ask("abc").reused == 0
    session.undo()
    session.switch(str(random_model))
    assert session.ask("abc").reused == first.prompt_tokens - 1
    session.undo()
    save_adapter(tmp_path / "adapter", model, config, base="random")  # a run that goes on
    session.switch(str(random_model), tmp_path / "adapter")
    assert session.ask("abc").reused == 0
    assert opens == [None, tmp_path / "adapter", None, tmp_path / "adapter"]
