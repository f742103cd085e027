"""Sanitiser: what is removed from a generated instruction, and what stays."""
