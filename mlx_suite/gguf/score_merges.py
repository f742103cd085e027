"""Merges of a SentencePiece-like vocabulary, from the scores of its tokens.

SentencePiece BPE has no list of merges: of all adjacent pairs whose joined text is a token, it merges the one whose
token has the highest score, the leftmost of equals. The tokenizers library wants the list, so every way to join two
tokens to a third becomes a merge, in order of the scores: the order that `transformers` gives such files.
"""

from collections.abc import Mapping, Sequence

from mlx_suite.gguf.token_list import NORMAL, USER_DEFINED


def merges_from_scores(
    vocabulary: Mapping[str, int], types: Sequence[int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """All pairs of tokens that join to a token, best first.

    Args:
        vocabulary: Ids by text.
        types: GGUF type of each id. User-defined tokens precede all others, since SentencePiece finds them before it
            merges; no other kind but normal tokens is ever the result of a merge.
        scores: Score of each id; higher ones are merged first.
    """
    found = []
    for text, index in vocabulary.items():
        kind = types[index]
        if kind not in (NORMAL, USER_DEFINED) or len(text) < 2:
            continue
        score = 0.0 if kind == USER_DEFINED else -scores[index]
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((score, -cut, -len(right), left, right))
    # Of equals those with the longer left side come first, then with the longer right, then with the lower id.
    found.sort(key=lambda merge: merge[:3])
    return [(left, right) for *_, left, right in found]
