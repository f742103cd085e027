"""The end of a corpus is held out in whole documents, and nothing is lost or in both parts."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.data.corpus.batches import CorpusBatches
from mlx_suite.data.corpus.mixture import MixturePart
from mlx_suite.data.corpus.token_file import TokenFile
from mlx_suite.data.corpus.tokenize import tokenize_corpus
from mlx_suite.pretrain.held_out import MOST, hold_out
from mlx_suite.text import load_tokenizer


def corpus(letters: Path, folder: Path, texts: list[str]) -> TokenFile:
    """A document has one token per letter, BOS and EOS."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "texts.txt").write_text("\n\n".join(texts))
    return tokenize_corpus(folder / "texts.txt", load_tokenizer(letters), folder / "tokens", separator="\n\n")


def documents(file: TokenFile) -> list[int]:
    """Lengths of the documents."""
    return np.diff(np.concatenate([[0], np.asarray(file.ends, np.int64)])).tolist()


def test_the_last_whole_documents_are_held_out(letters: Path, tmp_path: Path) -> None:
    file = corpus(letters, tmp_path, ["abcdefgh"] * 9 + ["ab"])
    train, held_out = hold_out(file, 0.2)
    assert held_out is not None
    assert documents(train) == [10] * 8
    assert documents(held_out) == [10, 4]
    assert train.read(0, 80).tolist() + held_out.read(0, 14).tolist() == file.read(0, 94).tolist()
    assert held_out.document(1).tolist() == file.document(9).tolist()
    assert held_out.tokens.tolist() == held_out.read(0, 14).tolist()


def test_a_share_smaller_than_the_last_document_cuts_it(letters: Path, tmp_path: Path) -> None:
    file = corpus(letters, tmp_path, ["abcdefgh" * 10])
    train, held_out = hold_out(file, 0.25)
    assert held_out is not None
    assert (documents(train), documents(held_out)) == ([62], [20])


def test_the_parts_have_fingerprints_of_their_own(letters: Path, tmp_path: Path) -> None:
    file = corpus(letters, tmp_path, ["abcd"] * 10)
    train, held_out = hold_out(file, 0.2)
    assert held_out is not None
    assert len({file.fingerprint, train.fingerprint, held_out.fingerprint}) == 3
    with pytest.raises(AttributeError):
        _ = train.text_bytes


@pytest.mark.parametrize(("share", "text"), [(0.0, "abcdefgh"), (0.1, "abcdefgh"), (0.9, "a")])
def test_nothing_is_held_out_of_a_share_or_a_corpus_that_is_too_small(
    letters: Path, tmp_path: Path, share: float, text: str
) -> None:
    file = corpus(letters, tmp_path, [text])
    assert hold_out(file, share) == (file, None)


def test_a_large_corpus_gives_a_limited_number_of_tokens(letters: Path, tmp_path: Path) -> None:
    file = corpus(letters, tmp_path, ["abcdefgh" * 100] * 150)
    _, held_out = hold_out(file, 0.9)
    assert held_out is not None
    assert MOST - 802 < held_out.count <= MOST


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12), share=st.floats(0.0, 0.99), rows=st.integers(1, 9)
)
def test_every_token_is_in_exactly_one_part(
    letters: Path, tmp_path_factory: pytest.TempPathFactory, lengths: list[int], share: float, rows: int
) -> None:
    file = corpus(letters, tmp_path_factory.mktemp("any"), ["a" * length for length in lengths])
    train, held_out = hold_out(file, share)
    parts = [part for part in (train, held_out) if part is not None]
    assert sum((part.read(0, part.count).tolist() for part in parts), []) == file.read(0, file.count).tolist()
    assert sum(sum(documents(part)) for part in parts) == file.count
    assert held_out is None or held_out.count <= share * file.count
    for part in parts:
        batches = CorpusBatches([MixturePart(name="a", file=part, weight=1.0)], length=rows, size=2, isolate=True)
        [entry] = batches.ledger(seed=0, steps=batches.per_epoch)
        assert entry.tokens == part.count - part.documents
