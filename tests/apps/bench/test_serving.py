"""The server benchmark counts, compares and goes on after failures. Speed is not tested."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_suite_apps.bench.serving import Load, Measured, compare
from mlx_suite_apps.bench.serving_checkpoint import context_of, serving_folder, words_of
from mlx_suite_apps.bench.serving_peers import Peer
from tests.apps.bench import scripted_chat_server
from tests.apps.bench.scripted_chat_server import CROWD

LOAD = Load(clients=(1, 3), tokens=CROWD, user=4, answer=3, running=20, arriving=50, checked=2, rounds=2)
WORDS = [f" word{number}" for number in range(1000)]


def scripted(mode: str, diary: Path) -> Peer:
    def command(folder: Path, port: int) -> list[str]:
        return [sys.executable, str(Path(scripted_chat_server.__file__)), str(port), mode, str(diary)]

    return Peer(name=mode, command=command)


def bodies(diary: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in diary.read_text().splitlines()]


def test_every_stage_is_measured_in_every_round(tmp_path: Path) -> None:
    steps: list[str] = []
    [measured] = compare([scripted("good", tmp_path / "diary")], tmp_path, WORDS, LOAD, steps.append)
    assert steps == ["round 1 of 2: good", "round 2 of 2: good"]
    assert measured.failures == {}
    assert {turn: len(seconds) for turn, seconds in measured.first_tokens.items()} == {1: 2, 2: 2, 3: 2, 4: 2, 5: 2}
    assert len(measured.pauses) == len(measured.arriving) == 2
    assert measured.written == {1: [6, 6], 3: [18, 18]}
    assert all(speed > 0 for speeds in measured.speeds.values() for speed in speeds)
    assert measured.differing == {3: 0}
    # Per round five turns, two requests around the long prompt, 1 and 3 clients; in the first round 3 more alone.
    assert measured.requests == {"chat": 10, "long prompt": 4, "1 client": 2, "3 clients": 6, "3 clients, alone": 3}


def test_a_turn_of_the_chat_contains_the_servers_own_earlier_answers(tmp_path: Path) -> None:
    compare([scripted("good", tmp_path / "diary")], tmp_path, WORDS, LOAD)
    fifth = next(body for body in bodies(tmp_path / "diary") if len(body["messages"]) == 9)
    assert [message["role"] for message in fifth["messages"]] == ["user", "assistant"] * 4 + ["user"]
    assert {message["content"] for message in fifth["messages"][1::2]} == {" word word word"}
    assert (fifth["temperature"], fifth["stream"], fifth["model"]) == (0.0, True, "scripted")


def test_all_servers_get_the_same_requests_and_rounds_have_new_ones(tmp_path: Path) -> None:
    peers = [scripted("good", tmp_path / "a"), scripted("uncounted", tmp_path / "b")]
    compare(peers, tmp_path, WORDS, LOAD)
    first, second = (sorted(json.dumps(body["messages"]) for body in bodies(tmp_path / name)) for name in "ab")
    assert first == second
    long = {body["messages"][0]["content"] for body in bodies(tmp_path / "a") if body["max_tokens"] == 4}
    assert [len(text.split()) for text in long] == [50, 50]


@pytest.mark.parametrize(
    ("mode", "reason"), [("errors", "HTTP 500"), ("dies", "connection lost (ConnectionRefusedError)")]
)
def test_a_failing_server_is_counted_started_again_and_not_asked_that_again(
    tmp_path: Path, mode: str, reason: str
) -> None:
    [measured, good] = compare(
        [scripted(mode, tmp_path / "a"), scripted("good", tmp_path / "b")], tmp_path, WORDS, LOAD
    )
    assert measured.failures["1 client"] == [reason]
    assert len(measured.failures["3 clients"]) == 3
    assert (measured.requests["1 client"], measured.requests["3 clients"]) == (1, 3)
    assert measured.speeds == {}
    # The other stages went on in the second round, and so did the other server.
    assert len(measured.first_tokens[5]) == 2
    assert good.failures == {}


def test_texts_that_differ_from_the_server_alone_are_counted(tmp_path: Path) -> None:
    [measured] = compare([scripted("mixes", tmp_path / "diary")], tmp_path, WORDS, LOAD)
    assert measured.differing == {3: 3}


def test_a_server_that_does_not_start_is_reported_with_its_last_line(tmp_path: Path) -> None:
    def command(folder: Path, port: int) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such model')"]

    [measured] = compare([Peer(name="absent", command=command)], tmp_path, WORDS, LOAD)
    assert measured.down == "no such model"
    assert measured.median("turn 1") is None


def test_medians_are_those_of_the_rounds() -> None:
    measured = Measured(name="a", first_tokens={5: [3.0, 1.0, 2.0]}, speeds={8: [10.0, 30.0]}, pauses=[0.5])
    assert measured.median("turn 5") == 2.0
    assert measured.median("8 clients") == 20.0
    assert measured.median("pause") == 0.5
    assert measured.median("arriving") is None
    assert measured.median("turn 1") is None


def test_a_short_context_gets_shorter_prompts() -> None:
    load = Load()
    assert load.within(8192) == load
    short = load.within(512)
    assert (short.user, short.answer, short.arriving, short.tokens) == (42, 42, 448, 96)
    assert 5 * (short.user + short.answer + 12) <= 512


@pytest.mark.parametrize("name", ["random-llama-7m", "random-gemma2-7m"])
def test_random_checkpoints_write_words_that_are_tokenized_as_they_were_sampled(name: str) -> None:
    import mlx.core as mx

    from mlx_suite.checkpoints.load import load_model
    from mlx_suite.text import load_tokenizer

    with serving_folder(name) as folder:
        words, tokenizer, model = words_of(folder), load_tokenizer(folder), load_model(folder)
        assert context_of(folder) == 8192
        assert "trim" not in (folder / "chat_template.jinja").read_text()
        tokens = sorted(words)[:40]
        for _ in range(12):
            tokens.append(int(mx.argmax(model(mx.array([tokens]))[0, -1])))
    written = tokens[40:]
    assert set(written) <= set(words)
    assert len(set(written)) > 4
    assert tokenizer.encode(tokenizer.decode(written)) == written
