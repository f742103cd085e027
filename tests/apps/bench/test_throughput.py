"""The benchmark counts the tokens that it times. Speed is not tested."""

from collections import Counter
from typing import Any

import pytest

from mlx_suite_apps.bench import throughput
from mlx_suite_apps.bench.throughput import (
    Comparison,
    Generate,
    SideSpeed,
    Workload,
    cache_bytes,
    compare,
    our_side,
    their_side,
    time_once,
)
from tests.modeling.tiny import tiny_model

PROMPTS = [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]


def written(side: Generate, prompts: list[list[int]], tokens: int) -> Counter[int]:
    """Tokens per row as the side reports them."""
    rows: Counter[int] = Counter()

    def on_token(row: int) -> None:
        rows[row] += 1

    side(prompts, tokens, on_token)
    return rows


@pytest.mark.parametrize("make_side", [our_side, their_side])
@pytest.mark.parametrize("rows", [1, 3])
def test_each_side_samples_exactly_the_requested_tokens_in_every_row(make_side: Any, rows: int) -> None:
    side = make_side(tiny_model("llama"))
    for _ in range(2):  # a side is used round after round
        assert written(side, PROMPTS[:rows], 5) == dict.fromkeys(range(rows), 5)


def test_a_timed_run_counts_its_tokens_and_waits_for_the_first_of_every_row() -> None:
    def generate(prompts: list[list[int]], tokens: int, on_token: Any) -> None:
        for _ in range(tokens):
            for row in range(len(prompts)):
                on_token(row)

    speed = time_once(generate, PROMPTS, tokens=4)
    assert 0.0 < speed.first_token < 12 / speed.tokens_per_second


def test_a_side_that_samples_too_few_tokens_is_not_timed() -> None:
    def lazy(prompts: list[list[int]], tokens: int, on_token: Any) -> None:
        on_token(0)

    with pytest.raises(AssertionError, match="1 tokens sampled of 3 x 4"):
        time_once(lazy, PROMPTS, tokens=4)


def test_both_sides_alternate_on_the_same_new_prompts_and_the_first_round_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, list[list[int]]]] = []
    seconds = iter([7.0, 9.0, 1.0, 4.0, 2.0, 5.0, 6.0, 3.0])

    def timed(side: str, prompts: list[list[int]], tokens: int) -> SideSpeed:
        seen.append((side, prompts))
        rate = next(seconds)
        return SideSpeed(tokens_per_second=rate, first_token=rate / 10, peak_bytes=int(rate))

    monkeypatch.setattr(throughput, "our_side", lambda model: "ours")
    monkeypatch.setattr(throughput, "their_side", lambda model: "theirs")
    monkeypatch.setattr(throughput, "time_once", timed)
    workload = Workload(batch=2, prompt_tokens=3, tokens=4, repeats=3)
    comparison = compare(None, None, 50, workload)

    assert [side for side, _ in seen] == ["theirs", "ours"] * 4
    rounds = [prompts for _, prompts in seen]
    assert rounds[::2] == rounds[1::2]
    assert len({str(prompts) for prompts in rounds}) == 4
    assert all([len(prompt) for prompt in prompts] == [3, 3] for prompts in rounds)
    # Medians of 1, 2, 6 and of 4, 5, 3; our most memory of these, theirs before ours held any.
    assert comparison.theirs == SideSpeed(tokens_per_second=2.0, first_token=0.2, peak_bytes=7)
    assert comparison.ours == SideSpeed(tokens_per_second=4.0, first_token=0.4, peak_bytes=5)
    assert comparison.ratio == 2.0


def test_a_real_comparison_has_figures_for_both_sides() -> None:
    model = tiny_model("llama")
    comparison = compare(model, model, 50, Workload(batch=2, prompt_tokens=4, tokens=3, repeats=1))
    assert isinstance(comparison, Comparison)
    for speed in (comparison.ours, comparison.theirs):
        assert speed.tokens_per_second > 0
        assert speed.first_token > 0
        assert speed.peak_bytes > 0


# Keys and values of two heads of 16 fp32 numbers: 256 bytes per token and layer.


@pytest.mark.parametrize(
    ("family", "tokens", "expected"),
    [
        # mlx-lm's caches grow by 256 tokens.
        ("llama", 100, 3 * 256 * 256),
        ("llama", 300, 3 * 512 * 256),
        # Every layer of this Mistral keeps a ring of 6 tokens.
        ("mistral", 100, 3 * 6 * 256),
        # The first and third layer of this Gemma 2 keep rings, the second keeps all tokens.
        ("gemma2", 100, (6 + 256 + 6) * 256),
        ("gemma2", 600, (6 + 768 + 6) * 256),
    ],
)
def test_cache_bytes_is_the_memory_of_a_rows_kv_cache(family: str, tokens: int, expected: int) -> None:
    assert cache_bytes(tiny_model(family), tokens, 50) == expected


def test_models_without_make_cache_get_mlx_lms_caches() -> None:
    class Bare:
        """A model like mlx-lm's, with layers but no `make_cache`."""

        def __init__(self) -> None:
            self.model = tiny_model("llama")
            self.layers = self.model.layers

        def __call__(self, tokens: Any, cache: Any) -> Any:
            return self.model(tokens, cache=cache)

    assert cache_bytes(Bare(), 20, 50) == 3 * 256 * 256
