"""Headers of GGUF files, and files that are none."""

import struct
from pathlib import Path

import numpy as np
import pytest

from mlx_suite.gguf.file import GgufTensor, is_gguf, open_gguf
from mlx_suite.runtime.errors import UserError
from tests.gguf.files import write_file


def test_metadata_and_tensors_are_read_without_weights(tmp_path: Path) -> None:
    file = write_file(tmp_path / "model.gguf", type="Q4_K", metadata={"general.name": "Tiny", "x.list": [1, 2, 3]})
    found = open_gguf(file)
    assert found.architecture == "llama"
    assert found.metadata["general.name"] == "Tiny"
    assert found.metadata["llama.attention.head_count"] == 4
    assert found.metadata["tokenizer.ggml.tokens"][:2] == ["!", '"']
    assert list(found.metadata["x.list"]) == [1, 2, 3]
    assert found.tensors["blk.0.attn_q.weight"].shape == (512, 256)
    assert found.tensors["blk.0.attn_q.weight"].type == "Q4_K"
    assert found.tensors["blk.0.attn_q.weight"].nbytes == 512 * 144
    assert found.parts == (file,)


def test_the_bytes_of_a_tensor_are_where_the_header_says(tmp_path: Path) -> None:
    norm = np.arange(256, dtype=np.float32)
    file = write_file(tmp_path / "model.gguf", weights={"output_norm.weight": norm})
    tensor = open_gguf(file).tensors["output_norm.weight"]
    assert tensor == GgufTensor("output_norm.weight", (256,), "F32", tensor.offset, 1024, file)
    assert file.read_bytes()[tensor.offset :][:1024] == norm.tobytes()


def damaged(tmp_path: Path, content: bytes) -> str:
    """What is said of a file with this content."""
    (tmp_path / "damaged.gguf").write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_gguf(tmp_path / "damaged.gguf")
    assert caught.value.where == str(tmp_path / "damaged.gguf")
    return caught.value.what


def test_other_files_and_versions_are_refused_by_what_they_are(tmp_path: Path) -> None:
    whole = write_file(tmp_path / "model.gguf").read_bytes()
    assert damaged(tmp_path, b"") == "this is not a GGUF file (0 bytes)"
    assert damaged(tmp_path, b"PK" + whole[2:]).startswith("this is not a GGUF file")
    assert damaged(tmp_path, whole[:4] + struct.pack("<I", 1) + whole[8:]) == (
        "the GGUF file has version 1; 2 and 3 are supported"
    )
    assert damaged(tmp_path, whole[:4] + struct.pack(">I", 3) + whole[8:]) == "the GGUF file is big-endian"


def test_a_truncated_file_is_told_in_its_header_and_in_its_weights(tmp_path: Path) -> None:
    whole = write_file(tmp_path / "model.gguf").read_bytes()
    assert damaged(tmp_path, whole[:2000]) == "the file is truncated within its header (2,000 bytes)"
    assert damaged(tmp_path, whole[:-5000]) == (
        f"the file is truncated: {len(whole) - 5000:,} of {len(whole):,} bytes are present"
    )


def test_no_damage_of_the_header_ends_in_another_error(tmp_path: Path) -> None:
    """Random bytes in the header give a UserError, or a header that can still be read."""
    whole = bytearray(write_file(tmp_path / "model.gguf").read_bytes())
    random = np.random.RandomState(0)
    told = 0
    for _ in range(200):
        content = bytearray(whole)
        for place in random.randint(4, 9000, 4):
            content[place] = random.randint(0, 256)
        (tmp_path / "damaged.gguf").write_bytes(content)
        try:
            open_gguf(tmp_path / "damaged.gguf")
        except UserError:
            told += 1
    assert told > 50


def test_a_gguf_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    write_file(tmp_path / "sha256-0123")
    (tmp_path / "notes.txt").write_text("GGML")
    assert is_gguf(tmp_path / "sha256-0123")
    assert not is_gguf(tmp_path / "notes.txt")
    assert not is_gguf(tmp_path / "missing.gguf")
    assert not is_gguf(tmp_path)
