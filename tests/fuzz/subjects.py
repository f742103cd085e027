"""What is mutated: the files of a checkpoint, an adapter, a dataset and a recipe, each with what reads it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from mlx_suite.adapters.attach import apply_adapter, load_adapter, save_adapter, share_weights
from mlx_suite.adapters.lora import AdapterConfig, add_adapters
from mlx_suite.adapters.peft_layout import write_peft
from mlx_suite.checkpoints.description import describe
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.data.dataset import read_dataset
from mlx_suite.data.questions import read_questions
from mlx_suite.export.gguf_vocabulary import read_vocabulary
from mlx_suite.finetune.settings import FinetuneSettings, check_settings
from mlx_suite.gguf.description import describe_gguf
from mlx_suite.gguf.file import open_gguf
from mlx_suite.gguf.model_config import config_of
from mlx_suite.gguf.vocabulary import check_vocabulary
from mlx_suite.hub.check import read_card
from mlx_suite.pretrain.settings import PretrainSettings
from mlx_suite.pretrain.settings import check_settings as check_pretraining
from mlx_suite.runtime.settings_file import read_settings, required
from mlx_suite.synthesize.instruct import check_trained_forms
from mlx_suite.synthesize.readers import read_training_data
from mlx_suite.text import Message, encode_chat, load_chat_template, load_tokenizer
from mlx_suite.text.settings import LEGACY_TEMPLATE_FILE
from tests.export.checkpoints import without_template
from tests.fuzz.inputs import CSV, PRETRAIN_RECIPE, QUESTIONS, READING, RECIPE, ROWS
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_text
from tests.hub.stores import write_gguf
from tests.magpie.random_checkpoint import TOKENS, write_checkpoint

CONVERSATION = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One file that is mutated."""

    path: Path
    """Where each mutation is written; `restore` puts the original back."""
    valid: bytes
    """A content that is read without an error."""
    mutate: Callable[[Random], bytes]
    read: Callable[[], object]
    original: bytes | None = None
    """None if the file is not there."""

    def restore(self) -> None:
        if self.original is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.write_bytes(self.original)


def subject(kind: str, folder: Path) -> Subject:
    """The subject of a kind, with files in `folder`."""
    return KINDS[kind](folder)


# ---- a checkpoint


def _checkpoint(folder: Path) -> Path:
    model = write_checkpoint(folder / "model")
    (model / "generation_config.json").write_text('{"eos_token_id": [265, 257], "temperature": 0.6}')
    return model


def _json_file(name: str, read: Callable[[Path], object], start: str, folder: Path) -> Subject:
    """A JSON file of a checkpoint; `start` is its content if a checkpoint here has none."""
    model = _checkpoint(folder)
    if name == LEGACY_TEMPLATE_FILE:  # it is read only without the others
        without_template(model)
    path = model / name
    original = path.read_bytes() if path.is_file() else None
    value = json.loads(original or start)
    return Subject(
        path=path,
        valid=original or start.encode(),
        mutate=lambda random: mutated_json(random, value),
        read=lambda: read(model),
        original=original,
    )


def _template(folder: Path) -> Subject:
    model = _checkpoint(folder)
    path, source = model / "chat_template.jinja", load_chat_template(model).source
    return Subject(
        path=path,
        valid=source.encode(),
        mutate=lambda random: mutated_text(random, source),
        read=lambda: _read_texts(model),
        original=path.read_bytes() if path.is_file() else None,
    )


def _header(folder: Path) -> Subject:
    model = _checkpoint(folder)
    path = model / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    return Subject(
        path=path,
        valid=data,
        mutate=lambda random: _mutated_header(random, header, rest),
        read=lambda: _read_weights(model),
        original=data,
    )


def _index(folder: Path) -> Subject:
    model = _checkpoint(folder)
    index = {"weight_map": dict.fromkeys(read_headers(model), "model.safetensors")}
    return Subject(
        path=model / "model.safetensors.index.json",
        valid=json.dumps(index).encode(),
        mutate=lambda random: mutated_json(random, index),
        read=lambda: _read_weights(model),
    )


def _card(folder: Path) -> Subject:
    card, path = (
        "---\nlicense: apache-2.0\nbase_model:\n- owner/repo\ntags: [a, b]\n---\n# A model\n",
        folder / "README.md",
    )
    return Subject(
        path=path,
        valid=card.encode(),
        mutate=lambda random: mutated_text(random, card),
        read=lambda: read_card(path),
    )


def _gguf(folder: Path) -> Subject:
    path = write_gguf(folder / "tiny.gguf")
    data = path.read_bytes()
    return Subject(
        path=path,
        valid=data,
        mutate=lambda random: mutated_bytes(random, data[:2000]) + data[2000:],
        read=lambda: _read_gguf(path),
    )


def _read_gguf(path: Path) -> None:
    file = open_gguf(path)
    describe_gguf(file)
    config_of(file)
    check_vocabulary(file.metadata)


def _read_model(folder: Path) -> None:
    """What `models info` and `generate` read before they compute."""
    from apps.cli.model_facts import model_facts

    model_facts(describe(folder))
    _read_texts(folder)
    load_model(folder, lazy=True)


