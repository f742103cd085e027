"""The WARP loop: runs, merges, resumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlx_suite.finetune.run import RunCallbacks
from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.merge.warp_loop import WarpSettings, run_warp
from tests.finetune.story import sums_settings
from tests.magpie.random_checkpoint import write_checkpoint
from tests.transfer.merge.models import differences, weights_of

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("warp") / "start")


SHORT = {"steps": 2, "eval_every": 2, "dropout": 0.0}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_each_round_begins_with_the_merged_policies_of_the_last(method: str, start: Path, tmp_path: Path) -> None:
    settings = sums_settings(start, tmp_path, method=method, **SHORT)
    rounds = run_warp(settings, WarpSettings(iterations=2, policies=2, eta=0.5), tmp_path / "out")
    assert rounds is not None
    assert [each.merged for each in rounds] == [tmp_path / "out" / f"iteration-{i}" / "merged" for i in (1, 2)]
    assert 0 < max(differences(start, rounds[0].merged).values())
    assert 0 < max(differences(rounds[0].merged, rounds[1].merged).values())
    config = (tmp_path / "out" / "iteration-2" / "policy-1" / "config.yaml").read_text()
    assert f"model: {rounds[0].merged}" in config and "seed: 2" in config


def test_the_merged_model_is_a_part_of_the_way_to_the_policies(start: Path, tmp_path: Path) -> None:
    settings = sums_settings(start, tmp_path, method="full", **SHORT)
    run_warp(settings, WarpSettings(iterations=1, eta=0.5), tmp_path / "out")
    folder = tmp_path / "out" / "iteration-1"
    before, one, two, merged = (
        weights_of(each)
        for each in (start, folder / "policy-1" / "last", folder / "policy-2" / "last", folder / "merged")
    )
    name = "model.layers.0.mlp.up_proj.weight"
    a, b, found = (each[name] - before[name] for each in (one, two, merged))
    cosine = float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert cosine < 0.9995
    angle = np.arccos(cosine)
    assert np.abs(found - 0.5 * np.sin(angle / 2) / np.sin(angle) * (a + b)).max() < 1e-6


def test_a_stopped_loop_resumes_where_it_was(start: Path, tmp_path: Path) -> None:
    settings = sums_settings(start, tmp_path, method="full", **SHORT)
    loop = WarpSettings(iterations=2)

    def stop(number: int, policy: int) -> RunCallbacks:
        if (number, policy) == (2, 2):
            raise KeyboardInterrupt
        return RunCallbacks()

    with pytest.raises(KeyboardInterrupt):
        run_warp(settings, loop, tmp_path / "parts", begin=stop)
    parts, whole = (run_warp(settings, loop, tmp_path / name) for name in ("parts", "whole"))
    assert parts is not None and whole is not None
    assert set(differences(parts[-1].merged, whole[-1].merged).values()) == {0.0}


def test_policies_may_be_anchored_to_their_moving_average(start: Path, tmp_path: Path) -> None:
    settings = sums_settings(start, tmp_path, **SHORT | {"steps": 4}, ema=0.01)
    free, held = (
        run_warp(replace(settings, anchor=anchor), WarpSettings(iterations=1), tmp_path / name)
        for name, anchor in (("free", 0.0), ("held", 50.0))
    )
    assert free is not None and held is not None
    moved = [sum(differences(start, each[0].merged).values()) for each in (free, held)]
    assert 0 < moved[1] < moved[0]


def test_a_loop_with_other_settings_is_refused(start: Path, tmp_path: Path) -> None:
    settings = sums_settings(start, tmp_path, method="full", **SHORT)
    run_warp(settings, WarpSettings(iterations=1), tmp_path / "out")
    with pytest.raises(UserError) as caught:
        run_warp(replace(settings, learning_rate=1e-4), WarpSettings(iterations=1, eta=0.7), tmp_path / "out")
    assert [detail.partition(":")[0] for detail in caught.value.details] == ["learning_rate", "eta"]


def test_every_invalid_setting_is_listed(start: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_warp(sums_settings(start, tmp_path), WarpSettings(iterations=0, policies=1, eta=1.5), tmp_path / "out")
    assert caught.value.details == (
        "iterations is 0: expected at least 1",
        "policies is 1: expected at least 2",
        "eta is 1.5: expected above 0 and at most 1",
    )
