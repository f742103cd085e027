"""The profile of a decode step covers all families. Speed is not tested."""

import pytest

from mlx_suite_apps.bench import step_profile
from mlx_suite_apps.bench.step_profile import profile_step
from tests.modeling.tiny import tiny_model


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_every_part_of_a_step_takes_time(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_profile, "ROUNDS", 2)
    profile = profile_step(tiny_model(family), rows=2, capacity=16)
    parts = (profile.products, profile.attention, profile.cache, profile.rope, profile.norms, profile.activation)
    assert profile.rows == 2
    assert min(parts) > 0
    assert 0 < profile.python <= profile.host
    assert profile.rest == max(0.0, profile.step - sum(parts))
