"""What a program says that ends with a user's error."""

import sys
from pathlib import Path

import pytest

from mlx_suite_apps.cli.main import main


def stderr_of_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> str:
    """Stderr of `mlx-suite` with these arguments, which exits with 2 and prints nothing to stdout."""
    monkeypatch.setattr(sys, "argv", ["mlx-suite", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err
