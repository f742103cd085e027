"""Shipped checkpoints: small, Hugging Face layout, each with its card and recipe."""
