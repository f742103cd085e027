"""The chat templates of the families that Magpie is used with: to lend one, and to tell a changed one.

A checkpoint's own template is always right, if it has one; `derive_pre_query` reads the header off it. Two things need
a table. A checkpoint without a template (a base model, an old upload) can borrow the one of its family, which goes
through the same derivation and its proof. And a template that someone has changed (another system text by default, a
newline more) changes what is asked; for the vocabularies known here it can be told.

Where the headers of the reference (magpie-align/magpie, configs/model_configs.json) differ, the template is right:

* Gemma 2: the reference ends in two newlines, the template in one. Two are another token (109, not 108), which began
  no user's turn in training.
* Phi-3: the reference begins with `<s> ` and ends in a newline. The markers of its tokenizer swallow the whitespace
  behind them, so the newline is no token; BOS is there in the templates that write it, and then without a space.
* Mistral v0.3: the reference ends in a space. The first token of a word carries it (`▁What`), so a model that is given
  the space goes on with words that lack theirs.
* Llama 3.1 to 3.3: the reference leaves out the system turn with two dates that the template writes. To ask without
  it, lend `llama3` to these models.
* Qwen 2: the reference leaves out the default system turn that the template writes; for Qwen 2.5 it keeps it, and
  without it most of what the model asked was unusable (magpie issue 28).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Tokenizer, derive_pre_query

_LLAMA = """\
{{- '<|begin_of_text|>' }}
%s
{%%- for message in messages %%}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%%- endfor %%}
{%%- if add_generation_prompt %%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%%- endif %%}
"""
_LLAMA_DATES = """\
{%- set wish = messages[0].content | trim if messages[0].role == 'system' else '' %}
{%- set messages = messages[1:] if messages[0].role == 'system' else messages %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n' }}
{{- 'Today Date: ' + (date_string or '26 Jul 2024') + '\\n\\n' + wish + '<|eot_id|>' }}"""
_GEMMA = """\
{{- '<bos>' }}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {{- raise_exception('System role not supported') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""
_MISTRAL = """\
{{- '<s>' }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + '</s>' }}
    {%- else %}
        {{- raise_exception('System role not supported') }}
    {%- endif %}
{%- endfor %}
"""
_CHATML = """\
%s
{%%- for message in messages %%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%%- endfor %%}
{%%- if add_generation_prompt %%}
    {{- '<|im_start|>assistant\\n' }}
{%%- endif %%}
"""
_CHATML_SYSTEM = """\
{%%- if messages[0].role != 'system' %%}
    {{- '<|im_start|>system\\n%s<|im_end|>\\n' }}
{%%- endif %%}"""
_PHI = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}
"""

QWEN2_SYSTEM = "You are a helpful assistant."
QWEN25_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that share a template."""

    models: str
    """Which they are, for messages."""
    source: str
    """Their template, in Jinja, as short as it can be."""
    markers: Mapping[str, int]
    """The tokens that its turns are made of, with their ids in the family's own vocabulary."""
    header: str
    """An expression for what stands before the first question, special tokens written out."""


def _headers(system: str = "") -> str:
    """The ChatML header behind a system turn, as an expression."""
    turn = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return re.escape(turn + "<|im_start|>user\n")


_LLAMA_USER = re.escape("<|start_header_id|>user<|end_header_id|>\n\n")
_LLAMA_SYSTEM = (
    re.escape("<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ")
    + r"\d\d \w{3} \d{4}\n\n"
    + re.escape("<|eot_id|>")
)
_LLAMA_MARKERS = {"<|begin_of_text|>": 128000, "<|start_header_id|>": 128006, "<|end_header_id|>": 128007}
_QWEN_MARKERS = {"<|im_start|>": 151644, "<|im_end|>": 151645}

FAMILIES: Mapping[str, Family] = {
    "llama3": Family(
        models="Llama 3",
        source=_LLAMA % "",
        markers=_LLAMA_MARKERS,
        header=re.escape("<|begin_of_text|>") + _LLAMA_USER,
    ),
    "llama3.1": Family(
        models="Llama 3.1, 3.2 and 3.3",
        source=_LLAMA % _LLAMA_DATES,
        markers=_LLAMA_MARKERS,
        header=re.escape("<|begin_of_text|>") + _LLAMA_SYSTEM + _LLAMA_USER,
    ),
    "gemma2": Family(
        models="Gemma 1.1 and 2",
        source=_GEMMA,
        markers={"<bos>": 2, "<start_of_turn>": 106, "<end_of_turn>": 107},
        header=re.escape("<bos><start_of_turn>user\n"),
    ),
    "mistral": Family(
        models="Mistral 7B v0.3",
        source=_MISTRAL,
        markers={"<s>": 1, "</s>": 2, "[INST]": 3, "[/INST]": 4},
        header=re.escape("<s>[INST]"),
    ),
    "chatml": Family(
        models="Qwen without a system turn, and others",
        source=_CHATML % "",
        markers=_QWEN_MARKERS,
        header=_headers(),
    ),
    "qwen2": Family(
        models="Qwen 2",
        source=_CHATML % (_CHATML_SYSTEM % QWEN2_SYSTEM),
        markers=_QWEN_MARKERS,
        header=_headers(QWEN2_SYSTEM),
    ),
    "qwen2.5": Family(
        models="Qwen 2.5",
        source=_CHATML % (_CHATML_SYSTEM % QWEN25_SYSTEM),
        markers=_QWEN_MARKERS,
        header=_headers(QWEN25_SYSTEM),
    ),
    "phi3": Family(
        models="Phi-3 and 3.5, mini and medium",
        source=_PHI,
        markers={"<|assistant|>": 32001, "<|end|>": 32007, "<|user|>": 32010},
        header="(?:<s>)?" + re.escape("<|user|>"),
    ),
    "phi3-small": Family(
        models="Phi-3 small",
        source="{{- '<|endoftext|>' }}\n" + _PHI,
        markers={"<|endoftext|>": 100257, "<|end|>": 100266},
        header=re.escape("<|endoftext|><|user|>\n"),
    ),
}
"""The templates that can be lent, by name."""


def known_template(tokenizer: Tokenizer, name: str) -> ChatTemplate:
    """The template of a family, for a checkpoint that has none or whose own is not wanted.

    Raises UserError for a name that is not in `FAMILIES`, and for a vocabulary that lacks the family's markers.
    """
    family = FAMILIES.get(name)
    if family is None:
        raise UserError(f"There is no template called {name!r}", fix=f"choose one of {', '.join(FAMILIES)}")
    missing = [marker for marker in family.markers if tokenizer.id_of(marker) not in tokenizer.special_ids]
    if missing:
        raise UserError(
            f"The vocabulary lacks what the template {name!r} is made of: {' '.join(missing)}",
            where=tokenizer.origin,
            fix=f"it is the template of {family.models}; choose that of the checkpoint's own family",
        )
    return ChatTemplate(
        source=family.source, special_tokens=tokenizer.settings.roles, origin=f"the built-in template {name!r}"
    )


def families_of(tokenizer: Tokenizer) -> list[str]:
    """Names of the families whose markers have their own ids in this vocabulary; none for one that is not known."""
    return [
        name
        for name, family in FAMILIES.items()
        if all(tokenizer.id_of(marker) == index for marker, index in family.markers.items())
    ]


def changed_template(tokenizer: Tokenizer, template: ChatTemplate) -> str | None:
    """A warning if the vocabulary is a known family's and the template opens a user's turn in none of its ways.

    None for a vocabulary that is not known. Raises UserError where no header can be derived.
    """
    families = families_of(tokenizer)
    header = tokenizer.decode(derive_pre_query(tokenizer, template).header_ids, skip_special=False)
    if not families or any(re.fullmatch(FAMILIES[name].header, header) for name in families):
        return None
    models = " or ".join(FAMILIES[name].models for name in families)
    return (
        f"The vocabulary is that of {models}, but the chat template opens a user's turn with {header!r}. "
        f"If that is not on purpose, --template {families[-1]} lends the known one."
    )
