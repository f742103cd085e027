"""Conversations: the tree of messages, replies that are saved while they are written, and search."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.chat.store.conversation import Conversation, NotFound, StoredMessage
from mlx_suite_apps.chat.store.store import Store


def ticking() -> Callable[[], datetime]:
    """A clock that is one minute later at every look, from noon on."""
    times = iter(range(10_000))
    return lambda: datetime(2026, 1, 31, 11, 59, tzinfo=UTC) + timedelta(minutes=1 + next(times))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "chat.sqlite3", clock=ticking(), save_seconds=0) as store:
        yield store


def contents(path: tuple[StoredMessage, ...]) -> list[str]:
    return [message.content for message in path]


def capitals(store: Store) -> tuple[int, StoredMessage, StoredMessage]:
    """A conversation with one instruction and one response."""
    chat = store.create("Capitals", model="tiny-llama3", system="Be brief.", sampling={"temperature": 0.7}).id
    instruction = store.add(chat, None, "user", "Capital of Peru?")
    return chat, instruction, store.add(chat, instruction.id, "assistant", "Lima.", {"seed": 7})


# ---- conversations


def test_a_conversation_keeps_its_settings(store: Store) -> None:
    chat, instruction, response = capitals(store)

    found = store.conversation(chat)
    assert (found.title, found.model, found.system) == ("Capitals", "tiny-llama3", "Be brief.")
    assert found.sampling == {"temperature": 0.7}
    assert found.created == "2026-01-31T12:00:00.000000+00:00"
    assert found.leaf == response.id
    assert contents(store.path(chat)) == ["Capital of Peru?", "Lima."]
    assert (response.role, response.parent, response.state) == ("assistant", instruction.id, "complete")
    assert response.facts == {"seed": 7}


def test_conversations_are_listed_with_the_last_updated_first(store: Store) -> None:
    first, second, third = (store.create(title).id for title in ("first", "second", "third"))
    store.add(first, None, "user", "Hello?")
    store.change(second, title="a new title is no update")

    assert [found.id for found in store.conversations()] == [first, third, second]


def test_a_conversation_is_renamed_and_its_other_settings_stay(store: Store) -> None:
    chat = capitals(store)[0]

    assert store.change(chat, title="South America").title == "South America"
    assert store.change(chat, sampling={}, system="").sampling == {}
    assert store.conversation(chat).title == "South America"
    assert store.conversation(chat).model == "tiny-llama3"


def test_a_deleted_conversation_is_gone_and_its_id_is_never_used_again(store: Store) -> None:
    chat, _, response = capitals(store)
    store.delete(chat)

    assert store.conversations() == ()
    assert store.search("Lima") == store.search("Capitals") == ()
    with pytest.raises(NotFound, match=f"There is no conversation {chat}"):
        store.path(chat)
    with pytest.raises(NotFound, match=f"There is no message {response.id}"):
        store.message(response.id)
    assert store.create().id == chat + 1


def test_a_conversation_of_1500_messages_is_shown_and_deleted(store: Store) -> None:
    """SQLite's own cascade of deletions ends at a depth of 1,000."""
    messages = [
        StoredMessage(
            id=number, conversation=0, parent=number - 1 or None, role="user", content=f"{number}", created=""
        )
        for number in range(1, 1501)
    ]
    [long] = store.restore([(Conversation(id=0, title="", created="", updated="", leaf=1500), messages)])

    assert contents(store.path(long.id)) == [f"{number}" for number in range(1, 1501)]
    store.delete(long.id)
    assert store.conversations() == ()


# ---- the tree


def test_an_edit_is_a_sibling_and_the_old_branch_stays(store: Store) -> None:
    chat, instruction, response = capitals(store)
    edited = store.edit(instruction.id, "Capital of Chile?")

    assert contents(store.path(chat)) == ["Capital of Chile?"]
    assert (edited.siblings, edited.index) == ((instruction.id, edited.id), 1)
    store.add(chat, edited.id, "assistant", "Santiago.")
    assert contents(store.path(chat)) == ["Capital of Chile?", "Santiago."]
    assert contents(store.path(chat, response.id)) == ["Capital of Peru?", "Lima."]


