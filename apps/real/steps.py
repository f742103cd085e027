"""The commands of `make real`, in order, and which figures of their results are told.

Every step is a command that a user could type.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
"""What a command prints with --json."""
Figures = Callable[[Result], Mapping[str, str]]

MAGPIE_ROWS = 100
READ, UNSEEN = 40, 8
"""Articles of XQuAD that the synthesizer is trained on, and the last ones, that it writes from."""


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
    figures: Figures = field(default=no_figures)


def story(folder: Path, gguf: Path, data: Path, steps: int | None = None) -> list[Step]:
    """The steps in `folder`, which holds `split/` and `articles/`; `steps` shortens every training, for a trial."""

    def at(name: str) -> str:
        return str(folder / name)

    def train(*arguments: str) -> tuple[str, ...]:
        return (*arguments, "--json", *(("--steps", str(steps)) if steps else ()))

    def answers(name: str, about: str, model: str, adapter: str | None = None) -> Step:
        extra = ("--adapter", at(adapter)) if adapter else ()
        return Step(
            name=f"answers-{name}",
            about=about,
            command=(
                "judge",
                "answer",
                model,
                at("split"),
                *extra,
                "--part",
                "test",
                "--max-tokens",
                "256",
                "--out",
                at(f"answers-{name}.jsonl"),
                "--json",
            ),  # fmt: skip
        )

    def exact(name: str) -> Step:
        return Step(
            name=f"exact-{name}",
            about="answers that equal the reference",
            command=("judge", "exact", at(f"answers-{name}.jsonl"), "--against", "reference", "--json"),
            figures=lambda r: {"equal to the reference": f"{r['right']} of {r['rows']}", "cut off": str(r["cut_off"])},
        )

    model, chat = at("model"), at("chat")
    return [
        Step(
            name="import",
            about="the GGUF file becomes a checkpoint",
            command=("models", "import", str(gguf), "--out", model, "--chat-template", "tiny-gemma2", "--json"),
        ),
        Step(
            name="perplexity",
            about="perplexity of a story",
            command=("perplexity", model, str(data / "the-verdict.txt"), "--json"),
            figures=_perplexity,
        ),
        answers("base", "the base model answers the test part", model),
        exact("base"),
        Step(
            name="finetune",
            about="LoRA on 935 instructions",
            command=train(
                "finetune",
                model,
                at("split"),
                "--out",
                at("tuned"),
                "--epochs",
                "1",
                "--batch",
                "2",
                "--eval-every",
                "20",
            ),  # fmt: skip
            figures=_losses,
        ),
        answers("tuned", "the finetuned model answers the test part", model, "tuned"),
        exact("tuned"),
        Step(
            name="pair",
            about="the finetuned model as judge of both, with control for length",
            command=(
                "judge",
                "pair",
                at("answers-tuned.jsonl"),
                at("answers-base.jsonl"),
                "--by",
                model,
                "--json",
            ),  # fmt: skip
            figures=lambda r: {
                "win rate": f"{r['win_rate']:.1%}",
                "controlled for length": f"{r['controlled']:.1%}",
                "same verdict in both orders": f"{r['pairs'] - r['inconsistent']} of {r['pairs']}",
            },
        ),
        Step(
            name="finetune-all",
            about="LoRA on the same rows, user turns in the loss",
            command=train(
                "finetune",
                model,
                at("split"),
                "--out",
                at("both"),
                "--epochs",
                "1",
                "--batch",
                "2",
                "--train-on",
                "all",
                "--eval-every",
                "20",
            ),  # fmt: skip
            figures=_losses,
        ),
        Step(
            name="fuse",
            about="the adapter is merged",
            command=("fuse", model, at("both"), "--out", chat, "--json"),
        ),
        Step(
            name="magpie",
            about=f"{MAGPIE_ROWS} rows out of nothing",
            command=("magpie", "run", chat, "--count", str(MAGPIE_ROWS), "--out", at("magpie"), "--tags", "--json"),
            figures=lambda r: {
                "accepted": f"{r['accepted']} of {r['asked']}, {r['yield']:.0%}",
                "rows per hour": f"{r['accepted_rows_per_hour']:,.0f}",
                "rejected": ", ".join(f"{reason} {count}" for reason, count in r["rejected"].items()) or "none",
            },
        ),
        Step(name="report", about="their report", command=("magpie", "report", at("magpie"))),
        Step(
            name="finetune-magpie",
            about="the base model learns from these rows",
            command=train("finetune", model, at("magpie"), "--out", at("second"), "--batch", "2"),
            figures=_losses,
        ),
        answers("second", "and answers the test part", model, "second"),
        exact("second"),
        Step(
            name="quantize-8",
            about="8 bits per weight",
            command=("quantize", chat, "--bits", "8", "--out", at("chat-8bit"), "--json"),
        ),
        Step(
            name="quantize-4",
            about="4 bits per weight",
            command=("quantize", chat, "--bits", "4", "--out", at("chat-4bit"), "--json"),
        ),
        Step(
            name="export",
            about="a GGUF file, read by llama.cpp",
            command=("export", "gguf", chat, "--out", at("chat.gguf"), "--check", "--json"),
        ),
        Step(
            name="synthesizer",
            about=f"a synthesizer from {READ} articles",
            command=train(
                "synthesize",
                "train",
                model,
                at("articles/read.json"),
                "--out",
                at("synthesizer"),
                "--method",
                "lora",
                "--learning-rate",
                "1e-3",
                "--epochs",
                "1",
                "--batch",
                "1",
                "--max-length",
                "1024",
            ),  # fmt: skip
            figures=_losses,
        ),
        Step(
            name="pairs",
            about=f"it writes from the texts of {UNSEEN} unseen articles",
            command=(
                "synthesize",
                "run",
                model,
                at("articles/unseen.jsonl"),
                "--adapter",
                at("synthesizer"),
                "--rounds",
                "1",
                "--out",
                at("pairs"),
                "--json",
            ),  # fmt: skip
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


def _losses(result: Result) -> Mapping[str, str]:
    before, best = result["valid_loss_before"], result["best_valid_loss"]
    figures = {"steps": str(result["steps"]), "trained tokens": f"{result['trained_tokens']:,}"}
    if before is not None and best is not None:
        figures["validation loss"] = f"{before:.2f} to {best:.2f} at step {result['best_step']}"
    return figures


def _pairs(result: Result) -> Mapping[str, str]:
    quality, cost = result["quality"], result["cost"]["pairs"]
    return {
        "pieces that parse": f"{quality['parsed']} of {quality['pieces']}",
        "pairs": f"{quality['pairs']} from {result['texts']} texts",
        "share of an answer that is quoted from its text": f"{quality['quoted_share'] or 0:.0%}",
        "dropped": ", ".join(f"{reason} {count}" for reason, count in cost["dropped"].items()) or "none",
        "tokens per accepted pair": f"{cost['tokens_per_accepted'] or 0:.0f}",
    }
