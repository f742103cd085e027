"""Training documents and plan of tiny-synthesizer: passages of the microworld and what is written from them.

A base model with Mistral's block and a sliding window learns to read a passage about people or towns that it has never
met, and to write instruction-response pairs or a rewrite of it, in the format of `mlx_suite.synthesize.format`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import mlx.core as mx

from mlx_suite.checkpoints.save import save_model
from mlx_suite.data.batch.batches import PackedBatches
from mlx_suite.data.batch.rows import Document, Rows, pack
from mlx_suite.microworld.passages import sample_passage
from mlx_suite.microworld.population import Population, make_population
from mlx_suite.microworld.reading import STYLES
from mlx_suite.microworld.rewrites import REWRITES
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.llama import Llama
from mlx_suite.runtime.files import write_atomically
from mlx_suite.synthesize.format import KINDS, SYNTHESIZER_FILE, Example, encode_chain, write_completion
from mlx_suite.synthesize.worlds import example_of, rewrite_of
from mlx_suite.text import Tokenizer, load_tokenizer
from mlx_suite.text.training import train_base_tokenizer
from mlx_suite.training.loop import TrainSettings, train

from .drills import write_drill, write_echo

NAME = "tiny-synthesizer"
CONFIG: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 1536,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "sliding_window": 256,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}
PEOPLE = 6000
"""People of the training population; their friends, towns and facts are drawn with them."""
TOKENIZER_CHAINS = 6000
"""Chains to train the tokenizer on."""
PAIRS = (3, 6)
"""Minimum and maximum pairs per passage."""


@dataclass(frozen=True, kw_only=True)
class SynthesizerPhase:
    """One phase of training: shares of its documents, and settings. The optimizer state is reset at its start."""

    documents: int
    train: TrainSettings
    batch: int = 16
    """Rows per step."""
    row_length: int = 256
    """Tokens per row."""
    most_examples: int = 1
    """Maximum examples per chain."""
    towns: int = 60
    """Towns of the population. The tokenizer has a token for each of the usual ones; others take several."""
    echo_share: float = 0.0
    drill_share: float = 0.0
    text_share: float = 0.1
    """Share of documents that are a passage alone."""
    rewrite_share: float = 0.3
    """Share of documents that are rewrites; the rest are pairs."""
    context_weight: float = 0.2
    """Loss weight of passages and tags in front of what is written."""
    question_weight: float = 1.0
    """Loss weight of questions: which one is asked is chance, and says little about how well a text was read."""
    rewrite_weight: float = 1.0
    """Loss weight of rewrites."""
    ordered: bool = False
    """Whether questions and rewrites follow the order of the passage: what comes next is then not chance, so that the
    greedy completion is not a repetition of the most probable question."""
    style_weights: tuple[int, ...] = (1, 1, 1, 1, 1)
    """Relative frequency of each of `STYLES`."""


PHASES = (
    SynthesizerPhase(
        documents=22_000,
        train=TrainSettings(steps=450, horizon=900, warmup=60, learning_rate=3e-3, save_every=100),
        echo_share=0.25,
        drill_share=0.1,
    ),
    SynthesizerPhase(
        documents=14_000,
        train=TrainSettings(steps=526, horizon=650, warmup=30, learning_rate=2.5e-3, seed=1, save_every=100),
        echo_share=0.02,
        context_weight=0.1,
    ),
    SynthesizerPhase(
        documents=16_000,
        train=TrainSettings(steps=314, horizon=500, warmup=20, learning_rate=2.5e-3, floor=0.05, seed=2, save_every=50),
        echo_share=0.05,
        drill_share=0.2,
        text_share=0.03,
        context_weight=0.03,
        question_weight=0.2,
        rewrite_weight=0.6,
    ),
    SynthesizerPhase(
        documents=12_500,
        train=TrainSettings(steps=276, horizon=340, warmup=20, learning_rate=2e-3, floor=0.05, seed=3, save_every=50),
        towns=500,
        echo_share=0.1,
        drill_share=0.1,
        text_share=0.03,
        context_weight=0.03,
        question_weight=0.25,
        rewrite_weight=0.6,
    ),
    SynthesizerPhase(
        documents=13_000,
        train=TrainSettings(steps=320, warmup=20, learning_rate=2e-3, floor=0.05, seed=5, save_every=50),
        towns=500,
        echo_share=0.1,
        drill_share=0.05,
        text_share=0.03,
        context_weight=0.03,
        question_weight=0.4,
        rewrite_weight=0.7,
        ordered=True,
        style_weights=(4, 2, 1, 1, 1),
    ),
    SynthesizerPhase(
        documents=9_000,
        train=TrainSettings(steps=220, warmup=10, learning_rate=1.5e-3, floor=0.03, seed=6, save_every=50),
        towns=500,
        echo_share=0.03,
        text_share=0.03,
        rewrite_share=0.4,
        context_weight=0.03,
        question_weight=0.6,
        ordered=True,
        style_weights=(4, 2, 1, 1, 1),
    ),
    SynthesizerPhase(
        documents=2_000,
        train=TrainSettings(steps=70, warmup=5, learning_rate=6e-4, seed=4, save_every=50),
        towns=500,
        ordered=True,
        style_weights=(4, 2, 1, 1, 1),
        batch=8,
        row_length=512,
        most_examples=3,
        context_weight=0.05,
        question_weight=0.4,
    ),
)


def chain(
    population: Population,
    rng: Random,
    most: int,
    *,
    rewrites: bool,
    style_weights: Sequence[int] = (1, 1, 1, 1, 1),
    ordered: bool = True,
) -> list[Example]:
    """Examples of one style or form, at most `most`."""
    kind = rng.choice(list(REWRITES)) if rewrites else rng.choices(STYLES, weights=style_weights)[0]
    examples: list[Example] = []
    count = rng.randint(1, most)
    while len(examples) < count:
        passage = sample_passage(population, rng)
        if not ordered:
            passage = replace(passage, facts=tuple(rng.sample(passage.facts, len(passage.facts))))
        example = rewrite_of(passage, rng, kind) if rewrites else example_of(passage, rng, rng.randint(*PAIRS), kind)
        if example.pairs or example.rewrite:
            examples.append(example)
    return examples


def tokenizer_texts(seed: int, count: int) -> Iterator[str]:
    """Texts to train the tokenizer on."""
    population, rng = make_population(PEOPLE), Random(f"synthesizer tokenizer {seed}")
    for number in range(count):
        for example in chain(population, rng, 1, rewrites=number % 3 == 0):
            yield f" <CON> {example.text} </CON>\n\n{write_completion(example)}"


def phase_documents(tokenizer: Tokenizer, phase: SynthesizerPhase, seed: int) -> Iterator[Document]:
    """The phase's documents, encoded; a chain longer than a row loses its last examples or pairs."""
    population, rng = make_population(PEOPLE, towns=phase.towns), Random(f"synthesizer {seed}")
    assert tokenizer.bos_id is not None
    end = tokenizer.id_of("</s>")
    assert end is not None
    for _ in range(phase.documents):
        drawn = rng.random()
        if drawn < phase.echo_share + phase.drill_share:
            listed, repeated = _echo(rng, population) if drawn < phase.echo_share else write_drill(rng)
            first, second = tokenizer.encode_prompt(listed), tokenizer.encode(repeated)
            yield Document([*first, *second, end], [0.0] * len(first) + [1.0] * (len(second) + 1))
        elif rng.random() < phase.text_share:
            tokens = [*tokenizer.encode_prompt(sample_passage(population, rng).text), end]
            yield Document(tokens, [2 * phase.context_weight] * len(tokens))
        else:
            examples = chain(
                population,
                rng,
                phase.most_examples,
                rewrites=rng.random() < phase.rewrite_share,
                style_weights=phase.style_weights,
                ordered=phase.ordered,
            )
            document = encode_chain(tokenizer, examples)
            while len(document) > phase.row_length + 1 and (shorter := _shortened(examples)):
                examples = shorter
                document = encode_chain(tokenizer, examples)
            yield _weighted(tokenizer, document, phase, is_rewrite=examples[0].rewrite is not None)


