"""Tokenizing a corpus: the tokens of `Tokenizer.encode`, the same bytes after any interruption, and clear refusals."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_suite.data.corpus import pieces, tokenize
from mlx_suite.data.corpus.token_file import TokenFile
from mlx_suite.data.corpus.tokenize import tokenize_corpus
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.text import Tokenizer, load_tokenizer
from tests.data.corpus.conftest import MakeFile
from tests.text.conftest import Family

BEGIN, END = 256, 265

STORY = (
    "Ann's house in 2024 — a café near 東京 — had 12345 books, didn't it?\n\n\n"
    "  She read\tthem all;  'twice', she'd say. \n"
)


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def content(file: TokenFile) -> dict[str, bytes]:
    return {name: (file.folder / name).read_bytes() for name in ("manifest.json", "tokens.bin", "ends.bin")}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 40 letters, and a checkpoint after each."""
    monkeypatch.setattr(tokenize, "BATCH", 40)
    monkeypatch.setattr(tokenize, "CHECKPOINT", 1)


# ---- tokens


def test_every_document_is_bos_text_eos(make_file: MakeFile) -> None:
    file = make_file(["AB", "é"])
    assert file.tokens.dtype == np.uint16
    assert file.tokens.tolist() == [BEGIN, 32, 33, END, BEGIN, 127, 102, END]
    assert file.ends.tolist() == [4, 8]
    assert (file.documents, file.count, file.text_bytes) == (2, 8, 4)
    assert file.document(0).tolist() == [BEGIN, 32, 33, END]
    assert file.read(5, 7).tolist() == file.tokens[5:7].tolist() == [127, 102]


def test_a_model_without_bos_gets_none(tmp_path: Path, family: Callable[[str], Family]) -> None:
    tokenizer = family("qwen2").tokenizer
    file = tokenize_corpus(write_lines(tmp_path / "a.jsonl", ["Hi"]), tokenizer, tmp_path / "tokens")
    assert file.tokens.tolist() == [*tokenizer.encode("Hi"), tokenizer.eos_id]


def test_large_vocabularies_need_four_bytes_a_token() -> None:
    from mlx_suite.data.corpus.token_file import id_type

    assert [id_type(size) for size in (65_536, 65_537)] == ["<u2", "<u4"]


@pytest.mark.parametrize("name", ["llama3", "gemma2", "mistral", "phi3", "qwen2"])
def test_a_document_tokenized_in_pieces_has_the_tokens_of_the_whole(
    tmp_path: Path, family: Callable[[str], Family], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LONG", 100)
    monkeypatch.setattr(pieces, "NEARBY", 30)
    tokenizer = family(name).tokenizer
    texts = [STORY * 20, "short", STORY]
    file = tokenize_corpus(write_lines(tmp_path / "a.jsonl", texts), tokenizer, tmp_path / "tokens")
    for number, text in enumerate(texts):
        assert file.document(number).tolist() == [*tokenizer.encode_prompt(text), tokenizer.eos_id]


def test_a_sentencepiece_model_gives_its_own_tokens(tmp_path: Path, gemma2_model_folder: Path) -> None:
    tokenizer = load_tokenizer(gemma2_model_folder)
    file = tokenize_corpus(write_lines(tmp_path / "a.jsonl", [STORY, "Hi"]), tokenizer, tmp_path / "tokens")
    assert file.document(0).tolist() == [*tokenizer.encode_prompt(STORY), tokenizer.eos_id]


def test_a_line_of_200_000_words_is_one_document(tmp_path: Path, letters: Tokenizer) -> None:
    source = write_lines(tmp_path / "a.jsonl", ["of " * 200_000, "end"])
    file = tokenize_corpus(source, letters, tmp_path / "tokens")
    assert file.ends.tolist() == [600_002, 600_007]
    assert file.tokens[:5].tolist() == [BEGIN, 78, 69, 220, 78]


def test_text_without_any_whitespace_is_tokenized_whole(
    tmp_path: Path, letters: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LONG", 10)
    monkeypatch.setattr(pieces, "TOO_LONG", 35)
    file = tokenize_corpus(write_lines(tmp_path / "a.jsonl", ["a" * 80]), letters, tmp_path / "tokens")
    assert file.tokens.tolist() == [BEGIN, *[64] * 80, END]


def test_blank_texts_are_counted_and_skipped(tmp_path: Path, letters: Tokenizer) -> None:
    source = write_lines(tmp_path / "a.jsonl", ["", "A", " \n", "B", ""])
    file = tokenize_corpus(source, letters, tmp_path / "tokens")
    assert (file.documents, file.manifest["blank"], file.manifest["problems"]) == (2, 3, 0)


# ---- interruptions


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def killed_after(steps: int) -> Callable[[int, int], None]:
    left = iter(range(steps))

    def tell(documents: int, text_bytes: int) -> None:
        if next(left, None) is None:
            raise Killed

    return tell


@pytest.mark.usefixtures("small_batches")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text("ab \n", max_size=90), min_size=3, max_size=12),
    kills=st.lists(st.integers(0, 4), max_size=4),
    torn=st.integers(0, 50),
    workers=st.integers(1, 3),
)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    letters: Tokenizer,
    texts: list[str],
    kills: list[int],
    torn: int,
    workers: int,
) -> None:
    folder = tmp_path_factory.mktemp("resume")
    source = folder / "a.txt"
    source.write_text("<end>".join(["start", *texts]))
    whole = tokenize_corpus(source, letters, folder / "whole", separator="<end>")
    for steps in kills:
        if (folder / "tokens" / "manifest.json").exists():
            break
        try:
            tokenize_corpus(
                source, letters, folder / "tokens", separator="<end>", tell=killed_after(steps), workers=workers
            )
        except Killed:
            with (folder / "tokens" / "tokens.bin").open("ab") as file:
                file.write(b"x" * torn)
    resumed = tokenize_corpus(source, letters, folder / "tokens", separator="<end>", workers=workers)
    assert content(resumed) == content(whole)


