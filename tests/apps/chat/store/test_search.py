"""Search gives the same results with SQLite's full-text index and without."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite_apps.chat.store import database
from mlx_suite_apps.chat.store.conversation import Conversation
from mlx_suite_apps.chat.store.search import Pieces, excerpt, folded, terms
from mlx_suite_apps.chat.store.store import Store

TABLES = {
    "index": database.SEARCH_TABLES,
    # As where SQLite was compiled without FTS5.
    "no index": (database.SEARCH_TABLES[0].replace("fts5", "fts0"), database.SEARCH_TABLES[1]),
}


@pytest.fixture(params=TABLES)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Store]:
    monkeypatch.setattr(database, "SEARCH_TABLES", TABLES[request.param])
    with Store(tmp_path / "chat.sqlite3") as store:
        assert store._database.has_index == (request.param == "index")
        yield store


def add(store: Store, title: str, *texts: str) -> int:
    chat = store.create(title).id
    parent = None
    for text in texts:
        parent = store.add(chat, parent, "user", text).id
    return chat


def found(store: Store, query: str) -> list[str]:
    return [hit.conversation.title for hit in store.search(query)]


def marked(pieces: Pieces) -> str:
    return "".join(f"[{text}]" if is_match else text for text, is_match in pieces)


def test_titles_and_messages_are_searched_and_the_last_updated_comes_first(store: Store) -> None:
    add(store, "Trees of Norway", "Which are evergreen?")
    add(store, "Hardware", "What is a B-tree?", "And a red-black tree?")
    add(store, "Cooking", "How long do eggs boil?")

    hits = store.search("tree")
    assert [hit.conversation.title for hit in hits] == ["Hardware", "Trees of Norway"]
    assert [marked(hit.excerpt) for hit in hits] == ["And a red-black [tree]?", "[Tree]s of Norway"]
    assert store.message(hits[0].message or 0).content == "And a red-black tree?"
    assert hits[1].message is None
    assert len(store.search("tree", limit=1)) == 1


def test_every_term_must_be_in_one_message_and_quotes_keep_words_together(store: Store) -> None:
    add(store, "one", "the quick brown fox")
    add(store, "two", "the brown quick fox")
    add(store, "three", "quick", "brown")

    assert found(store, "brown quick") == ["two", "one"]
    assert found(store, '"quick brown"') == ["one"]
    assert found(store, '"quick brown" lazy') == []


def test_umlauts_accents_and_case_do_not_matter(store: Store) -> None:
    add(store, "street", "Die Größe der STRASSE")
    add(store, "cafe", "un cafe\u0301")  # an e and an accent

    assert found(store, "größe") == found(store, "GROSSE straße") == ["street"]
    assert found(store, "café") == found(store, "CAFE") == ["cafe"]
    assert marked(store.search("cafe")[0].excerpt) == "un [cafe\u0301]"
    assert marked(store.search("strasse")[0].excerpt) == "Die Größe der [STRASSE]"
    assert marked(store.search("grosse")[0].excerpt) == "Die [Größe] der STRASSE"


def test_emoji_and_single_characters_are_found(store: Store) -> None:
    add(store, "party", "Let us celebrate 🎉!")
    add(store, "love", "❤\ufe0f and 東京")

    assert found(store, "🎉") == ["party"]
    assert found(store, "❤") == found(store, "東") == found(store, "東京") == ["love"]
    assert marked(store.search("🎉")[0].excerpt) == "Let us celebrate [🎉]!"


def test_quotes_and_the_signs_of_query_languages_are_ordinary_text(store: Store) -> None:
    add(store, "code", 'print("don\'t", 100%_ok, a*b, [x] OR NOT (y))')

    for query in ('"', "don't", '"don', "%_", "a*b", "[x]", "OR NOT", "(y))", 'print("don', "a* [x]"):
        assert found(store, query) == ["code"], query
    for query in ("100%ok", "a?b", "NOT OR x y z", "col:x", "a*c", "-x"):
        assert found(store, query) == [], query


def test_an_empty_query_finds_nothing(store: Store) -> None:
    add(store, "one", "text")

    assert found(store, "") == found(store, "  ") == found(store, "\u0301") == []


def test_edits_renames_and_deletions_are_found_at_once(store: Store) -> None:
    chat = add(store, "old title", "first words")
    assert found(store, "old") == ["old title"]
    store.change(chat, title="new title")
    assert found(store, "old") == []
    assert found(store, "new") == found(store, "words") == ["new title"]
    store.delete(chat)
    assert found(store, "new") == found(store, "words") == []


def test_an_excerpt_is_one_line_around_the_first_match() -> None:
    text = "a" * 50 + "\nneedle\t" + "b" * 200 + " needle"

    assert marked(excerpt(text, terms("needle"))) == "…" + "a" * 39 + " [needle] " + "b" * 113 + "…"
    assert marked(excerpt("x needle", terms("needle x"))) == "[x] [needle]"
    assert marked(excerpt("needle" + "y" * 114, terms("needle"))) == "[needle]" + "y" * 114


LETTERS = "aAbß\u0301\u00e4\"'*%[🎉 \n\0"


@settings(max_examples=50)
@given(
    texts=st.lists(st.text(LETTERS, max_size=12), min_size=1, max_size=5),
    words=st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=2),
    name=st.sampled_from(sorted(TABLES)),
)
def test_a_conversation_is_found_if_a_text_of_it_contains_all_terms(
    texts: list[str], words: list[str], name: str
) -> None:
    query = " ".join(words)
    wanted = terms(query)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "SEARCH_TABLES", TABLES[name])
        with Store(Path(folder) / "chat.sqlite3") as store:
            chats = store.restore([(Conversation(id=0, title=text, created="", updated=""), ()) for text in texts])
            expected = [
                chat.id
                for chat, text in zip(chats, texts, strict=True)
                if wanted and all(term in folded(text) for term in wanted)
            ]
            assert [hit.conversation.id for hit in store.search(query)] == expected[::-1]
