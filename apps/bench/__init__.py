"""Benchmarks: our code compared with other libraries', both measured in one run."""
