"""The whole story on real weights: `make real`."""
