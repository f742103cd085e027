"""Chat requests on a service."""

from collections.abc import AsyncIterator

from mlx_suite.serving.chat import ChatEvent, ChatRequest, TextDelta
from mlx_suite.serving.generation import Delta, Generation
from mlx_suite.serving.service import ServedModel, Service, Stream
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT


class ChatStream:
    """The events of a chat request."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[ChatEvent]:
        async for event in self._stream:
            if isinstance(event, Delta):
                yield TextDelta(choice=event.choice, text=event.text, tokens=event.tokens)
            else:
                yield event

    def cancel(self) -> None:
        """Stop the work."""
        self._stream.cancel()


def chat_prompt(served: ServedModel, request: ChatRequest) -> tuple[int, ...]:
    """The prompt of a request."""
    turns = [Message(each.role, each.content) for each in request.messages]
    if turns[-1].role == ASSISTANT:
        return (*served.chat.prompt_ids(turns[:-1]), *served.chat.tokenizer.encode(turns[-1].content))
    return served.chat.prompt_ids(turns)


async def start_chat(service: Service, request: ChatRequest) -> ChatStream:
    """Queue a chat request."""
    served = service.model(request.model)
    return ChatStream(
        await service.start(
            Generation(
                model=served.name,
                prompt=chat_prompt(served, request),
                limit=request.limit,
                sampling=request.sampling,
                seed=request.seed,
            )
        )
    )
