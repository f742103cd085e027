"""A corpus for pretraining: texts of any source, tokenized once into memory-mapped files, mixed by weight."""