KILLED_RUN = """
import os, signal, sys
from mlx_suite.data.corpus import tokenize
from mlx_suite.text import load_tokenizer
tokenize.BATCH, tokenize.CHECKPOINT = 400, 1
left = iter(range(6))
def tell(documents, text_bytes):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
tokenize.tokenize_corpus(sys.argv[1], load_tokenizer(sys.argv[2]), sys.argv[3], tell=tell)
"""


def test_a_killed_process_resumes_after_its_last_checkpoint(tmp_path: Path, byte_folder: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [f"Text {number}. " * 9 for number in range(60)])
    tokenizer = load_tokenizer(byte_folder)
    whole = tokenize_corpus(source, tokenizer, tmp_path / "whole")
    run = [sys.executable, "-c", KILLED_RUN, str(source), str(byte_folder), str(tmp_path / "tokens")]
    assert subprocess.run(run, capture_output=True).returncode == -signal.SIGKILL
    steps: list[int] = []
    resumed = tokenize_corpus(
        source, tokenizer, tmp_path / "tokens", tell=lambda documents, text_bytes: steps.append(documents)
    )
    assert steps[0] > 20
    assert content(resumed) == content(whole)


@pytest.mark.usefixtures("small_batches")
def test_a_power_cut_that_shortened_the_files_costs_only_what_was_lost(tmp_path: Path, letters: Tokenizer) -> None:
    source = write_lines(tmp_path / "a.jsonl", [letter * 30 for letter in "ABCDEFGH"])
    whole = tokenize_corpus(source, letters, tmp_path / "whole")
    with pytest.raises(Killed):
        tokenize_corpus(source, letters, tmp_path / "tokens", tell=killed_after(3))
    os.truncate(tmp_path / "tokens" / "tokens.bin", 150)
    assert content(tokenize_corpus(source, letters, tmp_path / "tokens")) == content(whole)


@pytest.mark.usefixtures("small_batches")
def test_a_full_disk_is_reported_and_costs_nothing(
    tmp_path: Path, letters: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "a.jsonl", [letter * 30 for letter in "ABCDEFGH"])
    whole = tokenize_corpus(source, letters, tmp_path / "whole")
    room = iter([64, 8, 64, 8, 31])

    def write(handle: int, data: bytes) -> int:
        if not bytes(data[:1]).startswith(b"{"):
            left = next(room, 0)
            if not left:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = data[:left]
        return real(handle, data)

    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(UserError, match="The disk is full. What was tokenized before is kept"):
            tokenize_corpus(source, letters, tmp_path / "tokens")
    assert content(tokenize_corpus(source, letters, tmp_path / "tokens")) == content(whole)


# ---- reuse


@pytest.fixture
def finished(tmp_path: Path, letters: Tokenizer) -> TokenFile:
    return tokenize_corpus(write_lines(tmp_path / "a.jsonl", ["AB", "CD"]), letters, tmp_path / "tokens")


def again(file: TokenFile, tokenizer: Tokenizer, **options: str) -> TokenFile:
    return tokenize_corpus(file.folder.parent / "a.jsonl", tokenizer, file.folder, **options)  # type: ignore[arg-type]


def test_a_finished_folder_is_reused(finished: TokenFile, letters: Tokenizer) -> None:
    before = (finished.folder / "tokens.bin").stat().st_mtime_ns
    os.utime(finished.folder.parent / "a.jsonl")  # Another time, the same content.
    assert content(again(finished, letters)) == content(finished)
    assert (finished.folder / "tokens.bin").stat().st_mtime_ns == before
    assert sorted(path.name for path in finished.folder.iterdir()) == [
        ".lock", "ends.bin", "manifest.json", "tokens.bin"
    ]  # fmt: skip


def test_a_corpus_that_changed_since_is_refused_and_the_tokens_stay(finished: TokenFile, letters: Tokenizer) -> None:
    before = content(finished)
    write_lines(finished.folder.parent / "a.jsonl", ["AB", "CD", "EF"])
    with pytest.raises(UserError, match="The corpus has changed since it was tokenized") as caught:
        again(finished, letters)
    assert caught.value.details == ("a.jsonl had 30 bytes, now 45, of other content",)
    assert content(finished) == before


