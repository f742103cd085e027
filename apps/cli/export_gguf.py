"""`mlx-suite export gguf`: a model for llama.cpp, Ollama and LM Studio."""

import json
import re
import shlex
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import human_bytes

from .flags import AdapterFolder, AsJson, ModelName, Quiet
from .output import show

if TYPE_CHECKING:
    from mlx_suite.export.gguf import GGUFExport
    from mlx_suite.export.gguf_check import GGUFCheck


class WeightType(StrEnum):
    """Weight types of `mlx_suite.export.gguf_file`, repeated so that `--help` does not import MLX."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    Q8_0 = "q8_0"


def export_gguf(
    model: ModelName,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.gguf", help="Output file.")],
    adapter: AdapterFolder = None,
    type: Annotated[
        WeightType,
        typer.Option("--type", help="Type of matrices: f16, bf16 (lossless for bfloat16 checkpoints), f32 or q8_0."),
    ] = WeightType.F16,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Load the file with llama.cpp and compare its tokens and logits with the model's."
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a Llama, Mistral, Gemma or Qwen 3 model as a GGUF file, with a Modelfile for Ollama.

    The GGUF file holds the weights, merged with the adapter if there is one, the tokenizer and the chat template. The
    Modelfile holds the chat template in Ollama's template language, the stop tokens and the sampling settings.

    Peak memory is that of the largest matrix, not of the model. `--check` needs xllamacpp.

    Example: `mlx-suite export gguf tiny-llama3 --out tiny-llama3.gguf`
    """
    # Imported here to keep `--help` fast: MLX and the hub's client take a second.
    from mlx_suite.export.gguf import export_gguf as write
    from mlx_suite.export.llama_cpp import import_llama_cpp
    from mlx_suite.hub.resolve import resolve

    folder = resolve(model, progress=not quiet)
    if check:
        import_llama_cpp()  # fails before the file is written
    with Console(stderr=True, quiet=quiet).status(f"writing {out.name}"):
        written = write(folder, out, type=type.value, adapter=adapter)
    comparison = _compare(written, folder, adapter, quiet) if check else None
    if as_json:
        print(json.dumps(_record(written, comparison), indent=2))
    else:
        _show(written, comparison)
    if comparison is not None and not comparison.passed:
        raise UserError(
            "llama.cpp's results from the file differ from the model's",
            where=str(out),
            details=list(_failures(comparison)),
            fix="report this with the name of the model, and do not use the file",
        )


def _compare(written: "GGUFExport", folder: Path, adapter: Path | None, quiet: bool) -> "GGUFCheck":
    from mlx_suite.export.gguf import find_template
    from mlx_suite.export.gguf_check import check_gguf
    from mlx_suite.loading import load

    with Console(stderr=True, quiet=quiet).status("comparing with llama.cpp"):
        model, tokenizer = load(folder, adapter=adapter)
        return check_gguf(written.path, model, tokenizer, find_template(folder, adapter))


def _record(written: "GGUFExport", comparison: "GGUFCheck | None") -> dict[str, Any]:
    record = {**asdict(written), "path": str(written.path), "modelfile": str(written.modelfile)}
    return record | ({"check": asdict(comparison) | {"passed": comparison.passed}} if comparison is not None else {})


def _show(written: "GGUFExport", comparison: "GGUFCheck | None") -> None:
    name = re.sub(r"[^a-z0-9._-]+", "-", written.path.stem.lower())
    lines = [
        ("file", f"{written.path}  {human_bytes(written.num_bytes)}, {written.tensors} tensors, {written.type}"),
        ("Modelfile", str(written.modelfile)),
        *(("note", note) for note in written.notes),
    ]
    if comparison is not None:
        same = comparison.texts - len(comparison.other_tokens)
        lines += [
            (
                "logits",
                f"log-probabilities differ by at most {comparison.largest_difference:.2g}; "
                f"a typical logit is {comparison.typical_logit:.2g}",
            ),
            ("next token", f"the same at {comparison.agreement:.1%} of {comparison.positions} positions"),
            ("tokens", f"the same in {same} of {comparison.texts} texts"),
        ]
    modelfile = shlex.quote(str(written.modelfile))
    show([*lines, ("run it", f"ollama create {name} -f {modelfile} && ollama run {name}")])


def _failures(comparison: "GGUFCheck") -> list[str]:
    from mlx_suite.export.gguf_check import LEAST_AGREEMENT

    failures = [f"different tokens for {text!r}" for text in comparison.other_tokens]
    if comparison.agreement < LEAST_AGREEMENT:
        failures.append(f"a different next token at {1 - comparison.agreement:.0%} of the positions")
    return failures
