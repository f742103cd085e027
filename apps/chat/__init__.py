"""Chat: a store of conversations, and answers rendered as HTML."""
