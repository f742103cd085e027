"""Settings of a distillation: those of a finetuning run of the student, and what it takes from the teacher.

Each field is a command-line flag, and its docstring is the flag's help.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlx_suite.finetune.settings import FinetuneSettings, check_settings
from mlx_suite.runtime.settings_file import did_you_mean
from mlx_suite.training.distillation_head import FORWARD, OBJECTIVES, Objective


@dataclass(frozen=True, kw_only=True)
class DistillSettings(FinetuneSettings):
    """Student (`model`), teacher, data and hyperparameters of a distillation. Steps are optimizer steps."""

    teacher: str
    """Teacher: a name from `models list`, a folder, a GGUF file, or OWNER/REPO[@REVISION] on the Hugging Face hub."""
    teacher_adapter: str = ""
    """Adapter of the teacher: its folder, or the folder of its run."""
    objective: str = FORWARD
    """Divergence of teacher p and student q: forward (KL(p‖q), as Gemma 2), reverse (KL(q‖p)), or jsd (generalized
    Jensen-Shannon, arXiv 2306.13649)."""
    beta: float = 0.5
    """Share of the teacher in the mixture of jsd. 0 is the forward KL, 1 the reverse KL."""
    temperature: float = 1.0
    """Divides the logits of both models; the divergence is multiplied by its square, so that gradients keep their
    size."""
    data_share: float = 0.0
    """Share of the loss that is the cross-entropy of the data's own tokens; the divergence has the rest."""

    on_policy: float = 0.0
    """Share of the rows whose response the student samples at each step, for the teacher to score. 0 uses the data's
    responses, 1 only prompts."""
    max_new_tokens: int = 128
    """Maximum tokens of a sampled response; one that is cut there counts too."""
    rollout_temperature: float = 1.0
    """Sampling temperature of the student's responses."""

    cache: str = ""
    """Folder of the teacher's distributions, made by --make-cache, instead of running the teacher."""
    draws: int = 64
    """Draws from the teacher's distribution per trained token that --make-cache stores (arXiv 2503.16870)."""
    draw_temperature: float = 1.0
    """Temperature of the distribution that the draws come from; importance weights keep their mean unbiased."""
    top_k: int = 0
    """Store the probabilities of the K most probable tokens and one bucket for the rest instead of draws. Biased."""

    align: bool = False
    """Distill from a teacher with another vocabulary and template: tokens of both are grouped into spans of equal text
    (as TRL's GOLD). Rows are padded, not packed."""

    @property
    def loss(self) -> Objective:
        """The objective of the student."""
        return Objective(kind=self.objective, beta=self.beta, temperature=self.temperature, data_share=self.data_share)


COMMAND = "mlx-suite distill"
FREE_OF_CONTENT = ("teacher", "teacher_adapter", "cache")
"""Settings that name contents; a run compares the contents instead."""


def check_distill_settings(settings: DistillSettings, origin: Mapping[str, str] | None = None) -> None:
    """Validate all settings. Raises UserError listing every invalid one; `origin` maps a name to where it was set."""
    check_settings(settings, origin, further=_problems(settings), command=COMMAND)


def _problems(s: DistillSettings) -> Iterator[tuple[str, str]]:
    if s.objective not in OBJECTIVES:
        yield "objective", f"is {s.objective!r}: {did_you_mean(s.objective, OBJECTIVES)}"
    for name in ("beta", "data_share", "on_policy"):
        if not 0 <= getattr(s, name) <= 1:
            yield name, f"is {getattr(s, name)}: expected 0 to 1"
    for name in ("temperature", "rollout_temperature", "draw_temperature"):
        if not 0 < getattr(s, name) < math.inf:
            yield name, f"is {getattr(s, name)}: expected a number above 0"
    for name in ("max_new_tokens", "draws"):
        if getattr(s, name) < 1:
            yield name, f"is {getattr(s, name)}: expected a whole number of at least 1"
    if s.anchor:
        yield "anchor", "applies to finetune and warp: a distillation has a teacher already"
    if s.top_k < 0:
        yield "top_k", f"is {s.top_k}: expected a whole number of at least 0"
    if s.cache:
        yield from _cache_problems(s)
    if s.align and s.on_policy:
        yield "align", "cannot be combined with on_policy: samples of the student are not aligned"
    if s.align and (s.objective != FORWARD or s.data_share):
        yield "align", "has a loss of its own: omit objective and data_share"


def _cache_problems(s: DistillSettings) -> Iterator[tuple[str, str]]:
    if s.objective != FORWARD:
        yield "cache", f"gives the forward KL only, not {s.objective}: the student's own tokens may not be in it"
    if s.temperature != 1.0:
        yield "cache", "holds distributions at temperature 1: omit temperature"
    if s.on_policy:
        yield "cache", "cannot be combined with on_policy: responses that the student samples are not in it"
    if s.align:
        yield "cache", "cannot be combined with align"
