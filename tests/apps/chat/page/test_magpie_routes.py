"""The routes of Magpie over HTTP, on the real service."""

import json
from typing import Any

import httpx

SESSION = {"rows": 6, "seed": 7, "max_answer": 12}


def finished(client: httpx.Client, name: str) -> dict[int, dict[str, Any]]:
    """The rows of a session after its end, put together from its events."""
    rows: dict[int, dict[str, Any]] = {}
    event = ""
    with client.stream("GET", f"/magpie/{name}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            kind, _, data = line.partition(": ")
            if kind == "event":
                event = data
            elif kind == "data":
                value = json.loads(data)
                if event == "snapshot":
                    rows = {row["index"]: row for row in value["rows"]}
                elif event == "row":
                    rows[value["index"]] = value
                elif event == "text":
                    rows[value["index"]][value["part"]] += value["text"]
                session = value["session"] if event == "snapshot" else value
                if event in ("snapshot", "session") and not session["running"]:
                    return rows
    raise AssertionError("the stream ended before the session")


def test_a_session_runs_and_its_events_can_be_read_again(client: httpx.Client) -> None:
    session = client.post("/magpie", json=SESSION).raise_for_status().json()
    assert (session["model"], session["target"], session["running"]) == ("tiny-llama3", 6, True)
    rows = finished(client, session["name"])
    assert {row["state"] for row in rows.values()} == {"accepted", "rejected"}
    assert finished(client, session["name"]) == rows
    assert client.get("/magpie").json()["sessions"][0] == session["name"]


def test_a_verdict_decides_what_is_exported(client: httpx.Client) -> None:
    name = client.post("/magpie", json=SESSION).json()["name"]
    rows = finished(client, name)
    kept, cut = ([row for row in rows.values() if row["complete"] is complete] for complete in (True, False))
    judged = client.post(f"/magpie/{name}/rows/{kept[0]['index']}", json={"verdict": "reject"}).json()
    assert (judged["verdict"], judged["kept"]) == ("reject", False)
    refused = client.post(f"/magpie/{name}/rows/{cut[0]['index']}", json={"verdict": "keep"})
    assert refused.status_code == 400
    assert refused.json()["error"]["what"] == f"Row {cut[0]['index']} has no complete response"
    exported = client.get(f"/magpie/{name}/export")
    assert exported.headers["content-disposition"] == f'attachment; filename="magpie-{name}.jsonl"'
    assert [json.loads(line)["messages"] for line in exported.text.splitlines()] == [
        [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["response"]}]
        for row in kept[1:]
    ]
    records = [json.loads(line) for line in client.get(f"/magpie/{name}/export?format=accepted").text.splitlines()]
    assert [record["index"] for record in records] == [row["index"] for row in kept[1:]]
    assert all(record["fingerprint"].startswith(record["id"][:8]) for record in records)


def test_a_session_can_be_extended_stopped_and_deleted(client: httpx.Client) -> None:
    name = client.post("/magpie", json=SESSION).json()["name"]
    finished(client, name)
    assert client.post(f"/magpie/{name}/ask", json={"rows": 3}).json()["target"] == 9
    assert client.post(f"/magpie/{name}/stop", json={}).json()["running"] is False
    assert client.delete(f"/magpie/{name}").json() == {"name": name}
    gone = client.get(f"/magpie/{name}/events")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


def test_a_session_that_cannot_start_leaves_nothing(client: httpx.Client) -> None:
    before = client.get("/magpie").json()["sessions"]
    assert client.post("/magpie", json={**SESSION, "model": "other"}).status_code == 404
    assert client.post("/magpie", json={**SESSION, "category": "Gardening"}).status_code == 400
    assert client.post("/magpie", json={**SESSION, "rows": 0}).status_code == 422
    assert client.get("/magpie").json()["sessions"] == before
