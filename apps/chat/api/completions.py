"""OpenAI's text completions: POST /v1/completions."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from mlx_suite.engine.never_sampled import banning
from mlx_suite.serving.generation import Delta, Ended, Event, Generation, Token
from mlx_suite.serving.service import ServedModel

from .app import ServiceOf
from .errors import OPENAI_ERRORS, ParameterError
from .json_body import JsonRoute
from .openai_answer import completion_answer
from .openai_logprobs import text_logprobs
from .openai_parameters import MAX_CHOICES, Count, SamplingParameters, StreamOptions, check_ids, stop_texts
from .openai_usage import new_id, usage
from .prompt_streams import PromptStreams
from .sse import sse_event

router = APIRouter(route_class=JsonRoute, tags=["OpenAI"], responses=OPENAI_ERRORS)

MAX_PROMPTS = 2048
MAX_LOGPROBS = 5
REFUSED = {"suffix": "leave it out: the model continues a text and does not fill gaps"}
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class CompletionBody(SamplingParameters):
    """The body of a text completion."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: str | list[str] = []
    max_tokens: Count = 16
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool = False

    def generations(self, served: ServedModel) -> list[Generation]:
        """A generation for each prompt. Raises ParameterError."""
        self.refuse(REFUSED)
        if self.best_of not in (None, self.n):
            raise ParameterError("best_of", "best_of other than n is not supported", "leave it out")
        if self.echo and self.logprobs is not None:
            raise ParameterError(
                "logprobs", "log-probabilities of an echoed prompt are not supported", "set echo to false"
            )
        first = Generation(
            model=served.name,
            prompt=(),
            limit=self.max_tokens,
            sampling=banning(self.sampling(served), served.chat.untrained, served.chat.tokenizer.stop_ids),
            seed=self.seed,
            choices=self.n,
            stop=frozenset(served.chat.tokenizer.stop_ids),
            stop_texts=stop_texts(self.stop),
            alternatives=self.logprobs,
        )
        return [replace(first, prompt=prompt) for prompt in prompts_of(self.prompt, served, "prompt")]


def prompts_of(
    given: str | list[str] | list[int] | list[list[int]], served: ServedModel, param: str
) -> list[tuple[int, ...]]:
    """Token ids of each prompt; text gets the model's BOS, ids are taken as they are. Raises ParameterError."""
    prompts: list[Any] = [given] if isinstance(given, str) or _is_ids(given) else list(given)
    if not prompts:
        raise ParameterError(param, f"{param} is empty")
    if len(prompts) > MAX_PROMPTS:
        raise ParameterError(param, f"{len(prompts)} prompts are too many", f"send at most {MAX_PROMPTS} in a request")
    encoded = [
        tuple(served.chat.tokenizer.encode_prompt(each)) if isinstance(each, str) else tuple(each) for each in prompts
    ]
    if not all(encoded):
        raise ParameterError(param, f"{param} is empty")
    for prompt in encoded:
        check_ids(prompt, served, param)
    return encoded


def _is_ids(given: Sequence[Any]) -> bool:
    return bool(given) and isinstance(given[0], int)


@dataclass
class _Choice:
    """What has been received of a choice."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    end: Ended | None = None


class _Completion:
    """The completion of one request, whole or in chunks; choice i continues prompt i // n."""

    def __init__(self, body: CompletionBody, served: ServedModel, generations: Sequence[Generation]) -> None:
        self._body, self._tokenizer = body, served.chat.tokenizer
        head = {"id": new_id("cmpl-"), "object": "text_completion", "created": int(time.time())}
        self._head = {**head, "model": served.name}
        self._choices = [
            _Choice(text=self._tokenizer.decode(generation.prompt) if body.echo else "")
            for generation in generations
            for _ in range(body.n)
        ]

    def echoes(self) -> list[str]:
        """The chunks with the prompts, if the request asks for them."""
        if not self._body.echo:
            return []
        return [self._event([self._described(index, choice.text, (), 0)]) for index, choice in enumerate(self._choices)]

    def add(self, event: Event) -> None:
        """Add an event."""
        choice = self._choices[event.choice]
        match event:
            case Delta(text=text, tokens=tokens):
                choice.text += text
                choice.tokens += tokens
            case Ended():
                choice.end = event

    def chunk(self, event: Event) -> str:
        """Add an event, and return the server-sent event for it; empty if there is nothing to send."""
        offset = len(self._choices[event.choice].text)
        self.add(event)
        match event:
            case Delta(text=text, tokens=tokens) if text or (tokens and self._body.logprobs is not None):
                return self._event([self._described(event.choice, text, tokens, offset)])
            case Ended():
                return self._event([{**self._described(event.choice, "", (), offset), "logprobs": None}])
        return ""

    def whole(self) -> dict[str, Any]:
        """The response's body after the last event."""
        choices = [self._described(index, choice.text, choice.tokens, 0) for index, choice in enumerate(self._choices)]
        return {**self._head, "choices": choices, "usage": self._usage()}

    def usage_chunk(self) -> str:
        """The chunk with the numbers of tokens."""
        return sse_event({**self._head, "choices": [], "usage": self._usage()})

    def _described(self, index: int, text: str, tokens: Sequence[Token], offset: int) -> dict[str, Any]:
        end = self._choices[index].end
        scores = None
        if self._body.logprobs is not None:
            scores = text_logprobs(self._tokenizer, tokens, self._body.logprobs, offset)
        reason = None if end is None else ("length" if end.reason in ("limit", "context", "time") else "stop")
        return {"index": index, "text": text, "logprobs": scores, "finish_reason": reason}

    def _event(self, choices: list[dict[str, Any]]) -> str:
        chunk = {**self._head, "choices": choices}
        return sse_event({**chunk, "usage": None} if self._body.stream_options.include_usage else chunk)

    def _usage(self) -> dict[str, Any]:
        return usage([choice.end for choice in self._choices if choice.end is not None], self._body.n).openai()


@router.post("/v1/completions", response_model=None)
async def completions(body: CompletionBody, request: Request, service: ServiceOf) -> Response:
    """Continuations of texts."""
    served = service.model(body.model)
    generations = await asyncio.to_thread(body.generations, served)  # tokenizing a long text takes a while
    streams = PromptStreams(service, generations)
    await streams.start()
    completion = _Completion(body, served, generations)
    options = body.stream_options if body.stream else None
    return await completion_answer(request, streams, completion, options=options, first=completion.echoes())
