"""Training data: from records in files to rows of tokens."""
