"""Adapter for EleutherAI's lm-evaluation-harness, an extra: `pip install 'mlx-suite[harness]'`.

    from lm_eval import simple_evaluate
    model = HarnessModel(model, tokenizer, template)
    simple_evaluate(model, tasks=["arc_easy"], limit=100)

What makes results comparable:

* Every text starts with exactly one BOS if the model uses one, and so does every window of a long text (lm-eval issues
  1586, 2382 and 3333).
* Context and continuation are encoded together and split by the harness's rule (`TemplateLM`).
* Overlong contexts are truncated from the left, after the BOS, and counted in `cut`.
* Token limits, stop texts and temperatures are the task's: `max_gen_toks`, `until`, `do_sample`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs

from mlx_suite.engine import Engine, Program, Request, Sampling, context_length
from mlx_suite.engine.never_sampled import banning, untrained
from mlx_suite.engine.token_scores import Window, cut_windows, score_windows
from mlx_suite.evaluate.passages import prefix_of
from mlx_suite.evaluate.text_stops import write_until
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress
from mlx_suite.text import ChatTemplate, Message, Tokenizer, fold_system

GENERATED = 256
"""Maximum tokens generated if the task sets no limit: the harness's default."""
LONGEST = 4096
"""Default cap on the context, for models that support more."""

LogLikelihood = tuple[float, bool]
"""Log-probability in nats, and whether every token is the most probable one."""
EncodedRequest = tuple[tuple[str, str], list[int], list[int]]
"""(context, continuation) as text, context ids, continuation ids."""


@dataclass(kw_only=True)
class Cuts:
    """Counts of requests that exceeded the context."""

    contexts: int = 0
    """Contexts truncated from the left."""
    limits: int = 0
    """Token limits as long as the context itself, halved."""


