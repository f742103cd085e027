"""`mlx-suite warp`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.main import app
from tests.finetune.story import write_sums


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["warp", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.usefixtures("uncompiled")
def test_rounds_are_reported_and_a_finished_loop_is_not_repeated(random_model: Path, tmp_path: Path) -> None:
    data, short = write_sums(tmp_path / "sums.jsonl"), ("--steps", "1", "--rank", "2", "--valid-share", "0.2")
    arguments = (random_model, data, "--out", tmp_path / "out", "--iterations", "1", *short)
    facts = json.loads(run(*arguments, "--json").stdout)
    [found] = facts["rounds"]
    assert found["merged"] == str(tmp_path / "out" / "iteration-1" / "merged")
    assert len(found["losses"]) == 2
    lines = run(*arguments, "--quiet").stdout.splitlines()
    assert lines[0].startswith("round 1    validation losses ") and lines[0].endswith(" before")
    assert lines[1] == f"model      {found['merged']}"


def test_mistakes_are_refused(random_model: Path, tmp_path: Path) -> None:
    data = write_sums(tmp_path / "sums.jsonl", 12)
    with pytest.raises(UserError, match="No output folder"):
        run(random_model, data)
    with pytest.raises(UserError) as caught:
        run(random_model, data, "--out", tmp_path / "out", "--policies", "1", "--eta", "2")
    assert len(caught.value.details) == 2
    assert not (tmp_path / "out").exists()
