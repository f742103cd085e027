"""The random checkpoint and the folder that Magpie's tests fill."""

from tests.magpie.conftest import checkpoint, same_rows, undisturbed

__all__ = ["checkpoint", "same_rows", "undisturbed"]
