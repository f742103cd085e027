"""Reading the headers of weight files: valid, truncated, and of other kinds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from mlx_suite.checkpoints.safetensors_header import (
    INDEX_NAME,
    read_header,
    read_headers,
    shard_names,
    weight_files,
)
from mlx_suite.runtime.errors import UserError
from tests.hub.server import checkpoint


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_names_shapes_dtypes_and_sizes_equal_those_of_the_safetensors_library(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "a.weight": np.zeros((3, 5), np.float32),
        "b": np.zeros((), np.float16),
        "c": np.zeros((0, 4), np.uint32),
    }
    safetensors.numpy.save_file(tensors, path, metadata={"format": "mlx"})
    found = read_header(path)
    assert {name: (h.dtype, h.shape, h.size, h.num_bytes) for name, h in found.items()} == {
        "a.weight": ("F32", (3, 5), 15, 60),
        "b": ("F16", (), 1, 2),
        "c": ("U32", (0, 4), 0, 0),
    }


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = write(tmp_path, checkpoint(shards=3, rows=8))
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert shard_names(folder) == names
    assert [path.name for path in weight_files(folder)] == names
    assert sorted(read_headers(folder)) == [f"model.part.{number}.weight" for number in range(3)]


def test_without_an_index_a_second_copy_of_the_weights_is_ignored(tmp_path: Path) -> None:
    files = checkpoint(shards=1, rows=8)
    folder = write(tmp_path, files | {"consolidated.safetensors": files["model.safetensors"]})
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        (lambda data: data[:-10], "is truncated: {short} of {all} bytes are present"),
        (lambda data: data[:40], "is truncated within its header (40 of {header} bytes or more)"),
        (lambda data: b"", "is not a safetensors file (0 bytes)"),
        (lambda data: b"<html>not found</html>", "is not a safetensors file (22 bytes)"),
        (
            lambda data: b"version https://git-lfs example\noid sha256:0\n",
            "is a git-lfs pointer, not the weights (`git lfs pull` downloads them)",
        ),
        (lambda data: data[:8] + b"{" * (len(data) - 8), "has a header that is not JSON"),
        (
            lambda data: (2).to_bytes(8, "little") + b"[]",
            "has a header that does not describe tensors",
        ),
    ],
)
def test_a_corrupt_file_is_reported_with_its_defect(
    damage: Callable[[bytes], bytes], detail: str, tmp_path: Path
) -> None:
    whole = checkpoint(shards=1, rows=64)["model.safetensors"]
    header = 8 + int.from_bytes(whole[:8], "little")
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(whole))
    with pytest.raises(UserError) as caught:
        read_header(path)
    expected = detail.format(short=f"{len(whole) - 10:,}", all=f"{len(whole):,}", header=header)
    assert caught.value.details == (f"model.safetensors {expected}",)


def test_all_bad_shards_are_listed_in_one_error(tmp_path: Path) -> None:
    files = checkpoint(shards=3, rows=64)
    names = [name for name in sorted(files) if name.endswith(".safetensors")]
    files[names[0]] = files[names[0]][:-1]
    files[names[2]] = b"junk"
    with pytest.raises(UserError) as caught:
        read_headers(write(tmp_path, files))
    assert [detail.split(" ")[0] for detail in caught.value.details] == [names[0], names[2]]
    assert "mlx-suite models pull" in caught.value.fix


def test_all_missing_shards_are_listed_in_one_error(tmp_path: Path) -> None:
    files = checkpoint(shards=3, rows=8)
    missing = [f"model-0000{number}-of-00003.safetensors" for number in (1, 3)]
    for name in missing:
        del files[name]
    with pytest.raises(UserError) as caught:
        weight_files(write(tmp_path, files))
    assert caught.value.what == "2 of 3 weight files are missing"
    assert caught.value.details == tuple(missing)


def test_a_tensor_missing_from_its_shard_is_reported(tmp_path: Path) -> None:
    files = checkpoint(shards=2, rows=8)
    index = json.loads(files[INDEX_NAME])
    index["weight_map"]["lost.weight"] = "model-00001-of-00002.safetensors"
    files[INDEX_NAME] = json.dumps(index).encode()
    with pytest.raises(UserError) as caught:
        read_headers(write(tmp_path, files))
    assert caught.value.details == (f"lost.weight is in {INDEX_NAME} but not in any file",)


def test_an_index_of_shards_that_are_gone_is_ignored_beside_other_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = checkpoint(shards=2, rows=8)
    [whole] = [data for name, data in checkpoint(shards=1, rows=8).items() if name.endswith(".safetensors")]
    left = {name: files[name] for name in (INDEX_NAME, "model-00002-of-00002.safetensors")}
    folder = write(tmp_path, {"model.safetensors": whole, **left})
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]
    assert {header.file.name for header in read_headers(folder).values()} == {"model.safetensors"}
    assert "names weight files that are not there" in caplog.text


def test_an_index_must_not_point_outside_its_folder(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "../secret.safetensors"}}).encode()
    with pytest.raises(UserError) as caught:
        weight_files(write(tmp_path, {INDEX_NAME: index}))
    assert caught.value.details == ("../secret.safetensors",)


@pytest.mark.parametrize("index", [b"{", b"[]", b'{"weight_map": 3}', b"\xff"])
def test_an_unreadable_index_is_reported(index: bytes, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"model\.safetensors\.index\.json (is not|contains a list)|weight_map is 3, not an object of file names",
    ):
        weight_files(write(tmp_path, {INDEX_NAME: index}))


def test_a_folder_without_weights_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the folder has no weights"):
        weight_files(tmp_path)
