"""The routes of the page, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mlx_suite_apps.chat.api.app import create_app
from mlx_suite_apps.chat.page.static_files import STATIC
from mlx_suite_apps.chat.store.store import Store
from tests.apps.chat.page.talking_service import TEXTS, TalkingService


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    service: Any = TalkingService()
    with Store(tmp_path / "chat.sqlite3") as store, TestClient(create_app(service, store)) as running:
        yield running


def begin(client: TestClient, text: str) -> dict[str, Any]:
    """A conversation with one exchange."""
    made = client.post("/page/conversations", json={}).json()
    client.post(f"/page/conversations/{made['id']}/messages", json={"content": text})
    return finished(client, made["id"])


def finished(client: TestClient, number: int) -> dict[str, Any]:
    """The conversation, when no response in it is being written."""
    for _ in range(1000):
        found: dict[str, Any] = client.get(f"/page/conversations/{number}").json()
        if not found["writing"]:
            return found
    raise AssertionError("the response does not end")


def test_a_turn_is_stored_with_its_response_and_gives_the_conversation_its_title(client: TestClient) -> None:
    found = begin(client, "Please explain, in a few plain words, how rain comes about and where it goes.")
    assert found["title"] == "Please explain, in a few plain words, how rain comes about…"
    user, response = found["messages"]
    assert (user["role"], user["html"]) == ("user", None)
    assert (response["state"], response["parent"]) == ("complete", user["id"])
    assert response["html"].startswith("<p>You said: Please explain")


def test_the_models_and_the_default_settings(client: TestClient) -> None:
    setup = client.get("/page/setup").json()
    assert setup["models"] == [{"name": "tiny-llama3", "base": "tiny-llama3", "is_adapter": False, "context": 2000}]
    assert setup["defaults"]["temperature"] == 0.7


def test_only_changed_settings_are_stored(client: TestClient) -> None:
    made = client.post("/page/conversations", json={"settings": {"temperature": 0.7, "top_k": 5}}).json()
    assert made["settings"] == {"top_k": 5}
    changed = client.patch(f"/page/conversations/{made['id']}", json={"dropped": 2, "settings": {}}).json()
    assert (changed["settings"], changed["dropped"]) == ({}, 2)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/page/conversations/99", None, 404, "not_found"),
        ("DELETE", "/page/conversations/99", None, 404, "not_found"),
        ("POST", "/page/messages/99/reply", None, 404, "not_found"),
        ("POST", "/page/messages/99/continue", None, 404, "not_found"),
        ("POST", "/page/conversations", {"settings": {"temperature": -1}}, 422, "invalid"),
        ("POST", "/page/conversations", {"settings": {"temprature": 1}}, 422, "invalid"),
        ("POST", "/page/import", {"format": "other"}, 400, "invalid"),
        ("GET", "/page/export?conversation=99", None, 404, "not_found"),
        ("GET", "/page/compare/99", None, 404, "not_found"),
    ],
)
def test_errors_are_json_with_a_code(
    client: TestClient, method: str, path: str, body: object, status: int, code: str
) -> None:
    answer = client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["what"]


def test_an_invalid_value_is_named(client: TestClient) -> None:
    answer = client.post("/page/conversations", json={"settings": {"top_p": 3}}).json()
    assert answer["error"]["details"] == ["settings.top_p: Input should be less than or equal to 1"]


def test_a_model_that_is_not_served_is_said_and_the_turn_stays(client: TestClient) -> None:
    made = client.post("/page/conversations", json={"model": "gone"}).json()
    sent = client.post(f"/page/conversations/{made['id']}/messages", json={"content": "Hello"}).json()
    assert (sent["reply"], sent["error"]["code"]) == (None, "unknown_model")
    assert [each["content"] for each in finished(client, made["id"])["messages"]] == ["Hello"]


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(client: TestClient) -> None:
    made = client.post("/page/conversations", json={}).json()
    sent = client.post(f"/page/conversations/{made['id']}/messages", json={"content": "word " * 2100}).json()
    assert sent["error"]["code"] == "context_length_exceeded"
    assert (sent["error"]["prompt_tokens"] > 2000, sent["error"]["context"]) == (True, 2000)


def test_dropped_exchanges_are_not_in_the_prompt(client: TestClient) -> None:
    found = begin(client, "first words")
    client.patch(f"/page/conversations/{found['id']}", json={"dropped": 1})
    last = found["messages"][-1]["id"]
    client.post(f"/page/conversations/{found['id']}/messages", json={"content": "second words", "parent": last})
    response = finished(client, found["id"])["messages"][-1]
    assert response["content"] == "You said: second words"
    alone = begin(client, "second words")["messages"][-1]
    assert response["facts"]["prompt_tokens"] == alone["facts"]["prompt_tokens"]


def test_an_edited_response_has_no_figures_of_the_old_text(client: TestClient) -> None:
    response = begin(client, "Figures")["messages"][1]
    edited = client.post(f"/page/messages/{response['id']}/edit", json={"content": "Other words"}).json()["message"]
    assert edited["facts"] == {"edited": True, "model": "tiny-llama3", "context": 2000}
    assert edited["siblings"] == [response["id"], edited["id"]]


def test_a_deleted_conversation_takes_its_unfinished_response_along(client: TestClient) -> None:
    TEXTS["hold and delete"] = "Never to be finished"
    made = client.post("/page/conversations", json={}).json()
    client.post(f"/page/conversations/{made['id']}/messages", json={"content": "hold and delete"})
    assert client.delete(f"/page/conversations/{made['id']}").json() == {"conversation": made["id"]}
    assert client.get("/page/conversations").json() == []


def test_a_comparison_is_imported_with_both_columns(client: TestClient) -> None:
    columns = [{"settings": {"temperature": 0}}, {"system": "Be brief."}]
    made = client.post("/page/compare", json={"content": "Twice", "columns": columns}).json()
    finished(client, made["id"])
    exported = client.get(f"/page/export?conversation={made['id']}").text
    [copy] = client.post("/page/import", content=exported).json()
    found = client.get(f"/page/compare/{copy['id']}").json()
    assert [[message["content"] for message in column] for column in found["columns"]] == [
        ["Twice", "You said: Twice"],
        ["Twice", "You said: Twice"],
    ]
    assert [column["system"] for column in found["compare"]] == ["", "Be brief."]
    one, two = (column[1] for column in found["columns"])
    assert one["id"] != two["id"]
    assert one["facts"]["seed"] == two["facts"]["seed"]


def test_a_column_without_a_response_gets_one_later(client: TestClient) -> None:
    made = client.post("/page/compare", json={"content": "it is full", "columns": [{}, {}]}).json()
    assert [error and error["code"] for error in made["errors"]] == ["queue_full", None]
    client.post(f"/page/compare/{made['id']}/columns/0/reply", json={})
    finished(client, made["id"])
    found = client.get(f"/page/compare/{made['id']}").json()
    assert [column[-1]["content"] for column in found["columns"]] == ["You said: it is full"] * 2
    refused = client.post(f"/page/compare/{made['id']}/columns/0/reply", json={}).json()
    assert refused["error"]["what"] == "The column has a response"


def test_a_file_of_messages_names_every_conversation_that_cannot_be_trained_on(client: TestClient) -> None:
    client.post("/page/conversations", json={"title": "Empty"})
    answer = client.get("/page/export?format=messages")
    assert answer.status_code == 400
    assert "Empty" in json.dumps(answer.json()["error"]["details"])


class Loaded(HTMLParser):
    """What a page loads, and whether anything in it is inline."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.files: list[str] = []
        self.inline: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attributes:
            if name in ("src", "href") and value and not value.startswith("#"):
                self.files.append(value)
            if name == "style" or name.startswith("on"):
                self.inline.append(name)

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(data)


