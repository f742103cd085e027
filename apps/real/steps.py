"""The commands of `make real`, in order, and which figures of their results are told.

Every step is a command that a user could type.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
"""What a command prints with --json."""
Figures = Callable[[Result], Mapping[str, str]]

MAGPIE_ROWS = 100
READ, UNSEEN = 40, 8
"""Articles of XQuAD that the synthesizer is trained on, and the last ones, that it writes from."""
TRAINING = "--batch 1 --learning-rate 3e-4 --eval-every 66"


def no_figures(result: Result) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the story."""

    name: str
    about: str
    """What it does, in a few words."""
    command: tuple[str, ...]
    """Arguments of `mlx-suite`."""
    figures: Figures = no_figures


def story(folder: Path, gguf: Path, data: Path, steps: int | None = None) -> list[Step]:
    """The steps in `folder`, which holds `split/` and `articles/`; `steps` shortens every training, for a trial."""
    made = ("model", "split", "tuned", "both", "chat", "magpie", "second", "synthesizer", "pairs")
    places = {
        **{name: str(folder / name) for name in made},
        "gguf": str(gguf),
        "text": str(data / "the-verdict.txt"),
        "read": str(folder / "articles" / "read.json"),
        "unseen": str(folder / "articles" / "unseen.jsonl"),
        "folder": str(folder),
    }

    def typed(line: str) -> tuple[str, ...]:
        """A command line in which {name} is a place."""
        return tuple(word.format(**places) for word in line.split())

    def train(line: str) -> tuple[str, ...]:
        return (*typed(f"{line} --json"), *(("--steps", str(steps)) if steps else ()))

    def answers(name: str, about: str, adapter: str = "") -> list[Step]:
        answered = f"{{folder}}/answers-{name}.jsonl"
        return [
            Step(
                name=f"answers-{name}",
                about=about,
                command=typed(
                    f"judge answer {{model}} {{split}} {adapter} --part test --max-tokens 128 --out {answered} --json"
                ),
            ),
            Step(
                name=f"exact-{name}",
                about="answers that equal the reference",
                command=typed(f"judge exact {answered} --against reference --json"),
                figures=_exact,
            ),
        ]

    return [
        Step(
            name="import",
            about="the GGUF file becomes a checkpoint",
            command=typed("models import {gguf} --out {model} --chat-template tiny-gemma2 --json"),
        ),
        Step(
            name="perplexity",
            about="perplexity of a story",
            command=typed("perplexity {model} {text} --json"),
            figures=_perplexity,
        ),
        *answers("base", "the base model answers the test part"),
        Step(
            name="finetune",
            about="LoRA on 935 instructions, twice as in the book",
            command=train(f"finetune {{model}} {{split}} --out {{tuned}} --epochs 2 {TRAINING}"),
            figures=_losses,
        ),
        *answers("tuned", "the finetuned model answers the test part", "--adapter {tuned}"),
        Step(
            name="pair",
            about="the base model as judge of both, with control for length",
            command=typed(
                "judge pair {folder}/answers-tuned.jsonl {folder}/answers-base.jsonl --by {model} --batch 4 --json"
            ),
            figures=_pair,
        ),
        Step(
            name="finetune-all",
            about="LoRA on the same rows, user turns in the loss",
            command=train(f"finetune {{model}} {{split}} --out {{both}} --train-on all --epochs 1 {TRAINING}"),
            figures=_losses,
        ),
        Step(name="fuse", about="the adapter is merged", command=typed("fuse {model} {both} --out {chat} --json")),
        Step(
            name="magpie",
            about=f"{MAGPIE_ROWS} rows out of nothing",
            command=typed(f"magpie run {{chat}} --count {MAGPIE_ROWS} --out {{magpie}} --tags --json"),
            figures=_magpie,
        ),
        Step(name="report", about="their report", command=typed("magpie report {magpie}")),
        Step(
            name="finetune-magpie",
            about="the base model learns from these rows",
            command=train("finetune {model} {magpie} --out {second} --epochs 2 --batch 1 --learning-rate 3e-4"),
            figures=_losses,
        ),
        *answers("second", "and answers the test part", "--adapter {second}"),
        *(
            Step(
                name=f"quantize-{bits}",
                about=f"{bits} bits per weight",
                command=typed(f"quantize {{chat}} --bits {bits} --out {{folder}}/chat-{bits}bit --json"),
                figures=_quantized,
            )
            for bits in (8, 4)
        ),
        Step(
            name="export",
            about="a GGUF file, read by llama.cpp",
            command=typed("export gguf {chat} --out {folder}/chat.gguf --check --json"),
            figures=_exported,
        ),
        Step(
            name="synthesizer",
            about=f"a synthesizer from {READ} articles",
            command=train(
                "synthesize train {model} {read} --out {synthesizer} --method lora --learning-rate 1e-3 --epochs 1 "
                "--batch 1 --max-length 1024"
            ),
            figures=_losses,
        ),
        Step(
            name="pairs",
            about=f"it writes from the texts of {UNSEEN} unseen articles",
            command=typed(
                "synthesize run {model} {unseen} --adapter {synthesizer} --rounds 1 --out {pairs} --batch 8 --json"
            ),
            figures=_pairs,
        ),
    ]


