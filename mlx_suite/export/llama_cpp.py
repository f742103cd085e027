"""llama.cpp on a GGUF file: the server in the prebuilt package xllamacpp, asked over loopback.

It computes on the CPU, with its KV cache in fp32 and without flash attention, which rounds to fp16.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mlx_suite.runtime.errors import UserError

LLAMA_CPP = "pip install xllamacpp"
ROOM = 8
"""Tokens of context beyond the prompt: the server always writes one."""


@dataclass(frozen=True)
class LlamaCpp:
    """A running server with one model."""

    address: str

    def tokenize(self, text: str, *, adds_bos: bool = False, special: bool = False) -> list[int]:
        """Token ids of a text; `special` reads the texts of control tokens as these."""
        asked = {"content": text, "add_special": adds_bos, "parse_special": special}
        tokens: list[int] = self._post("/tokenize", asked)["tokens"]
        return tokens

    def log_probs(self, ids: Sequence[int], ends: Sequence[int], most: int) -> tuple[np.ndarray, np.ndarray]:
        """The `most` most probable next tokens after the positions `ends`, and their log-probabilities: (E, most) each.

        The server gives them at the end of a prompt only, so it is asked about each prefix; and only with a token that
        has a text, so one is forced, which does not change the probabilities before sampling.
        """
        forced = [[self.tokenize("a")[-1], 1e6]]
        always = {"n_predict": 1, "n_probs": most, "temperature": 0.0, "logit_bias": forced}
        answers = [self._post("/completion", {"prompt": list(ids[: end + 1]), **always}) for end in ends]
        listed = [answer["completion_probabilities"][0]["top_logprobs"] for answer in answers]
        tokens = np.array([[entry["id"] for entry in entries] for entries in listed])
        return tokens, np.array([[entry["logprob"] for entry in entries] for entries in listed], dtype=np.float32)

    def complete(self, ids: Sequence[int], limit: int) -> tuple[str, bool]:
        """The greedy completion of a prompt, and whether it ended by itself."""
        answer = self._post("/completion", {"prompt": list(ids), "n_predict": limit, "temperature": 0.0})
        return answer["content"], answer["stop_type"] == "eos"

    def chat(self, messages: Sequence[Mapping[str, str]], limit: int) -> tuple[str, bool]:
        """The greedy response by the chat template in the file, and whether it ended by itself."""
        asked = {"messages": list(messages), "max_tokens": limit, "temperature": 0.0}
        [choice] = self._post("/v1/chat/completions", asked)["choices"]
        return choice["message"]["content"], choice["finish_reason"] == "stop"

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=600) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def import_llama_cpp() -> Any:
    """Import `xllamacpp`. Raises UserError if it is not installed."""
    try:
        return import_module("xllamacpp")
    except ImportError as error:
        raise UserError(
            "the check runs llama.cpp through xllamacpp, which is not installed",
            fix=f"{LLAMA_CPP}, or omit the check",
        ) from error


@contextmanager
def open_llama(path: Path | str, *, context: int) -> Iterator[LlamaCpp]:
    """A server for prompts of up to `context` tokens, until the block ends.

    Raises UserError if xllamacpp is not installed or llama.cpp cannot load the file.
    """
    xllamacpp = import_llama_cpp()
    params = xllamacpp.CommonParams()
    params.model.path = os.fspath(path)
    params.n_ctx = params.n_batch = params.n_ubatch = context + ROOM
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = False
    params.verbosity = 0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise UserError("llama.cpp cannot load the file", str(path), "export it again") from error
    llama = LlamaCpp(server.listening_address.rstrip("/"))
    llama.tokenize("")  # a server that is stopped before its first answer may hang
    yield llama
