"""Chat: conversations in a file of the user's."""
