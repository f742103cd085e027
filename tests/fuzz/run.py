"""`make fuzz`: mutated inputs of every kind, read in this process; only a UserError may be raised.

    python -m tests.fuzz.run [--inputs 5000] [--first 0] [--kind NAME] [--workers 2]

An input is a function of its kind and number, so a failure is repeated by `--kind NAME --first n --inputs 1`.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from mlx_suite.runtime.errors import UserError
from tests.fuzz.subjects import KINDS, Subject, subject

Outcome = tuple[str, str]
"""`read`, `refused` or `failed`; of a failure, the traceback."""


def outcome(found: Subject, kind: str, number: int) -> Outcome:
    """What came of reading input `number` of a kind."""
    found.path.write_bytes(found.mutate(Random(f"{kind} {number}")))
    try:
        found.read()
    except UserError as error:
        if str(error).count("error:") > 1:
            return "failed", f"an error inside an error:\n{error}"
        return "refused", ""
    except BaseException as error:  # a panic of a Rust library is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return "failed", traceback.format_exc()
    finally:
        found.restore()
    return "read", ""


def outcomes(kind: str, numbers: Iterable[int]) -> Iterator[tuple[int, Outcome]]:
    """Number and outcome of each input of a kind, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        found = subject(kind, Path(folder))
        for number in numbers:
            yield number, outcome(found, kind, number)


def _counted(numbers: range, kind: str) -> tuple[str, Counter[str], list[tuple[int, str]], float]:
    """A kind's outcomes, its failures, and its seconds of CPU."""
    logging.disable(logging.WARNING)  # each mutation would warn once
    began = time.process_time()
    counts: Counter[str] = Counter()
    failures = []
    for number, (what, text) in outcomes(kind, numbers):
        counts[what] += 1
        if what == "failed":
            failures.append((number, text))
    return kind, counts, failures, time.process_time() - began


def main() -> int:
    """Print what failed and a count of each kind; 1 if anything failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=5000, help="of each kind")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8))
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else list(KINDS)
    numbers = range(options.first, options.first + options.inputs)
    failed = 0
    with multiprocessing.get_context("spawn").Pool(min(options.workers, len(kinds))) as pool:
        for kind, counts, failures, seconds in pool.imap_unordered(partial(_counted, numbers), kinds):
            for number, text in failures:
                print(f"{kind}, input {number}\n{text}", file=sys.stderr)
            failed += len(failures)
            shares = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
            print(f"{kind:<24} {shares}  ({seconds:.0f} s)", flush=True)
    print(f"{options.inputs:,} inputs of {len(kinds)} kinds, {failed} tracebacks")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