def test_a_regenerated_response_is_a_sibling(store: Store) -> None:
    chat, instruction, response = capitals(store)
    reply = store.regenerate(response.id, {"seed": 8})
    reply.add("It is Lima.")
    reply.finish({"finish_reason": "stop"})

    shown = store.path(chat)[-1]
    assert (shown.content, shown.parent) == ("It is Lima.", instruction.id)
    assert (shown.siblings, shown.index) == ((response.id, reply.message), 1)
    assert shown.facts == {"seed": 8, "finish_reason": "stop"}


def test_choosing_a_branch_shows_it_down_to_its_newest_message(store: Store) -> None:
    chat, instruction, response = capitals(store)
    other = store.edit(instruction.id, "Capital of Chile?")
    follow_up = store.add(chat, response.id, "user", "And of Cuba?")
    store.edit(follow_up.id, "And of Fiji?")
    store.choose(other.id)
    assert contents(store.path(chat)) == ["Capital of Chile?"]

    store.choose(instruction.id)
    assert contents(store.path(chat)) == ["Capital of Peru?", "Lima.", "And of Fiji?"]
    store.choose(follow_up.id)
    assert contents(store.path(chat)) == ["Capital of Peru?", "Lima.", "And of Cuba?"]


def test_a_branch_becomes_a_conversation_of_its_own(store: Store) -> None:
    chat, instruction, response = capitals(store)
    store.add(chat, response.id, "user", "And of Cuba?")
    copy = store.branch(response.id, "Peru")

    assert (copy.title, copy.model, copy.sampling) == ("Peru", "tiny-llama3", {"temperature": 0.7})
    assert contents(store.path(copy.id)) == ["Capital of Peru?", "Lima."]
    assert store.path(copy.id)[1].facts == {"seed": 7}
    store.add(copy.id, copy.leaf, "user", "Thanks.")
    store.delete(chat)
    assert contents(store.path(copy.id)) == ["Capital of Peru?", "Lima.", "Thanks."]


def test_a_parent_of_another_conversation_is_not_found(store: Store) -> None:
    _, _, response = capitals(store)
    other = store.create().id

    with pytest.raises(NotFound, match=f"There is no message {response.id}"):
        store.add(other, response.id, "user", "Hello?")
    with pytest.raises(NotFound, match=f"There is no message {response.id}"):
        store.path(other, response.id)
    assert store.path(other) == ()


def test_half_of_a_surrogate_pair_is_an_error_and_nothing_is_added(store: Store) -> None:
    chat, instruction, _ = capitals(store)

    with pytest.raises(UserError) as caught:
        store.edit(instruction.id, "Hi \ud83d")
    assert caught.value.what == "The text contains half of a surrogate pair, '\\ud83d', at character 4"
    with pytest.raises(UserError, match="surrogate"):
        store.change(chat, title="\udc00")
    assert contents(store.path(chat)) == ["Capital of Peru?", "Lima."]


# ---- replies


def test_a_reply_is_readable_while_it_is_written(store: Store) -> None:
    chat, _, response = capitals(store)
    follow_up = store.add(chat, response.id, "user", "And of Cuba?")
    reply = store.begin(chat, follow_up.id, {"model": "tiny-llama3", "seed": 1})
    assert [reply.add(text) for text in ("Ha", "vana", ".")] == [2, 6, 7]

    with Store(store.file) as other:
        shown = other.path(chat)[-1]
    assert (shown.content, shown.state) == ("Havana.", "writing")
    reply.finish({"finish_reason": "stop", "completion_tokens": 3})
    shown = store.message(reply.message)
    assert shown.state == "complete"
    assert shown.facts == {"model": "tiny-llama3", "seed": 1, "finish_reason": "stop", "completion_tokens": 3}


