"""Llama 3, Mistral, Gemma 2 and 3, Qwen 3: blocks, caches, weights."""