def test_a_changed_corpus_starts_an_unfinished_folder_again(
    tmp_path: Path, letters: Tokenizer, small_batches: None
) -> None:
    source = write_lines(tmp_path / "a.jsonl", [letter * 30 for letter in "ABCDEFGH"])
    with pytest.raises(Killed):
        tokenize_corpus(source, letters, tmp_path / "tokens", tell=killed_after(3))
    write_lines(source, [letter * 30 for letter in "XBCD"])
    resumed = tokenize_corpus(source, letters, tmp_path / "tokens")
    assert content(resumed) == content(tokenize_corpus(source, letters, tmp_path / "whole"))


def test_a_corpus_that_changes_while_it_is_read_is_refused(tmp_path: Path, letters: Tokenizer) -> None:
    source = write_lines(tmp_path / "a.jsonl", ["AB", "CD"])

    def grow(documents: int, text_bytes: int) -> None:
        write_lines(source, ["AB", "CD", "EF"])

    with pytest.raises(UserError, match="The corpus changed while it was tokenized"):
        tokenize_corpus(source, letters, tmp_path / "tokens", tell=grow)
    assert tokenize_corpus(source, letters, tmp_path / "tokens").documents == 3


def test_another_tokenizer_is_refused(finished: TokenFile, family: Callable[[str], Family]) -> None:
    other = family("qwen2").tokenizer
    with pytest.raises(UserError, match="other settings") as caught:
        again(finished, other)
    assert caught.value.details[0].startswith("tokenizer: was ")
    with pytest.raises(UserError, match="The tokens were made with another tokenizer"):
        TokenFile.open(finished.folder, other)


def test_a_copy_of_the_tokenizer_opens_the_tokens(finished: TokenFile, byte_folder: Path) -> None:
    assert TokenFile.open(finished.folder, load_tokenizer(byte_folder)).fingerprint == finished.fingerprint


def test_other_options_are_refused(finished: TokenFile, letters: Tokenizer) -> None:
    with pytest.raises(UserError) as caught:
        again(finished, letters, field="story")
    assert caught.value.details == ('field: was "text", now "story"',)


def test_a_folder_that_another_run_uses_is_refused(finished: TokenFile, letters: Tokenizer) -> None:
    with folder_lock(finished.folder), pytest.raises(UserError, match="Another run is using it"):
        again(finished, letters)


# ---- damage


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("name", ["tokens.bin", "ends.bin"])
@pytest.mark.parametrize(
    ("damage", "what"),
    [(cut, " has 15 bytes; expected 16"), (flip, " is damaged: its checksum"), (Path.unlink, " is missing")],
)
def test_damaged_tokens_are_refused_and_made_again_from_the_corpus(
    finished: TokenFile, letters: Tokenizer, name: str, damage: Callable[[Path], None], what: str
) -> None:
    before = content(finished)
    damage(finished.folder / name)
    with pytest.raises(UserError, match=f"{name}{what}"):
        TokenFile.open(finished.folder)
    assert content(again(finished, letters)) == before


def test_an_unfinished_folder_is_not_opened(finished: TokenFile) -> None:
    (finished.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="The tokens are not finished"):
        TokenFile.open(finished.folder)


# ---- bad corpora


def test_texts_that_cannot_be_read_are_refused_all_at_once(tmp_path: Path, letters: Tokenizer) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "A"}\n{"story": "B"}\n{"text": "C"}\n{"text": 4}\n')
    for _ in range(2):
        with pytest.raises(UserError, match="There are 2 problems with the data") as caught:
            tokenize_corpus(source, letters, tmp_path / "tokens")
        assert caught.value.details == (
            "a.jsonl:2: there is no field 'text'; its fields are 'story'",
            "a.jsonl:4: 'text' is the number 4; expected text",
        )
    file = tokenize_corpus(source, letters, tmp_path / "tokens", skip_bad=True)
    assert file.tokens.tolist() == [BEGIN, 32, END, BEGIN, 34, END]
    assert file.manifest["problems"] == 2


@pytest.fixture
def blank_corpus(tmp_path: Path) -> Iterator[Path]:
    yield write_lines(tmp_path / "a.jsonl", ["", " "])


def test_a_corpus_of_blank_texts_is_refused(blank_corpus: Path, letters: Tokenizer) -> None:
    with pytest.raises(UserError, match="no text in the corpus: 2 of its texts are blank"):
        tokenize_corpus(blank_corpus, letters, blank_corpus.parent / "tokens")


def test_a_tokenizer_without_eos_is_refused(blank_corpus: Path, byte_folder: Path, tmp_path: Path) -> None:
    for path in byte_folder.iterdir():
        config = json.loads(path.read_text()) if path.name == "tokenizer_config.json" else None
        if config:
            del config["eos_token"]
        if path.name != "special_tokens_map.json":
            (tmp_path / path.name).write_text(json.dumps(config) if config else path.read_text())
    with pytest.raises(UserError, match="names no EOS token"):
        tokenize_corpus(blank_corpus, load_tokenizer(tmp_path), tmp_path / "tokens")
