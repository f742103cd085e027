"""Turn messages into tokens with a loss mask, in a prompt style, within a length limit."""
