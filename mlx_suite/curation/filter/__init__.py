"""Which rows of a dataset to keep."""
