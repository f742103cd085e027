"""A hundred inputs of `make fuzz`."""

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.run import outcomes
from tests.fuzz.subjects import KINDS, subject


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_that_is_mutated_is_read(kind: str, tmp_path: Path) -> None:
    found = subject(kind, tmp_path)
    found.path.write_bytes(found.valid)
    found.read()


def test_mutated_inputs_are_read_or_refused_without_a_traceback() -> None:
    seen: Counter[str] = Counter()
    for kind in KINDS:
        for number, (what, text) in outcomes(kind, range(-(-100 // len(KINDS)))):
            assert what != "failed", f"{kind}, input {number}\n{text}"
            seen[what] += 1
    assert seen.total() >= 100
    assert set(seen) == {"read", "refused"}
