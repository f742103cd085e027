"""Sizes of memory as people write them."""

import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int | None:
    """Bytes of "8GB", "8 GB", "8G", "1.5gb" (decimal units) or "8GiB" (binary ones); None for anything else."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, unit, binary = found[1], found[2].upper(), found[3]
    if binary and not unit:
        return None
    return round(float(number) * (_BINARY if binary else _UNITS)[unit])
