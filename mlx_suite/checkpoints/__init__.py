"""Checkpoints on disk: loading, saving, quantized weights, safetensors headers and config files."""
