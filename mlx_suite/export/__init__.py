"""Models for other programs: adapters fused, weights quantized, GGUF with its Modelfile."""
