"""A tokenizer with more, as many or fewer ids than the embedding has rows, from loading to export.

MLX scatters and gathers past the end of an array without an error, so no id without a row may get that far.
"""

import json
import logging
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite import load
from mlx_suite.engine import Engine, Given, Queries, Query, Request, Sample, Sampling
from mlx_suite.export.fuse import fuse_checkpoint
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import finetune
from mlx_suite.magpie import make_dataset
from mlx_suite.runtime import debug
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_chat_template, load_tokenizer
from mlx_suite.text.training import LLAMA3_SPECIALS
from tests.finetune.story import sums_settings
from tests.magpie.conftest import load_checkpoint
from tests.magpie.random_checkpoint import TOKENS, write_checkpoint

FEWEST = TOKENS - 6
"""Rows below which `<|eot_id|>`, the stop token, has none."""


@pytest.fixture(autouse=True)
def checked_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "enabled", True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Checkpoints by their rows: fewer than the tokenizer has ids, as many, and more."""
    return {
        rows: write_checkpoint(tmp_path_factory.mktemp("models") / str(rows), rows=rows)
        for rows in (TOKENS - 5, TOKENS, TOKENS + 24)
    }


@pytest.fixture(scope="module")
def tokenizer_folder(folders: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose config may be changed."""
    folder = tmp_path_factory.mktemp("tokenizer") / "changed"
    shutil.copytree(folders[TOKENS], folder)
    return folder


def with_rows(folder: Path, rows: int) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
    return folder


@given(rows=st.integers(TOKENS - 60, TOKENS + 60), text=st.text(max_size=30), special=st.sampled_from(LLAMA3_SPECIALS))
def test_every_id_has_a_row_or_the_tokenizer_is_refused(
    tokenizer_folder: Path, rows: int, text: str, special: str
) -> None:
    with_rows(tokenizer_folder, rows)
    if rows < FEWEST:
        with pytest.raises(UserError, match="has ids beyond"):
            load_tokenizer(tokenizer_folder)
        return
    tokenizer = load_tokenizer(tokenizer_folder)

    ids = [*tokenizer.encode_prompt(text + special), *tokenizer.special_ids, *tokenizer.stop_ids]

    assert max(ids) < rows
    assert tokenizer.vocab_size == min(rows, TOKENS)
    assert len(tokenizer.outside) == max(0, TOKENS - rows)
    if special in tokenizer.outside:
        with pytest.raises(UserError, match="the text contains"):
            tokenizer.encode_with_specials(special)
    else:
        assert tokenizer.encode_with_specials(special) == [tokenizer.id_of(special)]


def test_a_refusal_names_the_stop_token_bos_and_ordinary_tokens(tokenizer_folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_tokenizer(with_rows(tokenizer_folder, 250))

    details = caught.value.details
    assert details[:3] == ("stop token 257", "stop token 265", "BOS '<|begin_of_text|>', id 256")
    assert [line.partition(", ")[2] for line in details[3:8]] == [f"id {index}" for index in range(250, 255)]
    assert details[8:] == ("and 1 more ordinary tokens",)


def test_special_tokens_without_a_row_are_disabled_with_one_warning(
    tmp_path: Path, folders: dict[int, Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "noted"
    shutil.copytree(folders[TOKENS - 5], folder)
    with caplog.at_level(logging.WARNING, logger="mlx_suite"):
        load_tokenizer(folder)
        load_tokenizer(folder)

    [record] = caplog.records
    assert "beyond the embedding's 267 rows" in record.getMessage()
    assert "<|reserved_special_token_7|> (271)" in record.getMessage()


def test_a_multimodal_config_keeps_its_rows_in_the_text_part(tokenizer_folder: Path) -> None:
    config = json.loads((tokenizer_folder / "config.json").read_text())
    rows = TOKENS - 5
    nested = {key: value for key, value in config.items() if key != "vocab_size"} | {
        "text_config": {"vocab_size": rows}
    }
    (tokenizer_folder / "config.json").write_text(json.dumps(nested))

    assert load_tokenizer(tokenizer_folder).vocab_size == rows

    (tokenizer_folder / "config.json").write_text(json.dumps(config))


def test_a_chat_template_that_writes_a_token_without_a_row_is_refused(tmp_path: Path, folders: dict[int, Path]) -> None:
    folder = tmp_path / "template"
    shutil.copytree(folders[TOKENS - 5], folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template + "<|reserved_special_token_7|>")
    from mlx_suite.text import Message, encode_chat

    with pytest.raises(UserError, match="<|reserved_special_token_7|>, id 271"):
        encode_chat(load_tokenizer(folder), load_chat_template(folder), [Message("user", "a")])


def test_a_ban_of_an_id_without_a_row_raises_and_writes_nowhere(folders: dict[int, Path]) -> None:
    model, tokenizer = load(folders[TOKENS])

    def program():
        yield Given((tokenizer.bos_id or 0,))
        yield Sample(limit=2, stop=frozenset(), sampling=Sampling(banned=(TOKENS,)))

    with pytest.raises(IndexError):
        list(Engine(model, slots=1, context=16).run([Request(program=program())]))


@pytest.mark.parametrize("token", [TOKENS, -1])
def test_a_token_without_a_row_is_found_where_it_is_fed_or_scored(folders: dict[int, Path], token: int) -> None:
    model, _ = load(folders[TOKENS])
    query = Queries((Query(tokens=(1,), labels=((token,),)),))
    for segments in ((Given((1, token, 2)), Sample(limit=2, stop=frozenset())), (Given((1, 2)), query)):

        def program(segments=segments):
            yield from segments

        with pytest.raises(AssertionError, match="outside"):
            list(Engine(model, slots=1, context=16).run([Request(program=program())]))


@pytest.mark.parametrize("rows", [TOKENS - 5, TOKENS, TOKENS + 24], ids=["fewer", "equal", "more"])
def test_magpie_finetuning_fusing_and_export_work_with_any_number_of_rows(
    folders: dict[int, Path], rows: int, tmp_path: Path
) -> None:
    folder = folders[rows]

    checkpoint = load_checkpoint(folder)
    summary = make_dataset(
        checkpoint.model,
        checkpoint.tokenizer,
        checkpoint.template,
        checkpoint.settings(4, tags=False, ban_first=("a",)),
        tmp_path / "rows",
    )
    assert summary.accepted == 4

    settings = sums_settings(folder, tmp_path, steps=2, eval_every=2, save_every=2)
    finetune(settings, prepare(settings))
    fused = fuse_checkpoint(folder, tmp_path / "run" / "last", tmp_path / "fused")
    assert fused.layers > 0
    model, tokenizer = load(tmp_path / "fused")
    assert model(mx.array([tokenizer.encode_prompt("1 + 2")])).shape[-1] == rows


@pytest.mark.parametrize("rows", [TOKENS - 5, TOKENS, TOKENS + 24], ids=["fewer", "equal", "more"])
def test_a_gguf_file_has_as_many_tokens_as_rows(folders: dict[int, Path], rows: int, tmp_path: Path) -> None:
    import gguf

    from mlx_suite.export.gguf import export_gguf

    written = export_gguf(folders[rows], tmp_path / "model.gguf")

    reader = gguf.GGUFReader(str(written.path))
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == rows