def test_the_page_loads_only_files_of_this_server_and_nothing_inline(client: TestClient) -> None:
    page = Loaded(client.get("/").text)
    assert page.inline == []
    assert all(file.startswith("/page/static/") for file in page.files)
    assert [client.get(file).status_code for file in page.files] == [200] * len(page.files)


def test_every_module_that_is_imported_exists_and_every_module_is_used() -> None:
    imported = {"main.js", "theme.js"}
    for module in STATIC.glob("*.js"):
        text = module.read_text()
        imported |= {name for name in re.findall(r'from "\./([\w.]+)"', text)}
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", text) or module.name == "answer.js"
        assert text.count("\n") < 300, f"{module.name} has too many lines"
    assert imported == {module.name for module in STATIC.glob("*.js")}


def test_the_page_is_smaller_than_the_libraries_that_others_load() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < 217_000


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/static/main.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = client.get("/page/static/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_files_outside_of_the_page_are_not_served(client: TestClient) -> None:
    for name in ("../render.py", "..%2frender.py", "missing.js", "__init__.py"):
        assert client.get(f"/page/static/{name}").status_code == 404


def test_a_server_without_a_store_has_no_page() -> None:
    service: Any = TalkingService()
    with TestClient(create_app(service)) as client:
        assert client.get("/page/setup").status_code == 404
