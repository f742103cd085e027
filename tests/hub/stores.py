"""Stores of Ollama and LM Studio in a temporary home, with small GGUF files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

TOKENS = 32
APACHE = "Apache License\n                           Version 2.0, January 2004\n\nTerms and conditions\n"


def write_gguf(
    path: Path,
    *,
    kind: str = "F32",
    license: str | None = "apache-2.0",
    architecture: str = "llama",
    tokenizer: str | None = "llama",
    pre: str = "",
) -> Path:
    """A Llama of two layers with random weights; matrices have the type `kind`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    if license:
        writer.add_license(license)
    writer.add_block_count(2)
    writer.add_context_length(2048)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    if tokenizer:
        writer.add_tokenizer_model(tokenizer)
        writer.add_token_list([f"t{number}" for number in range(TOKENS)])
        writer.add_token_scores([-float(number) for number in range(TOKENS)])
        writer.add_token_types([1] * TOKENS)
        writer.add_token_merges(["t 1"])
        writer.add_eos_token_id(2)
    if pre:
        writer.add_tokenizer_pre(pre)
    type_ = GGMLQuantizationType[kind]

    def add(name: str, *shape: int) -> None:
        if len(shape) == 2 and kind != "F32":
            from gguf.quants import quant_shape_to_byte_shape

            stored = np.zeros(quant_shape_to_byte_shape(shape, type_), np.uint8)
            writer.add_tensor(name, stored, raw_dtype=type_)
        else:
            writer.add_tensor(name, np.ones(shape, np.float32))

    add("token_embd.weight", TOKENS, 256)
    add("output_norm.weight", 256)
    for layer in range(2):
        for name, rows in (("attn_q", 256), ("attn_k", 128), ("attn_v", 128), ("attn_output", 256)):
            add(f"blk.{layer}.{name}.weight", rows, 256)
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            add(f"blk.{layer}.{name}.weight", 256, 256)
        add(f"blk.{layer}.attn_norm.weight", 256)
        add(f"blk.{layer}.ffn_norm.weight", 256)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class OllamaStore:
    """Ollama's folder of models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs").mkdir(parents=True)

    def blob(self, data: bytes) -> Path:
        path = self.root / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}"
        path.write_bytes(data)
        return path

    def add(self, name: str, layers: Mapping[str, bytes], config: Mapping[str, object] | None = None) -> Path:
        """Store a model as `registry/namespace/name/tag`; returns its manifest."""
        config = config or {"model_format": "gguf", "model_family": "llama", "file_type": "Q8_0"}
        manifest = self.root / "manifests" / name
        manifest.parent.mkdir(parents=True, exist_ok=True)
        entries = [self._layer(f"application/vnd.ollama.image.{kind}", data) for kind, data in layers.items()]
        described = self._layer("application/vnd.docker.container.image.v1+json", json.dumps(config).encode())
        manifest.write_text(json.dumps({"schemaVersion": 2, "config": described, "layers": entries}))
        return manifest

    def _layer(self, media_type: str, data: bytes) -> dict[str, object]:
        path = self.blob(data)
        return {"mediaType": media_type, "digest": path.name.replace("-", ":"), "size": len(data)}
