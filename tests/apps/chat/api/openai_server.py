"""A server that answers by script, and OpenAI's official client for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openai import DefaultHttpxClient, OpenAI

from tests.apps.chat.api.live_server import secured_app, serving

HI: Any = [{"role": "user", "content": "Hi"}]
LOOKUP: Any = {
    "name": "lookup",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '{"name": "lookup", "arguments": {"city": "Paris"}}'
"""A call of `lookup` as tiny-llama3 writes it."""


@contextmanager
def client_of(service: Any) -> Iterator[OpenAI]:
    """The official client of a server that answers with a service."""
    with (
        serving(secured_app(service)) as url,
        DefaultHttpxClient(verify=False) as http,  # no certificates to load
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=60, http_client=http) as client,
    ):
        yield client
