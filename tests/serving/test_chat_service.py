"""Chats on a service that answers by script: the generation that a request becomes, and the events of its answer."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlx_suite.engine import Sampling
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.chat import ChatEvent, ChatMessage, ChatRequest, ReasoningDelta, TextDelta, Tool, ToolCallDelta
from mlx_suite.serving.chat_service import ChatStream, chat_prompt, start_chat
from mlx_suite.serving.generation import Delta, Ended, Event, Generation, Started, Token
from mlx_suite.serving.service import QueueFull, ServedModel, UnknownModel
from tests.serving.tool_templates import LEADING, TAGGED, THINKING, chat_model

HI = ChatMessage(role="user", content="Hi")
TIME = Tool(name="time")
STARTED = Started(choice=0, prompt_tokens=9, cached_tokens=0)
ENDED = Ended(choice=0, reason="stop", prompt_tokens=9, cached_tokens=0, tokens=3)
EOM, EOT, PYTHON = (chat_model().tokenizer.id_of(name) for name in ("<|eom_id|>", "<|eot_id|>", "<|python_tag|>"))


@dataclass
class Scripted:
    """A service with one model that answers every generation with the same events. Implements `Service`."""

    template: str | None = None
    events: Sequence[Event] = ()
    refusal: Exception | None = None
    generations: list[Generation] = field(default_factory=list)
    cancelled: bool = False

    def model(self, name: str) -> ServedModel:
        if name != "m":
            raise UnknownModel(f"no model is served as {name!r}")
        return ServedModel(name="m", chat=chat_model(self.template), base="m", created=0)

    async def start(self, generation: Generation) -> "Scripted":
        if self.refusal is not None:
            raise self.refusal
        self.generations.append(generation)
        return self

    async def __aiter__(self) -> Any:
        for event in self.events:
            yield event

    def cancel(self) -> None:
        self.cancelled = True


def request(**changes: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": (HI,), **changes})


def started(service: Scripted, **changes: Any) -> Generation:
    """The generation that a request becomes."""
    asyncio.run(start_chat(service, request(**changes)))  # type: ignore[arg-type]
    return service.generations[-1]


def answer(service: Scripted, **changes: Any) -> list[ChatEvent]:
    async def read() -> list[ChatEvent]:
        return [event async for event in await start_chat(service, request(**changes))]  # type: ignore[arg-type]

    return asyncio.run(read())


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"items": inner}
    return inner


def delta(text: str, *tokens: int, choice: int = 0) -> Delta:
    return Delta(choice=choice, text=text, tokens=tuple(Token(id=index) for index in tokens))


def test_a_plain_chat_becomes_a_generation_with_the_request_s_settings() -> None:
    made = started(
        Scripted(),
        limit=7,
        seed=3,
        choices=2,
        stop_texts=("x",),
        alternatives=1,
        seconds=2.0,
        sampling=Sampling(top_k=5),
    )
    served = Scripted().model("m")
    assert made.prompt == chat_prompt(served, request())
    assert (made.model, made.limit, made.seed, made.choices, made.seconds) == ("m", 7, 3, 2, 2.0)
    assert (made.stop_texts, made.alternatives, made.sampling.top_k) == (("x",), 1, 5)
    assert made.constraint is None and not made.special


def test_a_request_s_variables_reach_its_template_and_no_other() -> None:
    quiet = "{% if enable_thinking is defined and not enable_thinking %}No thoughts. {% endif %}"
    service = Scripted(TAGGED.replace("{{- bos_token }}", "{{- bos_token }}" + quiet))
    written = chat_model().tokenizer.decode
    told = started(service, variables={"enable_thinking": False})
    assert "No thoughts." in written(told.prompt)
    assert "No thoughts." in written(started(service, variables={"enable_thinking": False}, tools=(TIME,)).prompt)
    assert "No thoughts." not in written(started(service).prompt)


def test_a_variable_that_every_conversation_sets_is_refused() -> None:
    with pytest.raises(UserError, match="chat_template_kwargs sets messages"):
        started(Scripted(), variables={"messages": []})


def test_special_tokens_are_never_sampled_but_stop_tokens_are() -> None:
    made = started(Scripted(), sampling=Sampling(banned=(7,)))
    chat = chat_model()
    assert made.stop == set(chat.response_stops) and EOT in made.stop
    assert set(made.sampling.banned) == {7} | (chat.tokenizer.special_ids - made.stop)


def test_tools_in_the_form_of_llama_may_begin_and_end_with_their_own_tokens() -> None:
    made = started(Scripted(LEADING), tools=(TIME,))
    assert EOM in made.stop and PYTHON not in made.sampling.banned
    assert made.special and made.constraint is not None
    without = started(Scripted(LEADING))
    assert PYTHON in without.sampling.banned and not without.special


def test_text_and_calls_are_told_apart_in_the_answer() -> None:
    events = [STARTED, delta("Let me see. <tool", 1), delta('_call>\n{"name": "time", ', 2)]
    events += [delta('"arguments": {}}\n</tool_call>', 3), ENDED]
    first, text, call, last = answer(Scripted(TAGGED, events), tools=(TIME,))
    assert (first, last) == (STARTED, ENDED)
    assert text == TextDelta(choice=0, text="Let me see.", tokens=(Token(id=1),))
    assert isinstance(call, ToolCallDelta)
    assert (call.index, call.call.name, call.call.arguments) == (0, "time", "{}")
    assert call.tokens == (Token(id=2), Token(id=3))


def test_calls_are_text_if_tools_are_not_to_be_called() -> None:
    text = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
    told = answer(Scripted(TAGGED, [delta(text), ENDED]), tools=(TIME,), tool_choice="none")
    assert told == [TextDelta(choice=0, text=text), ENDED]


def test_a_thought_that_the_prompt_opens_is_reasoning() -> None:
    told = answer(Scripted(THINKING, [delta("Hm.\n</thi"), delta("nk>\n\nYes."), ENDED]))
    assert told == [ReasoningDelta(choice=0, text="Hm."), TextDelta(choice=0, text="Yes."), ENDED]


def test_each_choice_is_read_apart() -> None:
    events = [delta("<thi", choice=0), delta("Yes", choice=1), delta("nk>No", choice=0)]
    told = answer(Scripted(None, events), choices=2)
    assert told == [TextDelta(choice=1, text="Yes"), ReasoningDelta(choice=0, text="No")]


def test_cancelling_a_chat_cancels_the_generation() -> None:
    service = Scripted()
    stream = asyncio.run(start_chat(service, request()))  # type: ignore[arg-type]
    assert isinstance(stream, ChatStream)
    stream.cancel()
    assert service.cancelled


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"sampling": Sampling(logit_bias=((-1, 1.0), (5, 1.0), (2048, 1.0)))}, "ids outside the vocabulary of 2,048"),
        ({"tool_choice": "required"}, "a tool call is required, but there are no tools"),
        ({"schema": {"type": "objekt"}}, "Invalid type: objekt"),
        ({"messages": ()}, "there are no messages"),
        ({"messages": (ChatMessage(role="<|eot_id|>", content="Hi"),)}, "unknown role '<|eot_id|>'"),
        ({"tools": (Tool(name="deep", parameters=nested(5000)),)}, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_before_it_is_queued(changes: dict[str, Any], what: str) -> None:
    service = Scripted()
    with pytest.raises(UserError, match=re.escape(what)):
        started(service, **changes)
    assert service.generations == []


def test_refusals_of_the_service_are_passed_on() -> None:
    with pytest.raises(UnknownModel):
        started(Scripted(), model="other")
    with pytest.raises(QueueFull):
        started(Scripted(refusal=QueueFull("full")))


def test_a_model_without_a_chat_template_says_so() -> None:
    from dataclasses import replace

    served = replace(Scripted().model("m"), chat=replace(chat_model(), template=None))
    with pytest.raises(UserError, match="no chat template"):
        chat_prompt(served, request())
