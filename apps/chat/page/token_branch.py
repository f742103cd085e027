"""A response that begins with given tokens and is continued by the model, from their exact ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from mlx_suite.serving.chat import ChatEvent, TextDelta
from mlx_suite.serving.generation import Delta, Ended, Generation
from mlx_suite.serving.service import Service, Stream
from mlx_suite.text import StreamingDetokenizer, Tokenizer


class BranchStream:
    """The events of the response after its given tokens. Its text is decoded together with theirs."""

    def __init__(self, stream: Stream, tokenizer: Tokenizer, tokens: Sequence[int]) -> None:
        self._stream, self._text = stream, StreamingDetokenizer(tokenizer)
        self.given = "".join(map(self._text.add, tokens))
        """Text of the given tokens, as far as it is final."""

    async def __aiter__(self) -> AsyncIterator[ChatEvent]:
        async for event in self._stream:
            if isinstance(event, Delta):
                text = "".join(self._text.add(token.id) for token in event.tokens)
                yield TextDelta(choice=0, text=text, tokens=event.tokens)
                continue
            if isinstance(event, Ended):
                rest = self._text.finish()
                if rest:
                    yield TextDelta(choice=0, text=rest)
            yield event

    def cancel(self) -> None:
        """Stop the work."""
        self._stream.cancel()


async def start_branch(service: Service, response: Generation, tokens: Sequence[int]) -> BranchStream:
    """Start a response that begins with `tokens`. Raises like `Service.start`.

    Args:
        response: The generation of a whole response; the tokens count towards its limit.
    """
    chat = service.model(response.model).chat
    limit = None if response.limit is None else max(1, response.limit - len(tokens))
    stream = await service.start(replace(response, prompt=(*response.prompt, *tokens), limit=limit))
    return BranchStream(stream, chat.tokenizer, tokens)
