"""Chains: examples of one dataset and kind in a row, up to a length, deterministic."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.synthesize.chains import Chains, documents_digest, kind_of, make_chains
from mlx_suite.synthesize.format import Example, Pair, Rewrite, encode_chain
from mlx_suite.synthesize.readers import PlacedExample, ReadingData, read_training_data
from mlx_suite.text import Tokenizer

FREE, CHOICE = Pair(question="Who?", answer="Ada"), Pair(question="Who?", answer="Ada", options=("Ada", "Ben"))


def dataset(name: str, *examples: Example) -> ReadingData:
    placed = (PlacedExample(example=each, place=f"{name}:{number}") for number, each in enumerate(examples, 1))
    return ReadingData(name=name, shape="own", examples=tuple(placed))


def texts(chains: Chains) -> list[list[str]]:
    return [[each.example.text for each in chain] for chain in chains.chains]


def with_pairs(text: str, count: int = 1) -> Example:
    return Example(text=text, pairs=tuple(Pair(question=f"Question {n}?", answer="a") for n in range(count)))


def test_a_chain_holds_examples_of_one_dataset_and_one_kind(letters: Tokenizer) -> None:
    mixed = dataset(
        "mixed",
        Example(text="a", pairs=(FREE,)),
        Example(text="b", pairs=(CHOICE,)),
        Example(text="c", pairs=(FREE,)),
        Example(text="d", pairs=(FREE, CHOICE)),
        Example(text="e", rewrite=Rewrite(form="table", text="| e |")),
        Example(text="f", pairs=(CHOICE,)),
    )
    other = dataset("other", Example(text="g", pairs=(FREE,)))
    chains = make_chains([mixed, other], letters, max_length=500)
    assert [sorted(chain) for chain in texts(chains)] == [["a", "c"], ["b", "f"], ["d"], ["e"], ["g"]]
    assert [kind_of(chain[0].example) for chain in chains.chains] == [
        *("free", "choice", "mixed", "rewrite: table", "free")
    ]
    assert chains.examples == 7


def test_a_chain_ends_at_the_length_or_at_the_number_of_shots(letters: Tokenizer) -> None:
    data = dataset("data", *(with_pairs(text) for text in "abcdefg"))
    one = len(encode_chain(letters, [with_pairs("a")]))
    by_length = make_chains([data], letters, max_length=3 * one + 1)
    assert [len(chain) for chain in by_length.chains] == [3, 3, 1]
    assert [len(document) for document in by_length.documents] == [3 * one, 3 * one, one]
    assert [len(chain) for chain in make_chains([data], letters, max_length=1000, shots=2).chains] == [2, 2, 2, 1]


def test_a_document_is_the_encoded_chain_and_knows_its_place(letters: Tokenizer) -> None:
    chains = make_chains([dataset("data", with_pairs("a"), with_pairs("b"))], letters, max_length=500)
    [chain], [document] = chains.chains, chains.documents
    assert document.tokens == encode_chain(letters, [each.example for each in chain]).tokens
    assert document.place == chain[0].place


def test_an_example_that_is_too_long_is_reported_and_the_others_stay(letters: Tokenizer) -> None:
    data = dataset("data", with_pairs("a"), with_pairs("b" * 200), with_pairs("c"))
    chains = make_chains([data], letters, max_length=150)
    assert sorted(text for chain in texts(chains) for text in chain) == ["a", "c"]
    assert [str(problem) for problem in chains.too_long] == ["data:2: 250 tokens"]


def test_a_maximum_keeps_the_examples_with_most_pairs(letters: Tokenizer) -> None:
    data = dataset("data", with_pairs("a", 1), with_pairs("b", 3), with_pairs("c", 2), with_pairs("d", 3))
    chains = make_chains([data], letters, max_length=10_000, most=3)
    assert sorted(text for chain in texts(chains) for text in chain) == ["b", "c", "d"]
    assert chains.omitted == {"data": 1}


def test_texts_may_have_a_small_loss_weight(letters: Tokenizer) -> None:
    [document] = make_chains([dataset("data", with_pairs("a"))], letters, max_length=500, context_weight=0.25).documents
    plain = encode_chain(letters, [with_pairs("a")])
    assert document.weights == [max(weight, 0.25) for weight in plain.weights]
    assert set(plain.weights) == {0.0, 1.0}


def test_the_seed_decides_the_order(letters: Tokenizer) -> None:
    data = read_training_data(["microworld:30"])
    made = [make_chains(data, letters, max_length=3000, seed=seed) for seed in (0, 0, 1)]
    digests = [documents_digest(chains.documents) for chains in made]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", ["gemma2", "gemma2_pieces", "letters", "mistral"])
def test_a_chain_has_the_tokens_of_its_examples(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    chain = [with_pairs("Ada bakes."), with_pairs("Ben flies."), with_pairs("Ida sings.")]
    alone = [encode_chain(tokenizer, [example]) for example in chain]
    together = encode_chain(tokenizer, chain)
    assert together.tokens == [token for document in alone for token in document.tokens]
    assert together.weights == [weight for document in alone for weight in document.weights]


@given(st.lists(st.integers(1, 120), max_size=12), st.one_of(st.none(), st.integers(1, 4)), st.integers(60, 400))
def test_no_example_is_lost_or_doubled_and_no_chain_is_too_long(
    letters: Tokenizer, sizes: list[int], shots: int | None, max_length: int
) -> None:
    data = dataset("data", *(with_pairs("x" * size) for size in sizes))
    chains = make_chains([data], letters, max_length=max_length, shots=shots)
    places = Counter(each.place for chain in chains.chains for each in chain)
    places.update(problem.place for problem in chains.too_long)
    assert places == Counter(each.place for each in data.examples)
    assert all(len(document) <= max_length for document in chains.documents)
    assert all(len(chain) <= (shots or 99) for chain in chains.chains)
