"""The commands of `mlx-suite` by name; a command's module is imported when that command is used.

`mlx-suite --help` therefore imports none of them, and `mlx-suite generate` only its own.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from .help import HelpGroup, Row, add, new_app

MENU = {
    "doctor": ("doctor:doctor", "Show the machine, backend, BLAS, memory, measured speeds, and which models fit."),
    "generate": ("generate:generate", "Generate one response and stream it."),
    "chat": ("chat:chat", "Chat with a model in the terminal."),
    "serve": ("serve:serve", "Serve models: a chat page, and the APIs of OpenAI, Anthropic and Ollama."),
    "magpie": (
        "magpie:magpie_app",
        "Let a chat model write instruction data; tag, filter, report on and export datasets.",
    ),
    "finetune": ("finetune:finetune", "Train a model on a file of examples."),
    "distill": ("distill:distill", "Train a student to give the probabilities that a teacher gives."),
    "pretrain": (
        "pretrain:pretrain",
        "Train a new model on a corpus, or a checkpoint further (continual pretraining).",
    ),
    "synthesize": (
        "synthesize:synthesize_app",
        "Instruction Pre-Training (arXiv 2406.14491): instruction-response pairs written from the texts of a corpus.",
    ),
    "lab": (
        "lab:lab",
        "Compare arms with several seeds, score them alike, and say what differs and what was not shown.",
    ),
    "fuse": ("fuse:fuse", "Merge an adapter into its model, so that any program can load the result."),
    "merge": ("merge:merge", "Merge models, or adapters of one model, into one."),
    "warp": (
        "warp:warp",
        "Improve a model in rounds: finetune several with different seeds, merge them, go a part of the way (WARP).",
    ),
    "quantize": ("quantize:quantize", "Quantize a model to a few bits per weight, in mlx-lm's format."),
    "export": ("export:export_app", "Write models and adapters in the formats of other programs."),
    "judge": ("judge:judge_app", "Grade a model's responses with a judge, or check them against known answers."),
    "perplexity": (
        "perplexity:perplexity",
        "Measure how well a model predicts a text, or the responses of conversations.",
    ),
    "evaluate": ("evaluate:evaluate", "Run benchmark tasks of the lm-evaluation-harness on a model."),
    "models": ("models:models_app", "List models, show a model's details, download one, or import a GGUF file."),
    "bench": ("bench:bench_app", "Compare our speed and memory with other libraries', both measured in one run."),
}
"""Name -> (module of this package and what it holds, the first paragraph of the command's help)."""


class LazyCommands(Mapping[str, Any]):
    """The commands of MENU; looking one up imports it."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load_command(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in MENU

    def __iter__(self) -> Iterator[str]:
        return iter(MENU)

    def __len__(self) -> int:
        return len(MENU)


class Menu(HelpGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = LazyCommands()  # type: ignore[assignment]

    def summaries(self) -> list[Row]:
        return [(name, about) for name, (_, about) in MENU.items()]


def load_command(name: str) -> Any:
    """Import a command, or a group of commands; KeyError if MENU has no such name."""
    module, _, attribute = MENU[name][0].partition(":")
    found = getattr(importlib.import_module(f".{module}", __package__), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = new_app(name, "")
    add(alone, found, name)
    return typer.main.get_command(alone)
