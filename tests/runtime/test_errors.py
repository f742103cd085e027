"""User errors as text, and import errors of MLX."""

import pickle
import subprocess
import sys

import pytest

from mlx_suite.runtime.backend import explain_import_error, import_mlx
from mlx_suite.runtime.errors import UserError


def test_an_error_says_what_is_wrong_where_and_how_to_fix_it() -> None:
    error = UserError("The disk is full", "/data/run", "free some space")

    assert str(error) == (
        "error: The disk is full\n"  #
        "where: /data/run\n"
        "fix:   free some space"
    )


def test_every_detail_has_its_own_line() -> None:
    error = UserError("2 tensors are wrong", "model", "", details=["a: missing", "b: (2, 3)"])

    assert str(error) == ("error: 2 tensors are wrong\n       - a: missing\n       - b: (2, 3)\nwhere: model")


def test_later_lines_stay_in_the_column_after_the_labels() -> None:
    assert str(UserError("one\ntwo", "x", "y")).splitlines()[:2] == ["error: one", "       two"]


def test_an_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(UserError("what", "where", "fix", ["one", "two"])))

    assert (error.what, error.where, error.fix) == ("what", "where", "fix")
    assert error.details == ("one", "two")


def test_importing_the_runtime_does_not_import_mlx() -> None:
    program = "import sys, mlx_suite.runtime.errors; print({'mlx.core', 'numpy'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_the_error_for_a_missing_backend_names_both_extras() -> None:
    error = ImportError("libmlx.so: cannot open shared object file: No such file or directory")

    explained = explain_import_error(error)

    assert explained is not None
    assert explained.what == "MLX is installed without a backend"
    assert explained.fix == 'pip install "mlx-suite[cpu]", or "mlx-suite[cuda]" with an NVIDIA GPU'


def test_another_import_error_is_not_explained() -> None:
    assert explain_import_error(ModuleNotFoundError("No module named 'x'", name="x")) is None


def test_import_mlx_raises_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)

    with pytest.raises(UserError, match="MLX is not installed"):
        import_mlx()