def _read_texts(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    encode_chat(tokenizer, load_chat_template(folder), CONVERSATION, add_generation_prompt=True)


def _read_tokenizer(folder: Path) -> None:
    describe(folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.encode_batch(["Hi 12.", "\u4e2d\U0001f600"])
    assert tokenizer.digest and tokenizer.reserved_ids is not None
    tokenizer.decode(tokenizer.encode("Hello, you. é"))
    read_vocabulary(folder, TOKENS)


def _read_weights(folder: Path) -> None:
    describe(folder)
    load_model(folder, lazy=True)


def _mutated_header(random: Random, header: dict[str, Any], rest: bytes) -> bytes:
    changed = mutated_json(random, header)
    data = len(changed).to_bytes(8, "little") + changed + rest
    return mutated_bytes(random, data[:200]) + data[200:] if random.random() < 0.2 else data


# ---- an adapter


def _adapter(layout: str, folder: Path) -> Subject:
    model = load_model(_checkpoint(folder), lazy=True)
    config = AdapterConfig(rank=2, alpha=4.0, modules=("q_proj", "down_proj"))
    adapted = share_weights(model)
    add_adapters(adapted, config, seed=0)
    adapter = folder / "adapter"
    save_adapter(adapter, adapted, config, "base")
    if layout == "peft":
        found = load_adapter(adapter)
        for path in adapter.iterdir():
            path.unlink()
        write_peft(adapter, found)
    path = adapter / "adapter_config.json"
    value = json.loads(path.read_text())
    return Subject(
        path=path,
        valid=path.read_bytes(),
        mutate=lambda random: mutated_json(random, value),
        read=lambda: apply_adapter(share_weights(model), load_adapter(adapter), where=str(adapter)),
        original=path.read_bytes(),
    )


# ---- data


def _lines(random: Random) -> bytes:
    row = random.choice(ROWS)
    return b"\n".join((json.dumps(row).encode(), mutated_json(random, row))) + b"\n"


def _array(random: Random) -> bytes:
    return mutated_json(random, [random.choice(ROWS)] * 2)


def _rows(name: str, valid: bytes, mutate: Callable[[Random], bytes], folder: Path) -> Subject:
    path = folder / name
    return Subject(path=path, valid=valid, mutate=mutate, read=lambda: read_dataset(path))


def _parquet(folder: Path) -> Subject:
    import pyarrow
    import pyarrow.parquet

    path = folder / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS[:1] * 5), path, compression="none")
    data = path.read_bytes()
    path.unlink()
    return _rows(path.name, data, lambda random: mutated_bytes(random, data), folder)


def _reading(folder: Path) -> Subject:
    path = folder / "reading.jsonl"
    return Subject(
        path=path,
        valid=b"\n".join(json.dumps(row).encode() for row in READING),
        mutate=lambda random: mutated_json(random, random.choice(READING)) + b"\n",
        read=lambda: read_training_data([str(path)]),
    )


def _questions(folder: Path) -> Subject:
    path = folder / "tag_questions.json"
    return Subject(
        path=path,
        valid=json.dumps(QUESTIONS).encode(),
        mutate=lambda random: mutated_json(random, QUESTIONS),
        read=lambda: read_questions(path),
    )


def _synthesizer(folder: Path) -> Subject:
    forms = {"rewrites": ["wikipedia", "toddler"], "pairs": True}
    return Subject(
        path=folder / "synthesizer.json",
        valid=json.dumps(forms).encode(),
        mutate=lambda random: mutated_json(random, forms),
        read=lambda: check_trained_forms([folder], ["wikipedia", "pairs"]),
    )


# ---- recipes


def _recipe(settings: type, check: Callable[[Any], object], text: str, folder: Path) -> Subject:
    path = folder / "recipe.yaml"

    def read() -> None:
        values = read_settings(path, settings, "steps: 8")
        if all(name in values for name in required(settings)):
            check(settings(**values))

    return Subject(path=path, valid=text.encode(), mutate=lambda random: mutated_text(random, text), read=read)


KINDS: Mapping[str, Callable[[Path], Subject]] = {
    "config.json": partial(_json_file, "config.json", _read_model, ""),
    "generation_config.json": partial(_json_file, "generation_config.json", _read_model, ""),
    "tokenizer_config.json": partial(_json_file, "tokenizer_config.json", _read_texts, ""),
    "special_tokens_map.json": partial(_json_file, "special_tokens_map.json", _read_texts, "{}"),
    LEGACY_TEMPLATE_FILE: partial(_json_file, LEGACY_TEMPLATE_FILE, _read_texts, '{"chat_template": "{{ messages }}"}'),
    "tokenizer.json": partial(_json_file, "tokenizer.json", _read_tokenizer, ""),
    "chat_template.jinja": _template,
    "safetensors header": _header,
    "index": _index,
    "model card": _card,
    "GGUF": _gguf,
    "adapter": partial(_adapter, "mlx"),
    "PEFT adapter": partial(_adapter, "peft"),
    "rows.jsonl": partial(_rows, "rows.jsonl", json.dumps(ROWS[0]).encode(), _lines),
    "rows.json": partial(_rows, "rows.json", json.dumps(ROWS[:1]).encode(), _array),
    "rows.csv": partial(_rows, "rows.csv", CSV, lambda random: mutated_bytes(random, CSV)),
    "rows.parquet": _parquet,
    "questions about texts": _reading,
    "tag questions": _questions,
    "synthesizer.json": _synthesizer,
    "recipe": partial(_recipe, FinetuneSettings, check_settings, RECIPE),
    "pretraining recipe": partial(_recipe, PretrainSettings, check_pretraining, PRETRAIN_RECIPE),
}
"""Every kind of input."""