def _echo(rng: Random, population: Population) -> tuple[str, str]:
    """Words and their repetition: half of the time names of towns, which may take several tokens."""
    if rng.random() < 0.5:
        return write_echo(rng)
    listed = " ".join(town.name for town in rng.sample(population.towns, rng.randint(6, 16)))
    return listed, f" {listed}"


def _weighted(tokenizer: Tokenizer, document: Document, phase: SynthesizerPhase, *, is_rewrite: bool) -> Document:
    """A chain with the phase's weights: text, questions or rewrite, answers.

    `<REW> form <OUT>` counts as text: the prompt of a rewrite ends with it, and without it pairs are to be written.
    """
    begin, end = tokenizer.id_of("ANS"), tokenizer.id_of("END")
    written = phase.rewrite_weight if is_rewrite else phase.question_weight
    head, weights, inside = tokenizer.id_of("OUT"), [], False
    is_head = is_rewrite
    for token, weight in zip(document.tokens, document.weights, strict=True):
        usual = 0.0 if is_head else 1.0 if inside else written
        weights.append(max(phase.context_weight, weight * usual))
        inside = (inside or token == begin) and token != end
        is_head = is_rewrite and (is_head or not weight) and token != head
    return replace(document, weights=weights)


def _shortened(examples: list[Example]) -> list[Example]:
    """The chain without its last example or, of a single one, without its last pair; empty if nothing can go."""
    if len(examples) > 1:
        return examples[:-1]
    [only] = examples
    return [replace(only, pairs=only.pairs[:-1])] if len(only.pairs) > 1 else []


