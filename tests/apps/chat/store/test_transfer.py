"""Conversations as JSON, Markdown and rows for finetuning, and imports that are refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.dataset import read_dataset
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message
from mlx_suite_apps.chat.store.conversation import NotFound, StoredMessage
from mlx_suite_apps.chat.store.store import Store
from mlx_suite_apps.chat.store.transfer import export_json, export_markdown, export_messages, import_json

NOON = "2026-01-31T12:00:00.000000+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "chat.sqlite3") as store:
        yield store


def capitals(store: Store) -> int:
    """A conversation with an edited instruction; the first of the two branches is shown."""
    chat = store.create("Capitals", model="tiny-llama3", system="Be brief.", sampling={"temperature": 0.7}).id
    instruction = store.add(chat, None, "user", "Capital of Peru?")
    store.add(chat, instruction.id, "assistant", "Lima.", {"seed": 7})
    store.edit(instruction.id, "Capital of Chile?")
    store.choose(instruction.id)
    return chat


def plain(messages: tuple[StoredMessage, ...]) -> list[tuple[Any, ...]]:
    return [(one.role, one.content, one.created, one.state, one.facts) for one in messages]


# ---- JSON


def document(**changes: Any) -> dict[str, Any]:
    """An export of one conversation with two messages, with changes to the conversation."""
    conversation = {
        "title": "Capitals",
        "model": "",
        "system": "",
        "sampling": {},
        "created": NOON,
        "updated": NOON,
        "leaf": 2,
        "messages": [message(1, None, "user", "Capital of Peru?"), message(2, 1, "assistant", "Lima.")],
    }
    return {"format": "mlx-suite chat", "version": 1, "conversations": [conversation | changes]}


def message(number: Any, parent: Any, role: str, content: Any, **changes: Any) -> dict[str, Any]:
    fields = {"id": number, "parent": parent, "role": role, "content": content, "created": NOON}
    return fields | {"state": "complete", "facts": {}} | changes


def test_an_export_is_json_with_all_branches(store: Store) -> None:
    written = json.loads(export_json(store, [capitals(store)]))

    assert (written["format"], written["version"]) == ("mlx-suite chat", 1)
    [conversation] = written["conversations"]
    assert conversation["title"] == "Capitals"
    assert conversation["sampling"] == {"temperature": 0.7}
    assert conversation["leaf"] == 2
    assert [(one["id"], one["parent"], one["content"]) for one in conversation["messages"]] == [
        (1, None, "Capital of Peru?"),
        (2, 1, "Lima."),
        (3, None, "Capital of Chile?"),
    ]
    assert conversation["messages"][1]["facts"] == {"seed": 7}


def test_an_import_restores_times_branches_and_the_shown_path(store: Store, tmp_path: Path) -> None:
    chat = capitals(store)
    with Store(tmp_path / "other.sqlite3") as other:
        other.create("one before, so that ids differ")
        [found] = import_json(other, export_json(store, [chat]).encode())

        assert replace(found, id=chat, leaf=store.conversation(chat).leaf) == store.conversation(chat)
        assert plain(other.path(found.id)) == plain(store.path(chat))
        assert plain(other.tree(found.id)[1]) == plain(store.tree(chat)[1])
        assert [hit.conversation.id for hit in other.search("chile")] == [found.id]


def test_a_hand_written_document_with_other_ids_and_time_zones_is_imported(store: Store) -> None:
    written = document(
        updated="2026-01-31T14:00:00+02:00",
        leaf=-5,
        messages=[
            message(900, None, "user", "Hi"),
            message(-5, 900, "assistant", "Hello", created="2026-01-31T12:00Z"),
        ],
    )
    [found] = import_json(store, "\ufeff".encode() + json.dumps(written).encode())

    assert found.updated == NOON
    assert [one.content for one in store.path(found.id)] == ["Hi", "Hello"]
    assert store.path(found.id)[1].created == NOON


def test_a_response_that_is_being_written_is_exported_as_stopped(store: Store) -> None:
    chat = capitals(store)
    reply = store.begin(chat, store.conversation(chat).leaf)
    reply.add("As f")
    reply.save()

    last = json.loads(export_json(store, [chat]))["conversations"][0]["messages"][-1]
    assert (last["content"], last["state"]) == ("As f", "stopped")
    assert [one.state for one in store.path(store.branch(reply.message).id)] == ["complete", "complete", "stopped"]


TEXT = st.text(max_size=8)
JSON = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
MESSAGES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["user", "assistant"]), TEXT, JSON), max_size=6)


@settings(max_examples=30)
@given(chats=st.lists(st.tuples(TEXT, TEXT, JSON, MESSAGES, st.integers(0, 9)), max_size=3))
def test_exporting_an_import_gives_the_same_text(chats: list[tuple[str, str, dict, list, int]]) -> None:
    with TemporaryDirectory() as folder, Store(Path(folder) / "chat.sqlite3") as store:
        numbers = []
        for title, system, sampling, messages, chosen in chats:
            chat = store.create(title, system=system, sampling=sampling).id
            added: list[int | None] = [None]
            for parent, role, content, facts in messages:
                added.append(store.add(chat, added[parent % len(added)], role, content, facts).id)
            shown = added[chosen % len(added)]
            if shown is not None:
                store.choose(shown)
            numbers.append(chat)
        written = export_json(store, numbers)
        imported = [found.id for found in import_json(store, written)]

        assert export_json(store, imported) == written
        for old, new in zip(numbers, imported, strict=True):
            assert plain(store.path(new)) == plain(store.path(old))


# ---- imports that are refused


def problems(store: Store, text: str | bytes) -> list[str]:
    """The problems of an import, after which the store is as empty as before."""
    with pytest.raises(UserError) as caught:
        import_json(store, text, "old.json")
    assert caught.value.where == "old.json"
    assert "nothing was imported" in caught.value.what
    assert store.conversations() == ()
    return list(caught.value.details)


def test_every_problem_of_an_import_is_listed_and_nothing_is_imported(store: Store) -> None:
    good = document()["conversations"][0]
    bad = document(
        title=None,
        sampling=[],
        created="yesterday",
        modle="tiny",
        leaf=9,
        messages=[
            message(1, None, "system", "Be brief."),
            message(1, 2, "user", 7),
            message(True, 1, "user", "half \ud83d", created="2026-01-31T12:00:00", state="writing"),
            {"id": 3, "role": "user"},
            "Hi",
        ],
    )
    bad["conversations"] = [good, *bad["conversations"], 7]

    assert problems(store, json.dumps(bad)) == [
        "conversation 2: unknown key 'modle'; did you mean model?",
        "conversation 2, message 1: \"role\" is 'system'; expected one of user, assistant",
        'conversation 2, message 2: "parent" is the number 2; expected null, or the id of a message before this one',
        'conversation 2, message 2: "id" is the number 1; expected a whole number that no message before has',
        'conversation 2, message 2: "content" is the number 7; expected text',
        'conversation 2, message 3: "id" is true; expected a whole number that no message before has',
        "conversation 2, message 3: \"content\" contains half of a surrogate pair, '\\ud83d'",
        "conversation 2, message 3: \"created\" is '2026-01-31T12:00:00'; "
        "expected a time with its zone, such as 2026-01-31T12:00:00+00:00",
        "conversation 2, message 3: \"state\" is 'writing'; expected one of complete, stopped",
        'conversation 2, message 4: "parent" is missing; expected null, or the id of a message before this one',
        'conversation 2, message 4: "content" is missing; expected text',
        'conversation 2, message 4: "created" is missing; expected a time with its zone, '
        "such as 2026-01-31T12:00:00+00:00",
        'conversation 2, message 4: "state" is missing; expected one of complete, stopped',
        'conversation 2, message 4: "facts" is missing; expected an object',
        "conversation 2, message 5 is text; expected an object",
        'conversation 2: "leaf" is the number 9; expected the id of one of the messages',
        'conversation 2: "title" is null; expected text',
        'conversation 2: "sampling" is a list; expected an object',
        "conversation 2: \"created\" is 'yesterday'; expected a time with its zone, such as 2026-01-31T12:00:00+00:00",
        "conversation 3 is the number 7; expected an object",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"format": "mlx-suite chat" 1}', "line 1, column 29: Expecting ',' delimiter; expected JSON"),
        (b'{"a": "\xe9"}', "byte 0xe9 at 7 is not UTF-8"),
        ("[" * 100_000, "the JSON is nested too deeply"),
        ('{"format": NaN}', "the JSON cannot be read: NaN is not a number in JSON"),
        ('{"format": 1e999}', "the JSON cannot be read: the number 1e999 is too large"),
        ("[]", "expected an object with \"format\" 'mlx-suite chat'; found a list"),
        ('{"chats": []}', 'expected an object with "format" \'mlx-suite chat\'; found "format" null'),
        ('{"format": "mlx-suite chat", "version": "1"}', "\"version\" is '1'; expected 1"),
        ('{"format": "mlx-suite chat", "version": 1}', 'the file: "conversations" is missing; expected a list'),
        (
            json.dumps(document(messages=[])),
            'conversation 1: "leaf" is the number 2; expected null, since there are no messages',
        ),
        (
            json.dumps(document(sampling={"a": "\udc00"})),
            "conversation 1: \"sampling\" contains half of a surrogate pair, '\\udc00'",
        ),
    ],
)
def test_a_file_with_one_problem(store: Store, text: str | bytes, problem: str) -> None:
    assert problems(store, text) == [problem]


def test_an_export_of_a_newer_version_is_refused(store: Store) -> None:
    with pytest.raises(UserError) as caught:
        import_json(store, '{"format": "mlx-suite chat", "version": 2, "chats": {}}', "new.json")

    assert str(caught.value) == (
        "error: The file was exported by a newer mlx-suite (version 2; this one knows 1)\n"
        "where: new.json\n"
        "fix:   pip install --upgrade mlx-suite"
    )


# ---- Markdown


def test_a_path_is_exported_as_markdown(store: Store) -> None:
    chat = capitals(store)

    assert export_markdown(store, chat) == (
        "# Capitals\n\n## System\n\nBe brief.\n\n## User\n\nCapital of Peru?\n\n## Assistant\n\nLima.\n"
    )
    other = store.tree(chat)[1][-1].id
    assert export_markdown(store, chat, other).endswith("## System\n\nBe brief.\n\n## User\n\nCapital of Chile?\n")


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ("```python\nprint()", "```python\nprint()\n```"),
        ("````md\n```\ncode\n```\n", "````md\n```\ncode\n```\n````"),
        ("~~~\n```\n", "~~~\n```\n~~~"),
        ("```\ncode\n```\n\nDone.", "```\ncode\n```\n\nDone."),
        ("Write ```x``` in one line", "Write ```x``` in one line"),
        ("```x``` begins a line", "```x``` begins a line"),
        ("    ```\n", "    ```"),
    ],
)
def test_a_code_block_that_was_left_open_ends_with_its_message(store: Store, content: str, written: str) -> None:
    chat = store.create("a\n b").id
    first = store.add(chat, None, "assistant", content)
    store.add(chat, first.id, "user", "Go on.")

    assert export_markdown(store, chat) == f"# a b\n\n## Assistant\n\n{written}\n\n## User\n\nGo on.\n"


# ---- rows for finetuning


def test_exported_rows_are_read_for_finetuning(store: Store, tmp_path: Path) -> None:
    capitals(store)
    chat = store.create().id
    store.begin(chat, store.add(chat, None, "user", 'Say "hi"\u2028🎉').id).finish()
    reply = store.resume(store.conversation(chat).leaf or 0)
    reply.add("hi\n🎉")
    reply.finish()
    (tmp_path / "chats.jsonl").write_text(export_messages(store, [1, 2]))

    dataset = read_dataset(tmp_path / "chats.jsonl")
    assert [file.format for file in dataset.files] == ["messages"]
    assert [example.messages for example in dataset.train] == [
        (Message("system", "Be brief."), Message("user", "Capital of Peru?"), Message("assistant", "Lima.")),
        (Message("user", 'Say "hi"\u2028🎉'), Message("assistant", "hi\n🎉")),
    ]


def test_conversations_without_a_response_at_the_end_are_refused(store: Store) -> None:
    chat = capitals(store)
    store.choose(store.tree(chat)[1][-1].id)
    empty = store.create().id

    with pytest.raises(UserError) as caught:
        export_messages(store, [chat, empty])
    assert caught.value.details == (
        "'Capitals': there is no assistant turn; expected a response to learn",
        'conversation 2: "messages" is empty; expected a list of turns',
    )


def test_what_does_not_exist_is_not_exported(store: Store) -> None:
    for export in (export_json, export_messages):
        with pytest.raises(NotFound, match="There is no conversation 3"):
            export(store, [3])
    with pytest.raises(NotFound, match="There is no conversation 3"):
        export_markdown(store, 3)
