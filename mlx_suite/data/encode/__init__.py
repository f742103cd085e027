"""Encode messages as tokens with a loss mask, in a prompt style and within a length limit."""
