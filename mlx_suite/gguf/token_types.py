"""Types of tokens in a GGUF file (`tokenizer.ggml.token_type`)."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""SentencePiece's types. CONTROL is never found in a user's text; USER_DEFINED is found there before the merges."""
