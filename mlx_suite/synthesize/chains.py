"""M-shot chains to train a synthesizer on (arXiv 2406.14491, section 2.1): examples of one dataset and kind in a row.

Examples of a chain look alike, so the model learns to follow the examples before a text, as it has to when a corpus is
converted in several rounds.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.read.records import Problem
from mlx_suite.synthesize.format import Example, encode_chain
from mlx_suite.synthesize.readers import PlacedExample, ReadingData
from mlx_suite.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Chains:
    """Examples in chains, and the chains as training documents."""

    chains: tuple[tuple[PlacedExample, ...], ...]
    documents: tuple[Document, ...]
    too_long: tuple[Problem, ...] = ()
    """Examples that do not fit into a chain of one, with their lengths."""
    omitted: Mapping[str, int] = field(default_factory=dict)
    """Examples beyond the maximum, by dataset."""

    @property
    def examples(self) -> int:
        return sum(map(len, self.chains))


def make_chains(
    datasets: Sequence[ReadingData],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    shots: int | None = None,
    most: int | None = None,
    context_weight: float = 0.0,
    seed: int = 0,
) -> Chains:
    """Chain the examples of each dataset and kind, in a random order that depends on the seed only.

    Args:
        max_length: Maximum tokens per chain.
        shots: Maximum examples per chain; None for as many as fit.
        most: Maximum examples per dataset; those with most pairs are preferred.
        context_weight: Loss weight of texts and tags before the pairs.

    Raises UserError if the tokenizer has no EOS.
    """
    chains: list[tuple[PlacedExample, ...]] = []
    documents: list[Document] = []
    too_long: list[Problem] = []
    omitted: dict[str, int] = {}
    for dataset in datasets:
        chosen = with_most_pairs(dataset.examples, most)
        if len(chosen) < len(dataset.examples):
            omitted[dataset.name] = len(dataset.examples) - len(chosen)
        for kind, group in by_kind(chosen).items():
            Random(f"{seed} {dataset.name} {kind}").shuffle(group)
            for chain, document in _chain_up(group, tokenizer, max_length, shots, too_long):
                chains.append(chain)
                weights = [max(weight, context_weight) for weight in document.weights]
                documents.append(replace(document, weights=weights))
    return Chains(chains=tuple(chains), documents=tuple(documents), too_long=tuple(too_long), omitted=omitted)


def with_most_pairs(examples: Sequence[PlacedExample], most: int | None) -> list[PlacedExample]:
    """At most `most` examples, those with most pairs, in the order of the dataset."""
    if most is None or len(examples) <= most:
        return list(examples)
    ranked = sorted(range(len(examples)), key=lambda place: (-len(examples[place].example.pairs), place))
    return [examples[place] for place in sorted(ranked[:most])]


def kind_of(example: Example) -> str:
    """The kind of all pairs of an example, `mixed` if they differ, or `rewrite: FORM`."""
    if example.rewrite is not None:
        return f"rewrite: {example.rewrite.form}"
    kinds = {pair.kind for pair in example.pairs}
    return next(iter(kinds)) if len(kinds) == 1 else "mixed"


def by_kind(examples: Sequence[PlacedExample]) -> dict[str, list[PlacedExample]]:
    groups: dict[str, list[PlacedExample]] = {}
    for each in examples:
        groups.setdefault(kind_of(each.example), []).append(each)
    return groups


def documents_digest(documents: Sequence[Document]) -> str:
    """SHA-256 in hexadecimal of all tokens and loss weights, to detect changed data before a resume."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(np.asarray([len(document), *document.tokens], np.uint32).tobytes())
        digest.update(np.asarray(document.weights, np.float32).tobytes())
    return digest.hexdigest()


def _chain_up(
    group: Sequence[PlacedExample],
    tokenizer: Tokenizer,
    max_length: int,
    shots: int | None,
    too_long: list[Problem],
) -> list[tuple[tuple[PlacedExample, ...], Document]]:
    """Fill chains one after the other, so that the order of the group is kept."""
    done: list[tuple[tuple[PlacedExample, ...], Document]] = []
    chain: list[PlacedExample] = []
    size = 0
    # Between BOS and EOS an example has the same tokens wherever it stands; without BOS, the space before it may not.
    reserve = 1 if tokenizer.bos_id is None else 0
    for each in group:
        length = len(_encoded([each], tokenizer)) + reserve
        if length > max_length:
            too_long.append(Problem(each.place, f"{length:,} tokens"))
            continue
        if chain and (size + length > max_length or len(chain) == shots):
            done.append((tuple(chain), _encoded(chain, tokenizer)))
            chain, size = [], 0
        chain.append(each)
        size += length
    if chain:
        done.append((tuple(chain), _encoded(chain, tokenizer)))
    assert all(len(document) <= max_length for _, document in done)
    return done


def _encoded(chain: Sequence[PlacedExample], tokenizer: Tokenizer) -> Document:
    return replace(encode_chain(tokenizer, [each.example for each in chain]), place=chain[0].place)
