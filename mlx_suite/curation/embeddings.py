"""The vectors of a run's accepted rows, one a row, in a file of numpy beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.collection import Collection
from mlx_suite.runtime.errors import UserError

EMBEDDINGS_FILE = "embeddings.npy"
Vectors = npt.NDArray[np.floating[Any]]


def read_embeddings(collection: Collection) -> Vectors | None:
    """The vectors (rows, d) of a collection; None where it has none.

    Raises UserError for a file that cannot be read, or is not about these rows.
    """
    path = None if collection.folder is None else collection.folder / EMBEDDINGS_FILE
    if path is None or not path.is_file():
        return None
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"The embeddings cannot be read: {error}", where=str(path), fix="make them again") from error
    if vectors.ndim != 2 or len(vectors) != len(collection.rows):
        raise UserError(
            f"The embeddings are of {len(vectors):,} rows, and there are {len(collection.rows):,}",
            where=str(path),
            fix="make them again, or take the file away",
        )
    return vectors


def write_embeddings(path: Path, vectors: Vectors) -> None:
    """Write vectors (rows, d) in half precision."""
    with path.open("wb") as file:
        np.save(file, vectors.astype(np.float16))
