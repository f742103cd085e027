"""The Modelfile of a GGUF file, which gives `ollama create` the chat template, stop tokens and sampling settings.

Format: FROM, TEMPLATE and PARAMETER lines (docs.ollama.com/modelfile).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.export.go_template import go_template, read_turns
from mlx_suite.runtime.json_file import read_object
from mlx_suite.text.template import ChatTemplate
from mlx_suite.text.tokenizer import Tokenizer

MOST_CONTEXT = 8192
"""Maximum context requested: Ollama allocates memory for all of it, and 128k tokens take more than the model."""

SAMPLING = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
"""Keys of generation_config.json → Ollama's parameters."""

NO_TEMPLATE = """\
# No TEMPLATE: {reason}.
# Ollama then uses a built-in template if it recognizes the chat template in the GGUF file."""


def modelfile(
    gguf: Path, folder: Path, tokenizer: Tokenizer, template: ChatTemplate | None, *, context: int
) -> tuple[str, str | None]:
    """Text of the Modelfile next to `gguf`, and the reason why it has no TEMPLATE (None if it has one).

    Args:
        folder: The checkpoint, for the sampling settings of its generation_config.json.
        context: Tokens up to which the GGUF file matches the model.
    """
    lines = [f"FROM ./{gguf.name}", ""]
    text, reason = _template(tokenizer, template)
    lines += [NO_TEMPLATE.format(reason=reason) if text is None else f'TEMPLATE """{text}"""', ""]
    stops = [tokenizer.token_of(index) for index in sorted(tokenizer.stop_ids)]
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if stop and '"' not in stop]
    lines.append(f"PARAMETER num_ctx {min(context, MOST_CONTEXT)}")
    lines += [f"PARAMETER {name} {value}" for name, value in _sampling(folder).items()]
    return "\n".join(lines) + "\n", reason


def _template(tokenizer: Tokenizer, template: ChatTemplate | None) -> tuple[str | None, str | None]:
    if template is None:
        return None, "the checkpoint has no chat template"
    turns = read_turns(tokenizer, template)
    if turns is None:
        return None, "the chat template does more than put fixed text around messages"
    # Ollama adds BOS to every prompt if the GGUF file says so.
    bos = tokenizer.settings.roles.get("bos_token", "") if tokenizer.adds_bos else ""
    text = go_template(turns, bos)
    return (None, "the chat template contains three quotes in a row") if '"""' in text else (text, None)


def _sampling(folder: Path) -> Mapping[str, Any]:
    config = read_object(folder / "generation_config.json")
    if config.get("do_sample") is False:
        return {}
    return {theirs: config[ours] for ours, theirs in SAMPLING.items() if isinstance(config.get(ours), int | float)}
