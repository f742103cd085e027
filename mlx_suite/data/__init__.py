"""From records to rows of tokens."""