def test_text_is_saved_in_batches(tmp_path: Path) -> None:
    with Store(tmp_path / "chat.sqlite3", save_seconds=3600) as store:
        reply = store.begin(store.create().id, None)
        assert [reply.add(text) for text in ("Ha", "va")] == [0, 0]
        assert store.message(reply.message).content == ""
        assert reply.save() == 4
        assert store.message(reply.message).content == "Hava"
        reply.add("na.")
        reply.finish(stopped=True)
        assert store.message(reply.message).content == "Havana."
        assert store.message(reply.message).state == "stopped"


def test_a_reply_may_have_any_character(store: Store) -> None:
    with store.begin(store.create().id, None) as reply:
        for text in ("a\0b", "\0", "🎉", "\u2028\r\n", "\ufeff"):
            reply.add(text)
        reply.finish()

    assert store.message(reply.message).content == "a\0b\0🎉\u2028\r\n\ufeff"


def test_a_reply_that_an_error_ends_is_stopped_with_all_its_text(tmp_path: Path) -> None:
    with Store(tmp_path / "chat.sqlite3", save_seconds=3600) as store:
        with pytest.raises(ConnectionError), store.begin(store.create().id, None, {"seed": 7}) as reply:
            reply.add("Once upon")
            raise ConnectionError

        shown = store.message(reply.message)
        assert (shown.content, shown.state, shown.facts) == ("Once upon", "stopped", {"seed": 7})


def test_a_stopped_response_is_continued(store: Store) -> None:
    chat, _, response = capitals(store)
    reply = store.resume(response.id)
    with pytest.raises(UserError, match="still being written"):
        store.resume(response.id)
    assert reply.add(" It has 10 million people.") == 31
    reply.finish({"finish_reason": "length"})

    shown = store.path(chat)[-1]
    assert (shown.id, shown.content) == (response.id, "Lima. It has 10 million people.")
    assert shown.facts == {"seed": 7, "finish_reason": "length"}
    assert [hit.message for hit in store.search("million")] == [response.id]


def test_only_a_response_is_regenerated_or_continued(store: Store) -> None:
    _, instruction, _ = capitals(store)

    for call in (store.regenerate, store.resume):
        with pytest.raises(UserError, match=f"Message {instruction.id} is the user's, not a response"):
            call(instruction.id)


def test_a_reply_to_a_deleted_conversation_ends_with_an_error(store: Store) -> None:
    chat, instruction, _ = capitals(store)
    reply = store.begin(chat, instruction.id)
    reply.add("Li")
    store.delete(chat)

    with pytest.raises(UserError, match="its conversation was deleted"), reply:
        reply.add("ma")


def test_a_reply_is_stopped_when_its_store_is_closed(tmp_path: Path) -> None:
    with Store(tmp_path / "chat.sqlite3", save_seconds=0) as reader:
        with Store(tmp_path / "chat.sqlite3", save_seconds=0) as writer:
            chat = writer.create().id
            writer.begin(chat, None).add("Once upon a t")
            assert reader.path(chat)[0].state == "writing"
        assert reader.path(chat)[0].state == "stopped"
        assert [hit.message for hit in reader.search("upon")] == [reader.path(chat)[0].id]


def test_threads_share_a_store(store: Store) -> None:
    chat = store.create().id

    def write(name: str) -> None:
        parent = None
        for number in range(10):
            parent = store.add(chat, parent, "user", f"{name}{number}").id

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    roots = [message for message in store.tree(chat)[1] if message.parent is None]
    assert sorted(contents(tuple(roots))) == ["a0", "b0", "c0", "d0"]
    for root in roots:
        leaf = store.choose(root.id).leaf
        name = root.content[0]
        assert contents(store.path(chat, leaf)) == [f"{name}{number}" for number in range(10)]
