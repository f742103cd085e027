"""`mlx-suite bench serve`: results of every server, as a table and as JSON."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.bench.serving import Load, Measured
from mlx_suite_apps.bench.serving_peers import Peer
from mlx_suite_apps.cli.main import app


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, ["bench", "serve", *arguments], catch_exceptions=False).stdout


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Load]]:
    """Replace `compare` with a fake; returns the list of its servers and loads."""
    calls: list[tuple[list[str], Load]] = []

    def compare(
        peers: Sequence[Peer], folder: Path, words: Sequence[str], load: Load, on_step: Callable[[str], None]
    ) -> list[Measured]:
        assert (folder / "model.safetensors").is_file()
        assert " the" in words
        calls.append(([peer.name for peer in peers], load))
        results = [
            Measured(
                name=peer.name,
                blas="OpenBLAS",
                first_tokens={1: [0.04], 5: [0.02 * (1 + place)]},
                pauses=[12.5],
                arriving=[12.5],
                speeds={clients: [1000.0 * clients / (1 + place)] for clients in load.clients},
                written={clients: [clients * load.tokens] for clients in load.clients},
                requests={"16 clients": 16},
                differing={clients: 0 for clients in load.clients if clients > 1},
                peak_bytes=1_234_000_000,
            )
            for place, peer in enumerate(peers)
        ]
        results[-1].failures["16 clients"] = ["HTTP 500"] * 16
        del results[-1].differing[16]
        return results

    monkeypatch.setattr("mlx_suite_apps.bench.serving.compare", compare)
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    return calls


def test_the_table_of_four_servers_fits_80_columns(
    compared: list[tuple[list[str], Load]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("tiny-llama3", "--rapid-mlx", "a/bin/python", "--vllm-mlx", "b/bin/python").splitlines()
    assert max(map(len, lines)) <= 80
    table = {line[:20].strip(): line[20:].split() for line in lines}
    assert table["median"] == ["mlx-suite", "mlx-lm", "rapid-mlx", "vllm-mlx", "ratio", "aim"]
    assert table["first token, turn 5"] == ["20", "ms", "40", "ms", "60", "ms", "80", "ms", "0.50x", "≤", "0.5x"]
    assert table["longest pause"] == ["12,500", "ms"] * 4 + ["1.00x", "≤", "0.5x"]
    assert table["tok/s, 1 client"] == ["1,000", "500", "333", "250", "2.00x", "≥", "1.0x"]
    assert table["tok/s, 16 clients"] == ["16,000", "8,000", "5,333", "failed", "2.00x", "≥", "1.3x"]
    assert table["wrong text, of 16"] == ["0", "0", "0", "-"]
    assert table["peak MB"] == ["1,234"] * 4
    assert table["BLAS"] == ["OpenBLAS"] * 4
    assert (
        " ".join(lines)
        .replace("  ", " ")
        .strip()
        .endswith("note: vllm-mlx, 16 clients: 16 of 16 requests failed (HTTP 500), and were not repeated")
    )


def test_json_has_medians_ratios_notes_and_every_round(compared: list[tuple[list[str], Load]]) -> None:
    [report] = json.loads(run("tiny-llama3", "--clients", "1,16", "--tokens", "32", "--rounds", "2", "--json"))
    [(names, load)] = compared
    assert names == report["servers"] == ["mlx-suite", "mlx-lm"]
    assert (load.clients, load.tokens, load.rounds) == ((1, 16), 32, 2)
    # tiny-llama3 holds 512 tokens.
    assert load.arriving == report["load"]["arriving"] == 448
    speed = next(row for row in report["medians"] if row["title"] == "tok/s, 1 client")
    assert (speed["values"], speed["ratio"], speed["reached"]) == ([1000.0, 500.0], 2.0, True)
    assert report["measured"][1]["speeds"] == {"1": [500.0], "16": [8000.0]}
    assert report["notes"] == ["mlx-lm, 16 clients: 16 of 16 requests failed (HTTP 500), and were not repeated"]


def test_servers_chooses_among_those_that_are_there(compared: list[tuple[list[str], Load]]) -> None:
    run("tiny-llama3", "--servers", "mlx-lm, vllm-mlx", "--vllm-mlx", "b/bin/python")
    assert compared[0][0] == ["mlx-lm", "vllm-mlx"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--servers", "ollama"), "--servers is 'ollama'"),
        (("--servers", "rapid-mlx"), "--servers is 'rapid-mlx'"),  # no option names its Python
        (("--clients", "1,x"), "--clients is '1,x', not a list of positive integers"),
    ],
)
def test_servers_and_clients_that_cannot_be_are_refused(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        CliRunner().invoke(app, ["bench", "serve", *arguments], catch_exceptions=False)
