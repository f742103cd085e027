"""Benchmarks: our code beside other libraries', both sides in one run."""
