"""A cache gives the teacher's distributions back for the same rows in any order, and is refused when it is stale."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.finetune.prepare import PreparedRun, make_batches, prepare
from mlx_suite.modeling.fast_math import softmax
from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.distill import cache as cache_module
from mlx_suite.transfer.distill.cache import Cache, make_cache, open_cache
from mlx_suite.transfer.distill.cached_batches import CachedBatches
from mlx_suite.transfer.distill.loss import OnlineLoss
from mlx_suite.transfer.distill.settings import DistillSettings
from mlx_suite.transfer.distill.teacher import LoadedTeacher, load_teacher
from tests.finetune.story import log, write_sums
from tests.transfer.distill.story import distill_settings, run_distill
from tests.transfer.distill.test_run import story

V = 272


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Turn off `mx.compile`, and make parts of a few rows."""
    monkeypatch.setattr(cache_module, "PART_TOKENS", 15)
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture
def loaded(teacher: Path) -> LoadedTeacher:
    return load_teacher(str(teacher))


def made(student: Path, teacher: Path, folder: Path, **changes: Any) -> tuple[DistillSettings, PreparedRun, Cache]:
    settings = distill_settings(student, teacher, folder, **changes)
    prepared = prepare(settings)
    return settings, prepared, make_cache(settings, prepared, folder / "cache")


@pytest.mark.parametrize("batching", ["pack", "mixed", "bucket"])
def test_every_target_finds_its_own_distribution(
    batching: str, student: Path, teacher: Path, loaded: LoadedTeacher, tmp_path: Path
) -> None:
    changes = {
        "pack": {"batching": "pack", "row_length": 128},
        "mixed": {"batching": "pack", "row_length": None},
        "bucket": {"batching": "bucket", "row_length": None},
    }[batching]
    # All tokens as the top are the exact distribution.
    settings, prepared, cache = made(student, teacher, tmp_path, top_k=V, **changes)
    assert len(cache.parts) > 2
    batches, _ = make_batches(prepared, settings)
    placed = CachedBatches(batches, cache)
    for chosen in placed.order(3, 0):
        batch = placed.take(chosen)
        record = cache.records(batch.places)
        found = np.zeros((len(batch.places), V), np.float32)
        np.put_along_axis(found, record.ids.astype(np.int64), record.values, axis=1)
        expected = np.array(softmax(loaded.model.lm_head(loaded.states(batch))))
        trained = batch.weights > 0
        assert np.abs(found - expected)[trained].max() < 1e-5


def test_training_from_all_tokens_of_the_cache_is_training_with_the_teacher(
    student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, cache = made(student, teacher, tmp_path, top_k=V)
    run_distill(student, teacher, tmp_path, out=str(tmp_path / "online"))
    monkeypatch.setattr(OnlineLoss, "arrays", None)  # a cached run does not ask the teacher
    finished = run_distill(student, teacher, tmp_path, cache=str(tmp_path / "cache"))
    assert finished.state.identity["cache"] == cache.digest
    losses = [
        [line["loss"] for kind in ("train", "valid") for line in log(tmp_path / run, kind)] for run in ("online", "run")
    ]
    assert losses[1] == pytest.approx(losses[0], abs=2e-4)


def test_training_from_draws_lowers_the_distance_and_resumes_with_the_same_bits(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    made(student, teacher, tmp_path)
    cached = {"cache": str(tmp_path / "cache"), "data_share": 0.1}
    finished = run_distill(student, teacher, tmp_path, out=str(tmp_path / "whole"), **cached)
    assert finished.valid_before is not None and finished.state.best_loss is not None
    assert finished.state.best_loss < 0.8 * finished.valid_before
    run_distill(student, teacher, tmp_path, **cached)
    assert story(tmp_path / "run") == story(tmp_path / "whole")


def test_draws_of_probability_1_over_n_need_no_stored_weights(student: Path, teacher: Path, tmp_path: Path) -> None:
    _, prepared, cache = made(student, teacher, tmp_path, draws=8)
    assert cache.tokens == prepared.trained_tokens + sum(sum(each.weights[1:]) for each in prepared.valid)
    record = cache.records(np.array([0, 3]))
    assert record.ids.shape == (2, 8)
    assert record.values.tolist() == [[0.125] * 8] * 2
    assert np.load(tmp_path / "cache" / "00000-ids.npy").dtype == np.uint16
    assert np.load(tmp_path / "cache" / "00000-values.npy").size == 0


def test_a_killed_cache_resumes_with_the_same_bytes(
    student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, prepared, cache = made(student, teacher, tmp_path)

    def killed(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cache(settings, prepared, tmp_path / "other", tell=killed)
    assert len(json.loads((tmp_path / "other" / "cache.json").read_text())["parts"]) == 1
    again = make_cache(settings, prepared, tmp_path / "other")
    assert again.facts == cache.facts
    assert again.digest == cache.digest


# ---- user errors


def refused(cache: Path, settings: DistillSettings, teacher: LoadedTeacher) -> UserError:
    with pytest.raises(UserError) as caught:
        open_cache(cache, settings, prepare(settings), teacher)
    return caught.value


def test_a_cache_of_another_teacher_is_refused(student: Path, teacher: Path, tmp_path: Path) -> None:
    settings, _, cache = made(student, teacher, tmp_path)
    error = refused(tmp_path / "cache", settings, load_teacher(str(student)))
    assert error.what == "The cache is stale"
    [detail] = error.details
    assert detail.startswith(f'teacher: was "{cache.facts["teacher"]}", now "')


def test_a_cache_of_another_template_is_refused(
    student: Path, teacher: Path, loaded: LoadedTeacher, tmp_path: Path
) -> None:
    settings, _, _ = made(student, teacher, tmp_path)
    error = refused(tmp_path / "cache", replace(settings, style="alpaca", row_length=None), loaded)
    assert error.what == "The cache is stale"
    assert error.details[0].startswith("template: was ")


def test_rows_that_are_not_in_the_cache_are_counted(
    student: Path, teacher: Path, loaded: LoadedTeacher, tmp_path: Path
) -> None:
    settings, _, _ = made(student, teacher, tmp_path)
    write_sums(tmp_path / "more.jsonl", count=40)
    error = refused(tmp_path / "cache", replace(settings, data=str(tmp_path / "more.jsonl")), loaded)
    assert error.what.startswith("The cache lacks ") and error.what.endswith("of 40 rows")


def test_a_damaged_cache_is_refused(student: Path, teacher: Path, loaded: LoadedTeacher, tmp_path: Path) -> None:
    settings, _, _ = made(student, teacher, tmp_path)
    file = tmp_path / "cache" / "00001-ids.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    error = refused(tmp_path / "cache", settings, loaded)
    assert (error.what, error.details) == ("The cache is damaged", ("00001-ids.npy",))


def test_a_folder_with_a_cache_of_other_settings_is_not_written_over(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    made(student, teacher, tmp_path)
    with pytest.raises(UserError) as caught:
        made(student, teacher, tmp_path, draws=9)
    assert caught.value.details == ("draws: was 64, now 9",)
