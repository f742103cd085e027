"""A hundred inputs of `make fuzz`."""

from collections import Counter
from pathlib import Path

from tests.fuzz.run import failures
from tests.fuzz.subjects import subjects


def test_mutated_inputs_are_read_or_refused_without_a_traceback(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    assert list(failures(subjects(tmp_path), range(100), outcomes)) == []
    assert sum(outcomes.values()) == 100
    assert {name.rpartition(": ")[2] for name in outcomes} == {"read", "refused"}
