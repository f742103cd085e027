"""Responses that clients may fetch and continue, in memory: the oldest are dropped when there are too many."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from mlx_suite.serving.chat import ChatMessage

MAX_RESPONSES = 1000
MAX_CHARACTERS = 50_000_000


@dataclass(frozen=True, kw_only=True)
class StoredResponse:
    """A response and the conversation that it ends."""

    body: dict[str, Any]
    """The response's object."""
    messages: tuple[ChatMessage, ...]
    """Input and output, without instructions."""

    @property
    def characters(self) -> int:
        """Size of the conversation."""
        arguments = (call.arguments for message in self.messages for call in message.tool_calls)
        return sum(len(message.content) for message in self.messages) + sum(map(len, arguments))


class ResponseStore:
    """Responses by id."""

    def __init__(self, max_responses: int = MAX_RESPONSES, max_characters: int = MAX_CHARACTERS) -> None:
        self._max_responses, self._max_characters = max_responses, max_characters
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._characters = 0

    def add(self, response: StoredResponse) -> None:
        """Store a response, and drop the oldest ones if there are too many. One that is too large alone is not kept."""
        self._responses[response.body["id"]] = response
        self._characters += response.characters
        while len(self._responses) > self._max_responses or self._characters > self._max_characters:
            _, oldest = self._responses.popitem(last=False)
            self._characters -= oldest.characters

    def get(self, name: str) -> StoredResponse | None:
        """The response with this id; None if it was never stored, deleted or dropped."""
        return self._responses.get(name)

    def delete(self, name: str) -> bool:
        """Delete a response; whether there was one."""
        response = self._responses.pop(name, None)
        if response is not None:
            self._characters -= response.characters
        return response is not None
