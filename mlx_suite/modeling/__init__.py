"""Llama 3, Mistral and Gemma 2: blocks, caches, weights."""
