"""Log-probabilities of a response that is already written, each token's beside those of its alternatives.

The prompt and the response are fed in chunks, so that a server can run decode steps of others in between:

    scores = ResponseScores(model, prompt, response, alternatives=10)
    while scores.step():
        ...
    scores.found

Only positions that predict a token of the response go through the head, in blocks with a bounded number of logits.

Shapes: M scored tokens of a block, K alternatives, d hidden size, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.engine.prefill import CHUNK
from mlx_suite.engine.program import TokenScore
from mlx_suite.engine.slots import SlotRows, slot_caches
from mlx_suite.engine.token_scores import LOGITS
from mlx_suite.modeling.fast_math import logsumexp
from mlx_suite.modeling.finite import check_finite
from mlx_suite.modeling.head import head_function, vocabulary_size
from mlx_suite.runtime.debug import check_indices


class ResponseScores:
    """Scores of `tokens` after `prompt`, by the model's own distribution: temperature and penalties aside.

    Args:
        model: Ours or mlx-lm's, tokens (B, L) → logits (B, L, V).
        prompt: At least one token, BOS included.
        alternatives: Number of most probable tokens to report at each position.
        chunk: Tokens per forward pass.
        logits: Logits per block.
    """

    def __init__(
        self,
        model: Any,
        prompt: Sequence[int],
        tokens: Sequence[int],
        *,
        alternatives: int,
        chunk: int = CHUNK,
        logits: int = LOGITS,
    ) -> None:
        assert prompt, "nothing predicts the first token"
        self.found: list[TokenScore] = []
        """Scores of the tokens so far."""
        self._model, self._head = model, head_function(model)
        self._fed, self._targets = [*prompt, *tokens][:-1], tuple(tokens)
        self._size = vocabulary_size(model)
        check_indices((*prompt, *tokens), self._size, "token")
        self._first = len(prompt) - 1
        """The position that predicts the first token."""
        self._alternatives, self._chunk = min(alternatives, self._size), chunk
        self._block = max(1, logits // self._size)
        self._caches = slot_caches(model, 1)
        self._position = 0

    def step(self) -> bool:
        """Feed the next chunk; whether there is another one. Raises UserError if the model returns NaN or inf."""
        if not self._targets:
            return False
        start, end = self._position, min(self._position + self._chunk, len(self._fed))
        for cache in self._caches:
            cache.reserve(end)
        rows = [SlotRows(cache, [0], [end - start], start, [len(self._fed)]) for cache in self._caches]
        body = self._model if self._head is None else self._model.model
        output = body(mx.array([self._fed[start:end]]), cache=rows)[0]  # (L, d), or (L, V) if the head is unknown
        mx.eval(output, [cache.state for cache in self._caches])
        for first in range(max(start, self._first), end, self._block):
            last = min(first + self._block, end)
            self._score(output[first - start : last - start], self._targets[first - self._first : last - self._first])
        self._position = end
        if end < len(self._fed):
            return True
        self._caches.clear()
        return False

    def _score(self, output: mx.array, targets: Sequence[int]) -> None:
        """Score the tokens that `output`, (M, d) or (M, V), predicts."""
        logits = (output if self._head is None else self._head(output)).astype(mx.float32)
        log_probs = logits - logsumexp(logits)[:, None]
        chosen = mx.take_along_axis(log_probs, mx.array(tuple(targets))[:, None], axis=-1)[:, 0]
        K = self._alternatives
        likely = mx.argpartition(-log_probs, kth=K - 1, axis=-1)[:, :K] if K else mx.zeros((len(targets), 0), mx.uint32)
        values = mx.take_along_axis(log_probs, likely, axis=-1)
        mx.eval(chosen, likely, values)
        own, ids, ranks = np.array(chosen, np.float64), np.array(likely), np.array(values, np.float64)
        check_finite(own, "log-probabilities")
        for row, log_prob in enumerate(own):
            order = np.argsort(-ranks[row], kind="stable")
            pairs = tuple((int(ids[row, i]), float(ranks[row, i])) for i in order)
            self.found.append(TokenScore(log_prob=float(log_prob), alternatives=pairs))
