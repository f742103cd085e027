"""A client of a chat server records what it received, and why a response is not complete."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlx_suite_apps.bench.serving_client import Endpoint, Reply, ask, ask_all, ask_during
from tests.apps.bench.scripted_chat_server import CROWD, serve

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[[str], Endpoint]]:
    """Starts a scripted server in the given mode, in a thread."""
    with ExitStack() as stack:

        def start(mode: str) -> Endpoint:
            server = serve(0, mode, tmp_path / "diary")
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(lambda: (server.shutdown(), thread.join(), server.server_close()))
            return Endpoint(port=server.server_address[1], model="scripted")

        yield start


def test_a_reply_has_its_text_its_tokens_and_the_time_of_every_piece(endpoint: Callable[[str], Endpoint]) -> None:
    counts: list[int] = []
    reply = ask(endpoint("good"), HELLO, 3, counts.append)
    assert (reply.text, reply.tokens, reply.failure) == (" word word word", 3, None)
    assert counts == [1, 2, 3]
    assert len(reply.arrivals) == 3
    assert 0 < reply.first_token <= reply.arrivals[-1] - reply.sent


def test_without_usage_the_pieces_are_counted(endpoint: Callable[[str], Endpoint]) -> None:
    assert ask(endpoint("uncounted"), HELLO, 5).tokens == 5


@pytest.mark.parametrize(("mode", "failure"), [("errors", "HTTP 500"), ("early", "the stream ended early")])
def test_an_incomplete_response_says_why(endpoint: Callable[[str], Endpoint], mode: str, failure: str) -> None:
    assert ask(endpoint(mode), HELLO, CROWD).failure == failure


def test_a_server_that_is_gone_is_a_failure_and_not_an_exception(tmp_path: Path) -> None:
    server = serve(0, "good", tmp_path / "diary")
    server.server_close()
    reply = ask(Endpoint(port=server.server_address[1], model="scripted"), HELLO, 3)
    assert reply.failure == "connection lost (ConnectionRefusedError)"
    assert reply.first_token != reply.first_token  # NaN


def test_the_longest_pause_counts_from_a_moment_on() -> None:
    reply = Reply(sent=0.0, arrivals=(1.0, 5.0, 5.5, 7.5, 8.0), text="", tokens=5)
    assert reply.longest_pause(0.0) == 4.0
    assert reply.longest_pause(5.0) == 2.0
    # The second piece of the pause arrived later: a pause that had begun counts.
    assert reply.longest_pause(4.0) == 4.0
    assert reply.longest_pause(9.0) == 0.0


def test_replies_of_concurrent_clients_are_in_the_order_of_their_prompts(endpoint: Callable[[str], Endpoint]) -> None:
    server = endpoint("mixes")  # it answers a prompt that it knows with another word
    ask(server, HELLO, 1)
    replies = ask_all(server, [[{"role": "user", "content": "new"}], HELLO], 2)
    assert [reply.text for reply in replies] == [" other other", " word word"]


def test_another_client_arrives_while_a_stream_runs(endpoint: Callable[[str], Endpoint]) -> None:
    running, arrived = ask_during(endpoint("good"), HELLO, 30, [{"role": "user", "content": "long"}], after=4)
    assert (running.tokens, arrived.tokens) == (30, 4)
    assert arrived.sent > running.arrivals[3]
