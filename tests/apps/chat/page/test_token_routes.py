"""The routes of tokens over HTTP, on the real service."""

from typing import Any

import httpx


def answered(client: httpx.Client, text: str) -> dict[str, Any]:
    """The finished response to a first user turn."""
    settings = {"settings": {"temperature": 0.0}}
    number = client.post("/conversations", json=settings).raise_for_status().json()["id"]
    client.post(f"/conversations/{number}/messages", json={"content": text}).raise_for_status()
    return last(client, number)


def last(client: httpx.Client, conversation: int) -> dict[str, Any]:
    """The last message of a conversation, once it is finished."""
    for _ in range(3000):
        message: dict[str, Any] = client.get(f"/conversations/{conversation}").json()["messages"][-1]
        if message["state"] != "writing":
            return message
    raise AssertionError("the response does not end")


def test_the_tokens_of_a_response_are_the_generated_ones(client: httpx.Client) -> None:
    message = answered(client, "Which day comes after Monday?")
    assert "ids" not in message["facts"]
    scored = client.get(f"/messages/{message['id']}/tokens").raise_for_status().json()
    assert (scored["model"], scored["exact"], scored["unscored"]) == ("tiny-llama3", True, 0)
    *words, end = scored["tokens"]
    assert "".join(token["text"] for token in words) == message["content"] == "Tuesday comes after Monday."
    assert (end["text"], end["ends"]) == ("<|eot_id|>", True)
    assert all(len(token["alternatives"]) == 10 for token in scored["tokens"])
    assert all(token["alternatives"][0]["id"] == token["id"] for token in scored["tokens"])


def test_a_branch_is_a_sibling_with_the_chosen_token_and_exact_ids(client: httpx.Client) -> None:
    message = answered(client, "Which day comes after Sunday?")
    tokens = client.get(f"/messages/{message['id']}/tokens").json()["tokens"]
    other = tokens[2]["alternatives"][1]
    url = f"/messages/{message['id']}/tokens/branch"
    begun = client.post(url, json={"position": 2, "token": other["id"]}).raise_for_status().json()
    branch = last(client, message["conversation"])
    assert (branch["id"], branch["parent"], branch["siblings"]) == (
        begun["id"],
        message["parent"],
        [message["id"], begun["id"]],
    )
    assert branch["content"].startswith(tokens[0]["text"] + tokens[1]["text"] + other["text"])
    assert branch["facts"]["branched"] == {"message": message["id"], "position": 2}
    again = client.get(f"/messages/{branch['id']}/tokens").json()
    assert again["exact"] is True
    assert [token["id"] for token in again["tokens"][:3]] == [tokens[0]["id"], tokens[1]["id"], other["id"]]


def test_a_branch_with_the_stop_token_ends_the_response(client: httpx.Client) -> None:
    message = answered(client, "Which day comes after Friday?")
    tokens = client.get(f"/messages/{message['id']}/tokens").json()["tokens"]
    url = f"/messages/{message['id']}/tokens/branch"
    ended = client.post(url, json={"position": 2, "token": tokens[-1]["id"]}).raise_for_status().json()
    assert (ended["content"], ended["state"]) == (tokens[0]["text"] + tokens[1]["text"], "complete")


def test_tokens_that_do_not_exist_and_messages_that_are_no_responses_are_refused(client: httpx.Client) -> None:
    message = answered(client, "Which day comes after Tuesday?")
    assert client.get(f"/messages/{message['parent']}/tokens").status_code == 400
    url = f"/messages/{message['id']}/tokens/branch"
    assert client.post(url, json={"position": 500, "token": 5}).status_code == 400
    assert client.post(url, json={"position": 0, "token": 10**9}).status_code == 400
    assert client.get("/messages/99999/tokens").status_code == 404


def test_a_number_too_large_for_the_database_is_not_found(client: httpx.Client) -> None:
    assert client.get(f"/messages/{10**30}/tokens").status_code == 404
    assert client.get(f"/conversations/{10**30}").status_code == 404