def _perplexity(result: Result) -> Mapping[str, str]:
    low, high = result["interval"]
    return {
        "perplexity": f"{result['perplexity']:.2f} ({low:.2f} to {high:.2f})",
        "bits per byte": f"{result['bits_per_byte']:.3f}",
        "tokens": f"{result['tokens']:,}",
    }


def _exact(result: Result) -> Mapping[str, str]:
    ended = result["rows"] - result["cut_off"]
    return {
        "equal to the reference": f"{result['right']} of {result['rows']}",
        "ended by themselves": f"{ended} of {result['rows']}, {ended / result['rows']:.0%}",
    }


def _losses(result: Result) -> Mapping[str, str]:
    before, best = result["valid_loss_before"], result["best_valid_loss"]
    figures = {"steps": str(result["steps"]), "trained tokens": f"{result['trained_tokens']:,}"}
    if before is not None and best is not None:
        figures["validation loss"] = f"{before:.2f} to {best:.2f} at step {result['best_step']}"
    return figures


def _pair(result: Result) -> Mapping[str, str]:
    return {
        "win rate": f"{result['win_rate']:.1%}",
        "controlled for length": f"{result['controlled']:.1%}",
        "same verdict in both orders": f"{result['pairs'] - result['inconsistent']} of {result['pairs']}",
    }


def _magpie(result: Result) -> Mapping[str, str]:
    return {
        "accepted": f"{result['accepted']} of {result['asked']}, {result['yield']:.0%}",
        "rows per hour": f"{result['accepted_rows_per_hour']:,.0f}",
        "rejected": ", ".join(f"{reason} {count}" for reason, count in result["rejected"].items()) or "none",
    }


def _quantized(result: Result) -> Mapping[str, str]:
    loss = result["loss"]
    return {
        "perplexity": f"{loss['before']:.2f} to {loss['after']:.2f}",
        "same most probable token": f"{loss['agreement']:.1%}",
        "verdict": result["verdict"],
    }


def _exported(result: Result) -> Mapping[str, str]:
    return {"size": f"{result['num_bytes'] / 1e6:.0f} MB"}


def _pairs(result: Result) -> Mapping[str, str]:
    quality, cost = result["quality"], result["cost"]["pairs"]
    return {
        "pieces that parse": f"{quality['parsed']} of {quality['pieces']}",
        "pairs": f"{quality['pairs']} from {result['texts']} texts",
        "share of an answer that is quoted from its text": f"{quality['quoted_share'] or 0:.0%}",
        "dropped": ", ".join(f"{reason} {count}" for reason, count in cost["dropped"].items()) or "none",
        "tokens per accepted pair": f"{cost['tokens_per_accepted'] or 0:.0f}",
    }
