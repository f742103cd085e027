"""Repetitions: pairs whose question, and rewrites whose words, are nearly those of an earlier one."""

from mlx_suite.curation.duplicates.lexical import LexicalIndex
from mlx_suite.curation.duplicates.words import folded

REPEATED_QUESTION, REPEATED_TEXT = "repeats an earlier question", "repeats an earlier text"


class RepetitionFilter:
    """Remembers accepted texts and finds repetitions among new ones.

    Args:
        everywhere: Whether a text that nearly repeats one written from another source is a repetition too.
        exactly: Whether one that repeats it word for word is. Otherwise sources are compared with themselves only.
    """

    def __init__(self, *, everywhere: bool = False, exactly: bool = False) -> None:
        self.everywhere, self.exactly = everywhere, exactly
        self._index = LexicalIndex()
        self._sources: list[str] = []
        self._exact: set[tuple[str, str]] = set()

    def is_new(self, text: str, source: str) -> bool:
        """Whether a text is no repetition; it is then remembered.

        Args:
            source: Key of the text that it was written from.
        """
        owner = "" if self.everywhere else source
        exact = ("" if self.exactly else owner, folded(text))
        if exact in self._exact:
            return False
        signature = self._index.signature(text)
        if next(self._index.matches(signature, skip=lambda key: not self._is_compared(key, owner)), None) is not None:
            return False
        self._exact.add(exact)
        self._index.add(len(self._sources), signature)
        self._sources.append(owner)
        return True

    def _is_compared(self, key: int, owner: str) -> bool:
        return self._sources[key] == owner
