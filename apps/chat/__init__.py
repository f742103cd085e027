"""Chat: a store of conversations."""
