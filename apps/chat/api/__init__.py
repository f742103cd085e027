"""The HTTP API: OpenAI's, Anthropic's and Ollama's protocols as thin adapters over one request type."""
