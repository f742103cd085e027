"""`make fuzz`: mutated inputs of every kind, read in this process; only a UserError may be raised.

    python -m tests.fuzz.run [--inputs 5000] [--first 0]

Input n is a function of n, so a failure is repeated by `--first n --inputs 1`.
"""

import argparse
import logging
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from mlx_suite.runtime.errors import UserError
from tests.fuzz.subjects import Subject, subjects


def failures(found: Mapping[str, Subject], numbers: range, outcomes: Counter[str]) -> Iterator[tuple[int, str, str]]:
    """Number, kind and traceback of every input whose reading raised anything but a UserError."""
    names = list(found)
    for number in numbers:
        name = names[number % len(names)]
        subject = found[name]
        subject.path.write_bytes(subject.mutate(Random(number)))
        try:
            subject.read()
            outcomes[f"{name}: read"] += 1
        except UserError as error:
            outcomes[f"{name}: refused"] += 1
            if str(error).count("error:") > 1:
                yield number, name, f"an error inside an error:\n{error}"
        except Exception:
            yield number, name, traceback.format_exc()
        subject.restore()


def main() -> int:
    """Print what failed and a count of each kind; 1 if anything failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # each mutation would warn once
    outcomes: Counter[str] = Counter()
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        numbers = range(options.first, options.first + options.inputs)
        for number, name, text in failures(subjects(Path(folder)), numbers, outcomes):
            count += 1
            print(f"input {number}, {name}\n{text}", file=sys.stderr)
    for name, seen in sorted(outcomes.items()):
        print(f"{seen:6,} {name}")
    print(f"{options.inputs:,} inputs, {count} tracebacks")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
