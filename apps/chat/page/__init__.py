"""The page that the server shows, and answers rendered as HTML."""
