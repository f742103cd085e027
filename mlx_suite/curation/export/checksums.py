"""SHA256SUMS beside some files: `sha256sum -c SHA256SUMS` (on a Mac `shasum -a 256 -c`) says whether they are whole."""

import hashlib
from pathlib import Path

CHECKSUMS_FILE = "SHA256SUMS"
_CHUNK = 1 << 20


def write_checksums(folder: Path) -> None:
    """Write one line for each file in the folder and below it, in the order of their names."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in files if name != CHECKSUMS_FILE]
    (folder / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