class HarnessModel(TemplateLM):
    """Implements the harness's `TemplateLM` for one of our models."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        template: ChatTemplate | None = None,
        *,
        name: str = "mlx-suite",
        slots: int = 16,
        context: int | None = None,
        seed: int = 0,
        quiet: bool = True,
    ) -> None:
        """
        Args:
            template: Chat template, for tasks run as a chat.
            name: Key of the harness's caches.
            slots: Responses generated concurrently.
            context: Maximum tokens fed; by default the model's context length, at most `LONGEST`.
            seed: Seed of sampled responses.
            quiet: Suppress progress on stderr.
        """
        super().__init__()
        self.model, self.texts, self.template, self.name = model, tokenizer, template, name
        self.slots, self.seed, self.quiet = slots, seed, quiet
        self.max_length = min(context_length(model), LONGEST) if context is None else context
        self.cut = Cuts()
        self.chatting = False
        """True if texts are rendered chats, which spell out special tokens."""

    # ---- properties the harness reads

    @property
    def eot_token_id(self) -> int:
        """Id of the end-of-text token."""
        name = self.texts.settings.roles.get("eos_token")
        eos = None if name is None else self.texts.id_of(name)
        known = eos if eos is not None else min(self.texts.stop_ids, default=None)
        if known is None:
            raise UserError("This tokenizer has no end-of-text token", where=self.texts.origin)
        return known

    @property
    def prefix_token_id(self) -> int:
        """First token of a text without a context: BOS, else end of text."""
        return self.eot_token_id if self.texts.bos_id is None else self.texts.bos_id

    @property
    def tokenizer_name(self) -> str:
        return self.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Source of the chat template, which the harness stores."""
        return self._template.source if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation up to the response, or up to the end of its last turn to continue that."""
        self.chatting = True
        messages = [Message(turn["role"], turn["content"]) for turn in chat_history]
        if not self._template.takes_system:
            messages = fold_system(messages)
        text = self._template.render(messages, add_generation_prompt=add_generation_prompt)
        if add_generation_prompt:
            return text
        last = messages[-1].content.strip()
        return text[: text.rindex(last) + len(last)]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text, with one BOS if the model uses one or `add_special_tokens` is set."""
        bos = None if self.texts.bos_id is None else self.texts.token_of(self.texts.bos_id)
        add_bos = add_special_tokens
        if add_bos is None:
            add_bos = self.texts.adds_bos or bool(bos and string.startswith(bos))
        while add_bos and bos and string.startswith(bos):
            string = string.removeprefix(bos)
        ids = self.texts.encode_with_specials(string) if self.chatting else self.texts.encode(string)
        return [self.texts.bos_id, *ids] if add_bos and self.texts.bos_id is not None else ids

    # ---- requests

    def _loglikelihood_tokens(
        self, requests: list[EncodedRequest], disable_tqdm: bool = False, **others: Any
    ) -> list[LogLikelihood]:
        """Log-probability (nats) of each continuation, and whether greedy decoding would generate it."""
        windows = [self._continuation_windows(context, continuation) for _, context, continuation in requests]
        scored = self._score(windows, disable_tqdm)
        for (texts, _, _), result in zip(requests, scored, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, result)
        return scored

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability (nats) of entire texts. Each window starts with BOS and the previous window's last token."""
        windows = []
        for request in requests:
            ids = self.tok_encode(str(request.args[0]))
            prefix = (self.prefix_token_id,)
            # The prefix supplies the BOS.
            body = ids[1:] if tuple(ids[:1]) == prefix else ids
            stride = max(1, self.max_length - 1)
            windows.append(list(cut_windows(body, prefix=prefix, first=0, context=self.max_length, stride=stride)))
        totals = [total for total, _ in self._score(windows, disable_tqdm)]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generate a continuation of each context up to the task's stop texts."""
        engine = Engine(self.model, slots=self.slots, context=self.max_length)
        jobs = (
            Request(program=self._numbered(number, *request.args), seed=self.seed + number)
            for number, request in enumerate(requests)
        )
        answers: dict[int, str] = {}
        with self._progress(len(requests), "responses", disable_tqdm) as tell:
            for done in engine.run(jobs):
                number, text = done.result
                answers[number] = text
                self.cache_hook.add_partial("generate_until", requests[number].args, text)
                tell(1)
        return [answers[number] for number in range(len(requests))]

    # ---- helpers

    @cached_property
    def _untrained(self) -> frozenset[int]:
        return untrained(self.model, self.texts)

    @property
    def _template(self) -> ChatTemplate:
        if self.template is None:
            raise UserError("This model has no chat template", where=self.name, fix="leave out --chat")
        return self.template

    @contextmanager
    def _progress(self, total: int, unit: str, quiet: bool) -> Iterator[Callable[[int], None]]:
        if quiet or self.quiet:
            yield lambda count: None
            return
        with Progress("evaluate", total, unit=unit) as progress:
            yield progress.advance

    def _continuation_windows(self, context: Sequence[int], continuation: Sequence[int]) -> list[Window]:
        tokens = (*context, *continuation)
        prefix = prefix_of(self.texts)
        prefix = prefix if prefix and tokens[:1] == prefix else ()
        body, first = tokens[len(prefix) :], len(context) - len(prefix)
        if len(tokens) - 1 > self.max_length:
            self.cut.contexts += 1
        stride = max(1, self.max_length - 1)
        return list(cut_windows(body, prefix=prefix, first=first, context=self.max_length, stride=stride))

    def _score(self, windows: Sequence[Sequence[Window]], quiet: bool) -> list[LogLikelihood]:
        flat = [window for some in windows for window in some]
        with self._progress(len(flat), "windows", quiet) as tell:
            scores = iter(score_windows(self.model, flat, tell=tell))
        results = []
        for some in windows:
            own = [next(scores) for _ in some]
            results.append((sum(each.total for each in own), all(bool(each.greedy.all()) for each in own)))
        return results

    def _numbered(self, number: int, context: str, settings: dict[str, Any]) -> Program:
        options = normalize_gen_kwargs(settings, GENERATED)
        limit = int(options["max_gen_toks"])
        if limit >= self.max_length:
            self.cut.limits += 1
            limit = self.max_length // 2
        prompt = self._shortened(self.tok_encode(context) or [self.prefix_token_id], self.max_length - limit)
        stop = self.texts.stop_ids | {self.eot_token_id}
        text, _ = yield from write_until(
            self.texts,
            prompt,
            options["until"],
            limit=limit,
            stop=stop,
            sampling=banning(_sampling(options), self._untrained, stop),
        )
        return number, text

    def _shortened(self, prompt: list[int], budget: int) -> list[int]:
        """The prompt truncated from the left to `budget` tokens, keeping its BOS."""
        if len(prompt) <= budget:
            return prompt
        self.cut.contexts += 1
        begin = [each for each in prompt[:1] if each == self.texts.bos_id and budget > 1]
        return [*begin, *prompt[len(prompt) - budget + len(begin) :]]


def _sampling(settings: Any) -> Sampling:
    sampled = bool(settings.get("do_sample")) and float(settings.get("temperature") or 0.0) > 0.0
    if not sampled:
        return Sampling(temperature=0.0)
    return Sampling(
        temperature=float(settings["temperature"]),
        top_p=float(settings.get("top_p") or 1.0),
        min_p=float(settings.get("min_p") or 0.0),
    )
