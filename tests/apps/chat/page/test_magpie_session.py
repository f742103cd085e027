"""Magpie sessions on the real engine: rows are watched, judged by hand, stored and exported."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.worker import Limits
from mlx_suite_apps.chat.page.magpie_feed import Event
from mlx_suite_apps.chat.page.magpie_file import SessionSettings
from mlx_suite_apps.chat.page.magpie_row import DECIDED, RowState
from mlx_suite_apps.chat.page.magpie_session import MagpieSession
from mlx_suite_apps.chat.page.magpie_sessions import MagpieSessions, UnknownSession
from tests.serving.conftest import make_service

NAME = "tiny-llama3"
SETTINGS = SessionSettings(model=NAME, seed=7, max_answer=12)


@pytest.fixture(scope="module")
def service() -> Iterator[EngineService]:
    made = make_service(NAME)
    yield made
    made.worker.close()


def watch(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 120))


async def until_idle(session: MagpieSession) -> list[Event]:
    """All events up to the end of the rows."""
    events = []
    async for name, data in session.events():
        events.append((name, data))
        if name in ("session", "snapshot") and not (data if name == "session" else data["session"])["running"]:
            break
    return events


async def asked(service: EngineService, folder: Path, rows: int = 16) -> MagpieSession:
    session = MagpieSessions(service, folder).create(SETTINGS)
    await session.ask(rows)
    await until_idle(session)
    return session


def test_texts_arrive_in_pieces_and_add_up_to_the_decided_rows(service: EngineService, tmp_path: Path) -> None:
    async def story() -> tuple[MagpieSession, list[Event]]:
        session = MagpieSessions(service, tmp_path).create(SETTINGS)
        await session.ask(12)
        return session, await until_idle(session)

    session, events = watch(story)
    assert [name for name, _ in events][0] == "snapshot"
    shown: dict[int, dict[str, Any]] = {row["index"]: dict(row) for row in events[0][1]["rows"]}
    for name, data in events:
        if name == "row":
            shown[data["index"]] = dict(data)
        elif name == "text":
            shown[data["index"]][data["part"]] += data["text"]
    assert sorted(shown) == list(range(12))
    assert shown == {row["index"]: row for row in session.snapshot()["rows"]}
    assert {row["state"] for row in shown.values()} == {"accepted", "rejected"}
    assert any(name == "text" and data["part"] == "instruction" for name, data in events)
    assert any(name == "text" and data["part"] == "response" for name, data in events)


def test_a_rejected_row_says_why(service: EngineService, tmp_path: Path) -> None:
    session = watch(lambda: asked(service, tmp_path))
    rejected = [row for row in session.snapshot()["rows"] if row["state"] == "rejected"]
    assert rejected
    assert all(row["explanation"] and row["stage"] in ("ask", "screen", "answer", "grade") for row in rejected)
    assert not any(row["kept"] for row in rejected)


def test_a_verdict_overrides_the_decision_and_can_be_taken_back(service: EngineService, tmp_path: Path) -> None:
    session = watch(lambda: asked(service, tmp_path))
    accepted = next(row.index for row in session.rows.values() if row.state == "accepted")
    assert not session.judge(accepted, "reject").is_kept
    assert accepted not in [row.index for row in session.kept()]
    assert session.judge(accepted, None).is_kept


def test_a_row_without_a_complete_response_cannot_be_kept(service: EngineService, tmp_path: Path) -> None:
    session = watch(lambda: asked(service, tmp_path))
    cut = next(row for row in session.rows.values() if not row.complete)
    with pytest.raises(UserError, match=f"Row {cut.index} has no complete response"):
        session.judge(cut.index, "keep")


def test_a_complete_row_that_was_rejected_can_be_kept(service: EngineService, tmp_path: Path) -> None:
    session = watch(lambda: asked(service, tmp_path))
    row = next(row for row in session.rows.values() if row.complete)
    session.judge(row.index, "reject")
    assert session.judge(row.index, "keep").is_kept


def test_a_session_is_read_from_its_file_with_all_verdicts(service: EngineService, tmp_path: Path) -> None:
    async def story() -> tuple[dict[str, Any], dict[str, Any]]:
        session = await asked(service, tmp_path)
        first = next(row.index for row in session.rows.values() if row.complete)
        session.judge(first, "reject")
        again = MagpieSessions(service, tmp_path)  # the file is still open in the first, as after a kill
        assert again.names() == [session.name]
        return session.snapshot(), (await again.session(session.name)).snapshot()

    before, after = watch(story)
    assert after == before


def test_a_session_that_was_read_can_be_continued(service: EngineService, tmp_path: Path) -> None:
    async def story() -> MagpieSession:
        session = await asked(service, tmp_path, rows=4)
        await session.close()
        again = await MagpieSessions(service, tmp_path).session(session.name)
        await again.ask(5)
        await until_idle(again)
        return again

    session = watch(story)
    assert sorted(session.rows) == list(range(9))
    assert session.target == 9
    assert all(row.state in DECIDED for row in session.rows.values())


def test_a_stopped_session_asks_the_dropped_rows_again(service: EngineService, tmp_path: Path) -> None:
    async def story() -> tuple[list[RowState], list[RowState]]:
        session = MagpieSessions(service, tmp_path).create(SETTINGS)
        await session.ask(8)
        session.stop()
        while session.rows and any(row.state not in (*DECIDED, "stopped") for row in session.rows.values()):
            await asyncio.sleep(0.01)
        stopped = [row.state for row in session.rows.values()]
        await session.ask(0)
        await until_idle(session)
        return stopped, [row.state for row in session.rows.values()]

    stopped, finished = watch(story)
    assert "stopped" in stopped
    assert len(finished) == 8 and set(finished) <= set(DECIDED)


def test_a_category_steers_and_filters(service: EngineService, tmp_path: Path) -> None:
    async def story() -> MagpieSession:
        sessions = MagpieSessions(service, tmp_path)
        assert "Math" in sessions.categories(NAME)
        session = sessions.create(SessionSettings(model=NAME, category="Math", max_answer=60))
        await session.ask(10)
        await until_idle(session)
        return session

    session = watch(story)
    labels = [row["tags"]["category"] for row in session.snapshot()["rows"] if row["kept"]]
    assert labels and set(labels) == {"Math"}


def test_kept_rows_are_exported_as_in_a_run_folder(service: EngineService, tmp_path: Path) -> None:
    async def story() -> tuple[MagpieSession, list[dict[str, Any]]]:
        session = await asked(service, tmp_path)
        return session, await session.records()

    session, records = watch(story)
    assert [record["index"] for record in records] == [row.index for row in session.kept()]
    assert [record["messages"] for record in records] == [row.messages() for row in session.kept()]
    assert all(record["answer_reason"] == "stop" and record["model"] == NAME for record in records)
    assert "rejection" not in json.dumps(records)


def test_an_unknown_session_category_or_model_is_an_error(service: EngineService, tmp_path: Path) -> None:
    sessions = MagpieSessions(service, tmp_path)
    with pytest.raises(UnknownSession, match="no Magpie session '../elsewhere'"):
        asyncio.run(sessions.session("../elsewhere"))
    with pytest.raises(UserError, match="does not tag a category 'Gardening'"):
        sessions.create(SessionSettings(model=NAME, category="Gardening"))
    with pytest.raises(UserError, match="No model called 'other'"):
        sessions.create(SessionSettings(model="other"))
    assert sessions.names() == []


def test_more_rows_than_a_page_can_show_are_refused(service: EngineService, tmp_path: Path) -> None:
    async def story() -> None:
        await MagpieSessions(service, tmp_path).create(SETTINGS).ask(5001)

    with pytest.raises(UserError, match="at most 5,000"):
        watch(story)


def test_rows_that_do_not_fit_in_memory_stop_the_session_with_the_reason(tmp_path: Path) -> None:
    small = make_service(NAME, limits=Limits(kv_bytes=1000))

    async def story() -> MagpieSession:
        session = MagpieSessions(small, tmp_path).create(SETTINGS)
        await session.ask(3)
        return session

    try:
        session = watch(story)
    finally:
        small.worker.close()
    assert session.problem is not None and session.problem.startswith("The KV cache of this request needs")
    assert (session.state()["running"], session.rows) == (False, {})


def test_rows_left_by_a_server_that_was_killed_are_asked_by_the_next(service: EngineService, tmp_path: Path) -> None:
    async def story() -> tuple[int, MagpieSession]:
        session = MagpieSessions(service, tmp_path).create(SETTINGS)
        await session.ask(10)
        while not any(row.state in DECIDED for row in session.rows.values()):
            await asyncio.sleep(0.01)
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(tmp_path / f"{session.name}.jsonl", copy)  # what a kill at this moment leaves
        await session.close()
        again = await MagpieSessions(service, copy).session(session.name)
        left = len(again.rows)
        await again.ask(0)
        await until_idle(again)
        return left, again

    left, again = watch(story)
    assert 0 < left < 10
    assert sorted(again.rows) == list(range(10))
    assert all(row.state in DECIDED for row in again.rows.values())
