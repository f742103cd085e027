"""Models for other programs: fused adapters, quantized weights, GGUF with a Modelfile."""
