"""What is mutated: the files of a checkpoint, of a dataset and of a recipe, each with what reads it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mlx_suite.checkpoints.description import describe
from mlx_suite.checkpoints.load import load_model
from mlx_suite.data.dataset import read_dataset
from mlx_suite.finetune.settings import FinetuneSettings, check_settings
from mlx_suite.runtime.settings_file import read_settings, required
from mlx_suite.text import Message, encode_chat, load_chat_template, load_tokenizer
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_text
from tests.magpie.random_checkpoint import write_checkpoint

CONVERSATION = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")]
ROWS = [
    {"instruction": "Name a colour.", "input": "", "output": "Red."},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}], "tools": []},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
    {"prompt": "Two plus two?", "completion": "Four."},
    {"text": "A plain text."},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
]
CSV = b'instruction,output\nName a colour.,"Red, or blue."\nName a day.,Monday\n'
RECIPE = (
    "model: tiny-llama3\ndata: rows.jsonl\nmethod: lora\nrank: 8\nlearning_rate: 1.0e-4\nsteps: 10\nbatch_size: 4\n"
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One file that is mutated."""

    path: Path
    """Where each mutation is written; `restore` puts the original back."""
    mutate: Callable[[Random], bytes]
    read: Callable[[], object]
    original: bytes | None

    def restore(self) -> None:
        if self.original is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.write_bytes(self.original)


def subjects(folder: Path) -> Mapping[str, Subject]:
    """Every kind of input, with files in `folder`."""
    model = write_checkpoint(folder / "model")
    (model / "generation_config.json").write_text('{"eos_token_id": [265, 257], "temperature": 0.6}')
    found = {name: _json_file(model, name) for name in _JSON_FILES if (model / name).is_file()}
    template, weights = model / "chat_template.jinja", model / "model.safetensors"
    source = load_chat_template(model).source
    found["chat_template.jinja"] = Subject(
        path=template,
        mutate=lambda random: mutated_text(random, source),
        read=lambda: _read_model(model),
        original=template.read_bytes() if template.is_file() else None,
    )
    header, rest = _header_of(weights)
    found["safetensors header"] = Subject(
        path=weights,
        mutate=lambda random: _mutated_header(random, header, rest),
        read=lambda: _read_weights(model),
        original=weights.read_bytes(),
    )
    index = {"weight_map": {name: "model.safetensors" for name in header if name != "__metadata__"}}
    found["index"] = Subject(
        path=model / "model.safetensors.index.json",
        mutate=lambda random: mutated_json(random, index),
        read=lambda: _read_weights(model),
        original=None,
    )
    for name, mutate in _DATA.items():
        found[name] = _data_file(folder / "data", name, mutate)
    recipe = folder / "recipe.yaml"
    found["recipe"] = Subject(
        path=recipe,
        mutate=lambda random: mutated_text(random, RECIPE),
        read=lambda: _read_recipe(recipe),
        original=None,
    )
    return found


_JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")


def _json_file(model: Path, name: str) -> Subject:
    value = json.loads((model / name).read_text())
    return Subject(
        path=model / name,
        mutate=lambda random: mutated_json(random, value),
        read=lambda: _read_model(model),
        original=(model / name).read_bytes(),
    )


def _read_model(folder: Path) -> None:
    """What `models info` and `generate` read before they compute."""
    describe(folder)
    tokenizer = load_tokenizer(folder)
    encode_chat(tokenizer, load_chat_template(folder), CONVERSATION, add_generation_prompt=True)
    load_model(folder, lazy=True)


def _read_weights(folder: Path) -> None:
    describe(folder)
    load_model(folder, lazy=True)


def _read_recipe(path: Path) -> None:
    values = read_settings(path, FinetuneSettings, "rank: 8")
    if all(name in values for name in required(FinetuneSettings)):
        check_settings(FinetuneSettings(**values))


def _header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _mutated_header(random: Random, header: dict[str, Any], rest: bytes) -> bytes:
    changed = mutated_json(random, header)
    data = len(changed).to_bytes(8, "little") + changed + rest
    return mutated_bytes(random, data[:200]) + data[200:] if random.random() < 0.2 else data


def _lines(random: Random) -> bytes:
    rows = random.sample(ROWS, random.randint(1, 3))
    return b"\n".join(mutated_json(random, row) for row in rows) + b"\n"


_DATA: Mapping[str, Callable[[Random], bytes]] = {
    "rows.jsonl": _lines,
    "rows.json": lambda random: mutated_json(random, random.sample(ROWS, 2)),
    "rows.csv": lambda random: mutated_bytes(random, CSV),
}


def _data_file(folder: Path, name: str, mutate: Callable[[Random], bytes]) -> Subject:
    folder.mkdir(exist_ok=True)
    path = folder / name
    return Subject(path=path, mutate=mutate, read=lambda: read_dataset(path), original=None)
