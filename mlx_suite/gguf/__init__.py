"""GGUF files, the format of llama.cpp, Ollama and LM Studio: reading one and turning it into a checkpoint folder."""
