"""The CPU, as in the tests of the models themselves."""

from tests.modeling.conftest import on_the_cpu

__all__ = ["on_the_cpu"]
