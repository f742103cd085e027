"""Conversations in a SQLite file: a tree of messages each, search, import and export."""
