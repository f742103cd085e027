"""Reflection: instructions or responses rewritten, and kept only if a judge prefers them in both orders."""