def make_synthesizer(run: Path) -> Llama:
    """Train tiny-synthesizer in `run`, or resume; finished phases are skipped."""
    folder = run / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        train_base_tokenizer(list(tokenizer_texts(0, TOKENIZER_CHAINS)), folder, CONFIG["vocab_size"])
    tokenizer = load_tokenizer(folder)
    mx.random.seed(0)
    model = Llama(ModelConfig.from_dict(CONFIG | special_ids(tokenizer)))
    for number, phase in enumerate(PHASES, 1):
        phase_folder = run / f"phase-{number}"
        phase_folder.mkdir(parents=True, exist_ok=True)
        path = phase_folder / "rows.npz"
        if not path.exists():
            pack(phase_documents(tokenizer, phase, number), phase.row_length).save(path)
        if train(model, PackedBatches(Rows.load(path), phase.batch), phase.train, phase_folder).stopped:
            raise KeyboardInterrupt
    return model


def save_synthesizer(model: Llama, run: Path, folder: Path) -> None:
    """Write the checkpoint, with what it was trained to write in synthesizer.json."""
    tokenizer = load_tokenizer(run / "tokenizer")
    ids = special_ids(tokenizer)
    write_atomically(run / "tokenizer" / "generation_config.json", json.dumps(ids, indent=2) + "\n")
    save_model(folder, model, dtype="bfloat16", tokenizer_from=run / "tokenizer")
    description = {
        "format": "tags",
        "kinds": list(KINDS),
        "rewrites": list(REWRITES),
        "shots": max(phase.most_examples for phase in PHASES),
    }
    write_atomically(folder / SYNTHESIZER_FILE, json.dumps(description, indent=2) + "\n")


def special_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """Token ids for `config.json`."""
    ids = {name: tokenizer.id_of(text) for name, text in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>"))}
    return {f"{name}_token_id": index for name, index in ids.items()}
