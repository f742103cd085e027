"""Runs these tests on the CPU, like those of the models."""

from tests.modeling.conftest import on_the_cpu

__all__ = ["on_the_cpu"]
