"""Responses are written by the server, whoever looks on, and saved as far as the page says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.chat import ReasoningDelta, TextDelta
from mlx_suite.serving.service import QueueFull
from mlx_suite_apps.chat.page import replies
from mlx_suite_apps.chat.page.events import Hub
from mlx_suite_apps.chat.page.history import Setup
from mlx_suite_apps.chat.page.live import Live
from mlx_suite_apps.chat.page.replies import Replies
from mlx_suite_apps.chat.page.sampling import SamplingSettings
from mlx_suite_apps.chat.store.conversation import StoredMessage
from mlx_suite_apps.chat.store.reply import Reply
from mlx_suite_apps.chat.store.store import Store
from tests.apps.chat.page.talking_service import TEXTS, TalkingService

Story = Callable[[Store, Replies], Awaitable[None]]


def run(tmp_path: Path, story: Story) -> None:
    """A story with a store that saves at once and a service without a model."""
    with Store(tmp_path / "chat.sqlite3", save_seconds=0) as store:
        service: Any = TalkingService()
        asyncio.run(story(store, Replies(service, store, Hub())))


def asked(store: Store, text: str) -> tuple[StoredMessage, ...]:
    """The path of a conversation with one user turn."""
    conversation = store.create()
    store.add(conversation.id, None, "user", text)
    return store.path(conversation.id)


async def until(condition: Callable[[], object]) -> None:
    """Wait, up to ten seconds, for a condition."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def written(store: Store, responses: Replies, message: int) -> StoredMessage:
    """The message, when its response has ended."""
    await until(lambda: store.message(message).state != "writing")
    return store.message(message)


def test_a_response_is_complete_although_nobody_listens(tmp_path: Path) -> None:
    async def story(store: Store, responses: Replies) -> None:
        begun = await responses.begin(Setup(settings=SamplingSettings(seed=5)), asked(store, "Hello"))
        done = await written(store, responses, begun.id)
        assert (done.state, done.content) == ("complete", "You said: Hello")
        assert done.facts == {
            "tokens_per_second": 98.7,
            "model": "tiny-llama3",
            "adapter": None,
            "context": 2000,
            "seed": 5,
            "settings": {"seed": 5},
            "prompt_tokens": 11,
            "cached_tokens": 5,
            "tokens": 3,
            "finish_reason": "stop",
            "ids": [1, 2, 3],
        }

    run(tmp_path, story)


def test_what_is_reported_as_saved_can_be_read_by_another_program(tmp_path: Path) -> None:
    TEXTS["hold this"] = "Saved before the end of it."

    async def story(store: Store, responses: Replies) -> None:
        path = asked(store, "hold this")
        begun = await responses.begin(Setup(), path)

        def live() -> Live:
            return next(responses.watched([path[0].conversation]))

        await until(lambda: live().saved == len("Saved before the"))
        with Store(store.file) as other:
            assert other.message(begun.id).content == "Saved before the"
        assert live().progress()["saved"] == live().progress()["length"] == 16
        await responses.stop(begun.id)
        assert store.message(begun.id).state == "stopped"
        assert store.message(begun.id).facts["finish_reason"] == "cancelled"

    run(tmp_path, story)


def test_a_continued_response_keeps_its_text_and_counts_its_continuations(tmp_path: Path) -> None:
    TEXTS["hold half"] = "First half, second half."

    async def story(store: Store, responses: Replies) -> None:
        path = asked(store, "hold half")
        begun = await responses.begin(Setup(), path)
        await until(lambda: next(responses.watched([path[0].conversation])).text == "First half,")
        await responses.stop(begun.id)
        await responses.resume(Setup(), (*path, store.message(begun.id)))
        done = await written(store, responses, begun.id)
        assert (done.state, done.content) == ("complete", "First half, second half.")
        assert done.facts["continued"] == 1

    run(tmp_path, story)


def test_a_response_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    async def story(store: Store, responses: Replies) -> None:
        path = asked(store, "this is full")
        with pytest.raises(QueueFull):
            await responses.begin(Setup(), path)
        assert store.path(path[0].conversation) == path

    run(tmp_path, story)


def test_a_failure_of_the_engine_is_stored_with_the_text_so_far(tmp_path: Path) -> None:
    TEXTS["and fail"] = "Up to here"

    async def story(store: Store, responses: Replies) -> None:
        begun = await responses.begin(Setup(), asked(store, "and fail"))
        done = await written(store, responses, begun.id)
        assert (done.state, done.content) == ("stopped", "Up to here")
        assert done.facts["error"]["code"] == "engine_failure"
        assert done.facts["error"]["what"] == "out of memory on the device"

    run(tmp_path, story)


def test_a_full_disk_is_reported_and_the_text_is_saved_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TEXTS["hold the disk"] = "Not lost, only late."
    monkeypatch.setattr(replies, "SAVE_PAUSE", 0.01)
    is_full = True
    save = Reply.save

    def saving(reply: Reply) -> int:
        if is_full:
            raise UserError("The disk is full")
        return save(reply)

    monkeypatch.setattr(Reply, "save", saving)

    async def story(store: Store, responses: Replies) -> None:
        nonlocal is_full
        path = asked(store, "hold the disk")
        begun = await responses.begin(Setup(), path)
        live = next(responses.watched([path[0].conversation]))
        await until(lambda: live.problem and live.html)
        assert (live.problem, live.saved, live.html) == ("The disk is full", 0, "<p>Not lost,</p>\n")
        is_full = False
        await responses.stop(begun.id)
        assert store.message(begun.id).content == "Not lost,"

    run(tmp_path, story)


def test_all_responses_are_stopped_and_saved_at_the_end_of_the_server(tmp_path: Path) -> None:
    TEXTS["hold one"], TEXTS["hold two"] = "One and more", "Two and more"

    async def story(store: Store, responses: Replies) -> None:
        begun = [await responses.begin(Setup(), asked(store, text)) for text in ("hold one", "hold two")]
        await responses.stop_all()
        assert [store.message(each.id).state for each in begun] == ["stopped", "stopped"]
        assert not responses.is_writing(begun[0].conversation)

    run(tmp_path, story)


def test_reasoning_is_kept_beside_the_text() -> None:
    stream: Any = None
    live = Live(conversation=1, message=2, facts={}, stream=stream, text="")
    live.take(ReasoningDelta(choice=0, text="Two and two "))
    live.take(ReasoningDelta(choice=0, text="is four."))
    live.take(TextDelta(choice=0, text="Four."))
    assert (live.text, live.reasoning) == ("Four.", "Two and two is four.")
    assert live.progress()["reasoning"] == live.result()["reasoning"] == "Two and two is four."
