"""A conversation with one model: messages in, tokens out, statistics.

The prompt of every turn is the chat template over all messages. The engine keeps the KV cache of the finished turn, so
that only what is new is prefilled.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_suite.engine import Cancelled, Engine, Given, Program, Request, Sample, Speculation, Written
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.engine.never_sampled import banning
from mlx_suite.engine.prefix_cache import PrefixCache
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import machine_memory
from mlx_suite.text import Message, StreamingDetokenizer
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER
from mlx_suite.text.pieces import replace_surrogates

from ..settings import ResponseSettings
from .answer import Answer, AnswerStream

if TYPE_CHECKING:
    from ...cli.checkpoint import Checkpoint

PREFIX_SHARE = 16
"""The prefix cache may use this fraction of the machine's memory: one in 16 bytes."""
RESPONSE_SHARE = 4
"""`drop` without a number leaves this fraction of the context for the response, or less if `max_tokens` is less."""

Opener = Callable[[str, Path | None], "Checkpoint"]
"""Loads a model, by name, and its adapter, by folder."""


class ContextFull(UserError):
    """The prompt leaves no room for a response."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Exchanges dropped from the start of a conversation."""

    exchanges: int
    tokens: int
    """Tokens by which the conversation is shorter."""


class Session:
    """A conversation with a model, which can be exchanged for another.

    Args:
        opener: Loads models.
        model: Name of the model.
        adapter: Folder of its adapter.
        system: System prompt; empty for none.
        speculate: How the next tokens of a loaded model are guessed; by default not at all.

    Raises UserError if the model cannot be loaded or has no usable chat template.
    """

    def __init__(
        self,
        opener: Opener,
        model: str,
        adapter: Path | None = None,
        *,
        system: str = "",
        settings: ResponseSettings | None = None,
        speculate: "Callable[[Checkpoint], Speculation | None]" = lambda checkpoint: None,
    ) -> None:
        self.system = replace_surrogates(system)
        self.settings = settings or ResponseSettings()
        self.messages: tuple[Message, ...] = ()
        """Alternating turns of user and assistant, without the system prompt; the last one is the assistant's."""
        self.answers: list[Answer] = []
        """Responses of this session in order, also those taken back."""
        self._opener, self._speculate = opener, speculate
        self._chat: ChatModel | None = None
        self._engine: Engine | None = None
        self.model, self.adapter = model, adapter
        self._prefixes = PrefixCache(max_bytes=machine_memory() // PREFIX_SHARE)
        self._request: Request | None = None
        self._retries = 0
        self._measured: tuple[tuple[Message, ...], int] | None = None
        """The conversation for which `used` was computed, and its result."""
        self._use(model, adapter)

    # ---- the model

    @property
    def chat(self) -> ChatModel:
        """The loaded model. Raises UserError if there is none, because the last one could not be loaded again."""
        if self._chat is None:
            raise UserError("No model is loaded", fix="/model NAME loads one")
        return self._chat

    @property
    def context(self) -> int:
        """Maximum tokens of prompt and response together."""
        return self.chat.context

    def switch(self, model: str, adapter: Path | None = None) -> None:
        """Continue the conversation with another model or adapter.

        Raises UserError if it cannot be loaded; then the present one is loaded again.
        """
        before = self.model, self.adapter
        try:
            self._use(model, adapter)
        except BaseException:
            self._use(*before)
            raise

    def _use(self, model: str, adapter: Path | None) -> None:
        self._chat = self._engine = self._measured = None  # memory may not suffice for two models
        self.model, self.adapter = model, adapter
        checkpoint = self._opener(model, adapter)
        chat = checkpoint.chat_model(slots=1)
        chat.prompt_ids([Message(USER, "Hi")])  # raises UserError for a template that fails
        self._engine = Engine(
            chat.model,
            slots=1,
            context=chat.context,
            prefixes=self._prefixes,
            variant=" ".join(map(_version, (checkpoint.folder, checkpoint.adapter_folder))),
            speculation=self._speculate(checkpoint),
        )
        self._stop_ids = checkpoint.response_ends
        self._chat = chat

    # ---- the conversation

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The prompt of the next response: the chat template over the system prompt and `messages`.

        Raises UserError if the template rejects them.
        """
        return self.chat.prompt_ids([*self._lead(), *messages])

    def transcript(self) -> tuple[Message, ...]:
        """The conversation with its system prompt."""
        return (*self._lead(), *self.messages)

    def restore(self, transcript: Sequence[Message]) -> None:
        """Replace the conversation and its system prompt."""
        self.system = "\n\n".join(message.content for message in transcript if message.role == SYSTEM)
        self.messages = tuple(message for message in transcript if message.role != SYSTEM)

    def used(self) -> int:
        """Tokens of the conversation as the template writes it; 0 before the first turn."""
        transcript = self.transcript()
        if self._measured is None or self._measured[0] != transcript:
            turns = [{"role": each.role, "content": each.content} for each in transcript]
            self._measured = transcript, len(self.chat.encode_whole(turns)) if self.messages else 0
        return self._measured[1]

    def status(self) -> str:
        """The model, its adapter and the use of its context, in one line."""
        if self._chat is None:
            return "no model"
        adapter = f" + {self.adapter}" if self.adapter else ""
        return f"{self.model}{adapter}  ·  {self.used():,} of {self.context:,} tokens  ·  /help"

    @property
    def instruction(self) -> str:
        """The last user turn. Raises UserError if there is none."""
        return self.messages[self._last_exchange()].content

    def ask(self, text: str, on_text: Callable[[str], None] = lambda text: None) -> Answer:
        """Generate the response to a user turn and append both to the conversation.

        `on_text` is called with the text piece by piece. A response that is stopped is appended as far as it goes; if
        it is empty, nothing is appended.

        Raises ContextFull, and UserError if the template rejects the turn; the conversation is then unchanged.
        """
        self._retries = 0
        return self._answer((*self.messages, Message(USER, replace_surrogates(text))), on_text)

    def retry(self, on_text: Callable[[str], None] = lambda text: None) -> Answer:
        """Replace the last response by another one, which differs if it is sampled. Otherwise like `ask`."""
        self._last_exchange()
        end = max(place for place, each in enumerate(self.messages) if each.role == USER) + 1
        self._retries += 1
        return self._answer(self.messages[:end], on_text)

    def edit(self, text: str, on_text: Callable[[str], None] = lambda text: None) -> Answer:
        """Replace the last user turn by `text`, and its response by a new one. Otherwise like `ask`."""
        before = self.messages[: self._last_exchange()]
        self._retries = 0
        return self._answer((*before, Message(USER, replace_surrogates(text))), on_text)

    def stop(self) -> None:
        """End the response that is being generated; from any thread or a signal handler."""
        if self._request is not None:
            self._request.cancel()

    def undo(self) -> str:
        """Remove the last exchange and return its user turn. Raises UserError if there is none."""
        start = self._last_exchange()
        text = self.messages[start].content
        self.messages = self.messages[:start]
        return text

    def reset(self) -> None:
        """Remove all turns; the system prompt stays."""
        self.messages = ()

    def drop(self, count: int | None = None, then: str = "") -> Dropped:
        """Drop the oldest exchanges.

        Args:
            count: Number of exchanges. Default: as many as leave room for the turn `then` and its response.
            then: The turn that is to be sent next.

        Raises UserError if there are fewer, or if `then` does not fit even alone.
        """
        starts = [*self._exchanges(), len(self.messages)]
        if count is None:
            count = self._excess(starts, then)
        self._last_exchange()
        held = len(starts) - 1
        if not 0 < count <= held:
            raise UserError(
                f"The conversation has {held:,} exchange{'s' * (held != 1)}, not {count:,}",
                fix="give the number of exchanges to drop",
            )
        before = self.used()
        self.messages = self.messages[starts[count] :]
        return Dropped(exchanges=count, tokens=before - self.used())

    def _excess(self, starts: Sequence[int], then: str) -> int:
        """Exchanges to drop so that `then` and a response fit; at least one, and all of them if it must be."""
        following = Message(USER, then or "Hi")
        room = min(self.settings.max_tokens, self.context // RESPONSE_SHARE)
        for count, start in enumerate(starts[1:-1], start=1):
            if len(self.prompt((*self.messages[start:], following))) + room <= self.context:
                return count
        self._check_fit(self.prompt([following]))
        return len(starts) - 1

    def _exchanges(self) -> list[int]:
        """Index of each user turn that begins an exchange."""
        before = [None, *(message.role for message in self.messages)]
        return [i for i, each in enumerate(self.messages) if each.role == USER and before[i] != USER]

    def _last_exchange(self) -> int:
        starts = self._exchanges()
        if not starts:
            raise UserError("The conversation is empty", fix="type a first turn, or /load FILE")
        return starts[-1]

    def _lead(self) -> tuple[Message, ...]:
        return (Message(SYSTEM, self.system),) if self.system else ()

    # ---- generation

    def _answer(self, messages: tuple[Message, ...], on_text: Callable[[str], None]) -> Answer:
        began = time.perf_counter()
        prompt = self.prompt(messages)
        self._check_fit(prompt)
        assert self._engine is not None
        sample, seed = self._sample()
        detokenizer, stop_texts = StreamingDetokenizer(self.chat.tokenizer), self.settings.stop
        stream = AnswerStream(detokenizer, sample.stop, on_text, stop_texts, began=began)
        if stop_texts:
            sample = replace(sample, until=stream.until)
        self._request = Request(program=_program(prompt, sample), seed=seed or 0, on_token=stream.on_token, keep=True)
        try:
            [done] = self._engine.run([self._request])
        finally:
            self._request = None
        reason = "stopped" if isinstance(done.error, Cancelled) else done.result.reason
        answer = stream.answer(reason, len(prompt), done.reused, seed)
        self.answers.append(answer)
        if answer.text.strip():
            self.messages = (*messages, Message(ASSISTANT, answer.text, trained=reason == "stop"))
        return answer

    def _check_fit(self, prompt: Sequence[int]) -> None:
        if len(prompt) >= self.context:
            raise ContextFull(
                f"The prompt has {len(prompt):,} tokens; the context of prompt and response is {self.context:,}",
                where=self.chat.name,
                fix="shorten the turn or the conversation, or use a model with a longer context",
            )

    def _sample(self) -> tuple[Sample, int | None]:
        """The segment of a response and its seed."""
        settings = self.settings
        seed = settings.seed if settings.seed is not None else secrets.randbelow(1 << 31)
        sampling = banning(settings.sampling(self.chat.tokenizer), self.chat.never_sampled, self._stop_ids)
        sample = Sample(
            limit=settings.max_tokens,
            stop=self._stop_ids,
            sampling=sampling,
            salt=0 if settings.seed is None else self._retries,
        )
        return sample, seed if settings.temperature else None


def _program(prompt: tuple[int, ...], sample: Sample) -> Program:
    yield Given(prompt)
    written: Written = yield sample
    return written


def _version(folder: Path | None) -> str:
    """A folder and the time of its newest file: a run may replace the adapter while the chat goes on."""
    return "" if folder is None else f"{folder} {max(each.stat().st_mtime_ns for each in folder.iterdir())}"
