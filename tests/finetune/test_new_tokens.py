"""A base model whose stop token was never trained: found, told, and trained beside the adapter."""

import shutil
import signal
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite import load
from mlx_suite.adapters.attach import load_adapter
from mlx_suite.export.fuse import fuse_checkpoint
from mlx_suite.finetune.estimate.estimate import estimate_run
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import RunCallbacks, finetune
from mlx_suite.finetune.settings import check_settings
from mlx_suite.finetune.starting_point import inherited, starting_point
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer
from tests.finetune.story import bits, run_sums, sums_settings

UNTRAINED = ("<|start_header_id|>", "<|eot_id|>")


@pytest.fixture(scope="session")
def base_model(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model, in which two tokens of the template have the rows of reserved ones, with a little noise."""
    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(random_model, folder)
    tokenizer = load_tokenizer(folder)
    weights = dict(mx.load(str(folder / "model.safetensors")))
    embedding = np.array(weights["model.embed_tokens.weight"])
    draw = np.random.default_rng(1)
    direction = draw.normal(0.0, 0.6, embedding.shape[1])
    new = [tokenizer.id_of(name) for name in UNTRAINED]
    for token in (*sorted(tokenizer.reserved_ids), *new):
        embedding[token] = direction + draw.normal(0.0, 0.08, embedding.shape[1])
    weights["model.embed_tokens.weight"] = mx.array(embedding)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


@pytest.fixture(scope="session")
def trained(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_sums(base_model, folder)
    return folder / "run"


def rows_trained(model: Path, folder: Path, **changes: object) -> tuple[int, ...]:
    settings = sums_settings(model, folder, **changes)
    return prepare(settings).template_tokens.trained_rows(settings)


def ids(base_model: Path, *names: str) -> tuple[int, ...]:
    tokenizer = load_tokenizer(base_model)
    return tuple(tokenizer.id_of(name) or 0 for name in names)


def test_untrained_tokens_of_the_template_are_found_with_the_figure(base_model: Path, tmp_path: Path) -> None:
    tokens = prepare(sums_settings(base_model, tmp_path)).template_tokens
    assert sorted(tokens.names) == ["<|eot_id|>", "<|start_header_id|>"]
    assert all(token.sign == "reserved" and 0.98 < token.figure < 1.0 for token in tokens.untrained)
    assert tokens.lacks_stop


def test_a_model_that_knows_its_template_gets_no_rows(random_model: Path, tmp_path: Path) -> None:
    assert rows_trained(random_model, tmp_path) == ()
    assert rows_trained(random_model, tmp_path, train_new_tokens=True) == ()


def test_rows_are_trained_by_default_if_the_stop_token_is_untrained(base_model: Path, tmp_path: Path) -> None:
    both = tuple(sorted(ids(base_model, *UNTRAINED)))
    assert rows_trained(base_model, tmp_path) == both
    assert rows_trained(base_model, tmp_path, train_new_tokens=True) == both
    assert rows_trained(base_model, tmp_path, train_new_tokens=False) == ()
    assert rows_trained(base_model, tmp_path, method="full", learning_rate=1e-4) == ()
    assert rows_trained(base_model, tmp_path, modules=("q_proj", "embed_tokens")) == ()
    assert rows_trained(base_model, tmp_path, style="alpaca", row_length=256) == ()


def test_the_note_names_the_tokens_and_what_is_done(base_model: Path, tmp_path: Path) -> None:
    def note(**changes: object) -> str:
        settings = sums_settings(base_model, tmp_path, **changes)
        [line] = prepare(settings).template_tokens.notes(settings)
        return line

    assert "<|eot_id|> (cosine similarity 0.99 to the reserved tokens)" in note()
    assert note().endswith("; 2 rows of the embedding are trained for them")
    assert note(train_new_tokens=False).endswith(
        "responses will hardly end by themselves; --train-new-tokens trains their rows"
    )
    assert note(method="full", learning_rate=1e-4).endswith("this run trains the whole embedding")


def test_only_these_rows_of_the_tables_change(base_model: Path, trained: Path) -> None:
    adapter = load_adapter(trained / "last")
    both = tuple(sorted(ids(base_model, *UNTRAINED)))
    assert {path: rows.ids for path, rows in adapter.rows.items()} == {
        "model.embed_tokens": both,
        "lm_head": both,
    }
    model, _ = load(base_model)
    before = model.model.embed_tokens.weight[mx.array(both)]
    assert mx.abs(adapter.rows["model.embed_tokens"].values - before).max().item() > 1e-3


def test_the_fused_model_computes_the_same_and_differs_in_no_other_row(
    base_model: Path, trained: Path, tmp_path: Path
) -> None:
    fuse_checkpoint(base_model, trained / "last", tmp_path / "fused")
    (base, tokenizer), (fused, _) = load(base_model), load(tmp_path / "fused")
    adapted, _ = load(base_model, adapter=trained / "last")
    read = mx.array([tokenizer.encode_with_specials("<|start_header_id|>1 + 2<|eot_id|>3")])
    assert mx.abs(fused(read) - adapted(read)).max().item() < 1e-4
    changed = mx.abs(fused.model.embed_tokens.weight - base.model.embed_tokens.weight).max(axis=1) > 0
    assert np.flatnonzero(np.array(changed)).tolist() == sorted(ids(base_model, *UNTRAINED))


def test_a_stopped_run_resumes_with_the_same_rows(base_model: Path, trained: Path, tmp_path: Path) -> None:
    def interrupt(step: int, loss: float, tokens: int) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    assert run_sums(base_model, tmp_path, RunCallbacks(step=interrupt)).result.stopped
    run_sums(base_model, tmp_path)
    assert bits(tmp_path / "run" / "last") == bits(trained / "last")


def test_a_run_with_rows_is_not_resumed_without_them(base_model: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(UserError) as caught:
        run_sums(base_model, tmp_path, train_new_tokens=False)
    assert [line.split(":")[0] for line in caught.value.details] == ["token_rows"]


def test_the_estimate_counts_the_rows(base_model: Path, tmp_path: Path) -> None:
    def parameters(**changes: object) -> int:
        settings = sums_settings(base_model, tmp_path, **changes)
        return estimate_run(settings, prepare(settings), with_time=False).memory.parameters

    # Two rows of 32 in the embedding and two in the head.
    assert parameters() - parameters(train_new_tokens=False) == 2 * 2 * 32


def test_rows_cannot_be_asked_for_where_all_rows_are_trained(tmp_path: Path) -> None:
    for changes in ({"method": "full"}, {"modules": ("lm_head",)}):
        with pytest.raises(UserError, match="train_new_tokens"):
            check_settings(sums_settings(tmp_path, tmp_path, train_new_tokens=True, **changes))


def test_a_run_that_starts_from_another_trains_its_rows_further(
    base_model: Path, trained: Path, tmp_path: Path
) -> None:
    before = load_adapter(trained / "best").rows["model.embed_tokens"]
    settings = sums_settings(base_model, tmp_path, start_from=str(trained), steps=2)
    start = starting_point(settings.start_from)
    with pytest.raises(UserError) as caught:
        inherited(sums_settings(base_model, tmp_path, train_new_tokens=False), start, ())
    assert caught.value.details[0].startswith("train_new_tokens is False, but ")
    settings = inherited(settings, start, ())
    finetune(settings, prepare(settings))
    after = load_adapter(tmp_path / "run" / "last").rows["model.embed_tokens"]
    assert after.ids == before.ids
    assert 0 < mx.abs(after.values - before.values).max().item() < 0.1
