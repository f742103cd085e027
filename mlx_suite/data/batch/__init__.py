"""Pack tokenized examples into rows, and rows into batches."""
