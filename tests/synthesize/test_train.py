"""Training a synthesizer: chains prepared, a model that loads and says what it is, the same weights after a kill."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.checkpoints.load import load_model
from mlx_suite.data.encode.styles import Writer
from mlx_suite.finetune.run import RunCallbacks
from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.format import encode_prompt
from mlx_suite.synthesize.train import (
    command,
    prepare_synthesizer,
    synthesizer_template,
    train_synthesizer,
)
from mlx_suite.synthesize.train_settings import SynthesizerSettings, check_synthesizer_settings
from mlx_suite.text import Message, Tokenizer, load_chat_template, load_tokenizer
from tests.finetune.story import bits, log
from tests.magpie.random_checkpoint import write_checkpoint


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """On the CPU, without `mx.compile`, which takes a second for each new kernel."""
    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    yield
    mx.enable_compile()
    mx.set_default_device(usual)


pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer model in which every letter is a token."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 short texts with two pairs each."""
    rows = [
        {
            "text": f"a{n} b",
            "pairs": [{"question": f"a{n}?", "answer": "b"}, {"question": "c?", "answer": "a", "options": ["a", "b"]}],
        }
        for n in range(24)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(base: Path, data: Path, **changes: Any) -> SynthesizerSettings:
    given: dict[str, Any] = {
        "model": str(base),
        "data": (str(data),),
        "out": str(data.parent / "run"),
        "steps": 4,
        "batch": 1,
        "max_length": 256,
        "shots": 2,
        "learning_rate": 3e-3,
        "valid_share": 0.1,
        "eval_every": 2,
        "save_every": 2,
        "log_every": 1,
        "sample_tokens": 2,
    }
    return SynthesizerSettings(**given | changes)


def test_texts_are_split_before_they_are_chained(base: Path, data: Path) -> None:
    prepared = prepare_synthesizer(settings(base, data))
    train, valid = (
        {each.example.text for chain in chains.chains for each in chain} for chains in (prepared.train, prepared.valid)
    )
    assert (len(train), len(valid)) == (22, 2)
    assert not train & valid
    assert len(prepared.run.train) == 11 and len(prepared.run.valid) == 1
    assert prepared.description == {
        "format": "tags",
        "kinds": ["free", "choice"],
        "rewrites": [],
        "shots": 2,
        "data": [{"name": "own.jsonl", "shape": "own", "examples": 24, "pairs": 48}],
    }


def test_the_fingerprint_depends_on_the_chains(base: Path, data: Path) -> None:
    usual, same, other = (prepare_synthesizer(settings(base, data, shots=shots)).run.fingerprint for shots in (2, 2, 1))
    assert usual == same != other


def test_a_run_ends_with_synthesizers_that_load_and_say_what_they_are(base: Path, data: Path) -> None:
    chosen = settings(base, data)
    finished = train_synthesizer(prepare_synthesizer(chosen))
    assert finished.state.step == 4
    losses = [line["loss"] for line in log(finished.folder, "valid")]
    assert losses[-1] < losses[0]
    last = finished.folder / "last"
    assert bits(last) != bits(base)
    load_model(last)
    for folder in (finished.folder, finished.folder / "best", last):
        assert json.loads((folder / "synthesizer.json").read_text())["kinds"] == ["free", "choice"]
    assert (finished.folder / "config.yaml").read_text().startswith("# mlx-suite synthesize train ")
    # The saved chat template is the format: a text as a user turn is the prompt.
    tokenizer = load_tokenizer(last)
    writer = Writer(style="chat", tokenizer=tokenizer, template=load_chat_template(last))
    assert writer.ask([Message("user", "a b")]) == encode_prompt(tokenizer, [], "a b")
    samples = [json.loads(line) for line in (finished.folder / "samples.jsonl").read_text().splitlines()]
    assert {sample["step"] for sample in samples} == {0, 2, 4}


@pytest.mark.parametrize("name", ["gemma2", "gemma2_pieces", "letters", "mistral"])
def test_the_chat_template_writes_a_chain_as_turns(name: str, request: pytest.FixtureRequest) -> None:
    from mlx_suite.synthesize.format import write_completion
    from tests.synthesize.test_format import PERSON, TOWN

    tokenizer: Tokenizer = request.getfixturevalue(name)
    writer = Writer(style="chat", tokenizer=tokenizer, template=synthesizer_template(tokenizer))
    turns = [
        turn
        for example in (TOWN, PERSON)
        for turn in (Message("user", example.text), Message("assistant", write_completion(example)))
    ]
    asked = [*turns, Message("user", "Ben flies.")]
    assert writer.ask(asked) == encode_prompt(tokenizer, [TOWN, PERSON], "Ben flies.")


def test_a_run_that_was_killed_ends_with_the_same_weights(base: Path, data: Path) -> None:
    whole = settings(base, data, out=str(data.parent / "whole"))
    train_synthesizer(prepare_synthesizer(whole))

    class Killed(BaseException):
        pass

    def kill(step: int, loss: float, trained: int) -> None:
        if step == 3:
            raise Killed

    broken = settings(base, data, out=str(data.parent / "broken"))
    with pytest.raises(Killed):
        train_synthesizer(prepare_synthesizer(broken), callbacks=RunCallbacks(step=kill))
    assert not (data.parent / "broken" / "last").exists()
    train_synthesizer(prepare_synthesizer(broken))
    assert bits(data.parent / "broken" / "last") == bits(data.parent / "whole" / "last")


def test_a_folder_with_other_chains_is_refused(base: Path, data: Path) -> None:
    first = settings(base, data, steps=1)
    train_synthesizer(prepare_synthesizer(first))
    other = replace(first, shots=1)
    with pytest.raises(UserError, match="data"):
        train_synthesizer(prepare_synthesizer(other))


def test_lora_leaves_an_adapter_that_is_a_synthesizer_too(base: Path, data: Path) -> None:
    chosen = settings(base, data, method="lora", rank=2, steps=1)
    finished = train_synthesizer(prepare_synthesizer(chosen))
    assert {path.name for path in (finished.folder / "last").iterdir()} >= {"adapter_config.json", "synthesizer.json"}


def test_an_example_longer_than_a_chain_is_counted_and_if_none_fits_the_run_is_refused(base: Path, data: Path) -> None:
    with data.open("a") as file:
        file.write(json.dumps({"text": "a" * 300, "pairs": [{"question": "a?", "answer": "b"}]}) + "\n")
    assert prepare_synthesizer(settings(base, data)).run.counts.dropped == 1
    with pytest.raises(UserError, match="No example is left") as error:
        prepare_synthesizer(settings(base, data, max_length=16))
    assert error.value.fix == "raise --max-length"


@pytest.mark.parametrize(("given", "used"), [(None, 256), (200, 200), (512, 512)])
def test_chains_are_as_long_as_the_context_of_the_model_unless_told_otherwise(
    base: Path, data: Path, given: int | None, used: int
) -> None:
    prepared = prepare_synthesizer(settings(base, data, max_length=given, shots=None))
    assert prepared.settings.finetune.max_length == used
    assert used / 2 < max(map(len, prepared.run.train)) <= used


def test_the_command_that_repeats_a_run_names_what_was_chosen(base: Path) -> None:
    chosen = SynthesizerSettings(
        model="tiny-llama3", data=("squad.json", "my data.json"), out="runs/a", shots=3, recompute=True
    )
    assert command(chosen) == (
        "mlx-suite synthesize train tiny-llama3 squad.json 'my data.json' --out FOLDER --shots 3 --recompute"
    )


def test_invalid_settings_are_refused_together() -> None:
    with pytest.raises(UserError) as error:
        check_synthesizer_settings(SynthesizerSettings(model="m", data=(), shots=0, most_examples=0, context_weight=2))
    assert list(error.value.details) == [
        "data is missing: expected a file or microworld",
        "shots is 0: expected a whole number of at least 1",
        "most_examples is 0: expected a whole number of at least 1",
        "context_weight is 2: expected 0 to 1",
    ]
    with pytest.raises(UserError, match="setting is invalid") as error:
        check_synthesizer_settings(SynthesizerSettings(model="m", data=("d",), method="none"))
    assert list(error.value.details) == ["method is 'none': one of lora, dora, full"]
