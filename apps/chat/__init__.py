"""Chat: a conversation with a model in the terminal; a store of conversations, and answers rendered as HTML."""
