"""Who is asked about, who is not, and that nothing held out is trained on."""

from itertools import islice

from mlx_suite_apps.lab.people import ASKED, NOT_ASKED, OPEN_BOOK, OTHERS, RECALL, LabPeople
from mlx_suite_apps.lab.recipe import LabWorld

PEOPLE = LabPeople(world=LabWorld(people=6, asked=0.5, texts=2, unseen=3, seed=1))


def test_the_first_texts_of_the_raw_corpus_are_about_the_asked_people() -> None:
    texts = list(PEOPLE.raw_texts())
    assert len(texts) == 12
    for person, text in zip(PEOPLE.people, texts, strict=False):
        assert person.first in text
    assert [person in PEOPLE.asked for person in PEOPLE.people] == [True, True, True, False, False, False]


def test_fresh_texts_begin_with_the_raw_corpus_and_do_not_repeat() -> None:
    fresh = list(islice(PEOPLE.fresh_texts(), 60))
    assert fresh[:12] == list(PEOPLE.raw_texts())
    assert len(set(fresh)) == 60


def test_held_out_texts_are_in_no_training_text() -> None:
    fresh = set(islice(PEOPLE.fresh_texts(), 600))
    assert not fresh & set(PEOPLE.heldout_texts())


def test_questions_are_grouped_by_what_the_pairs_reveal() -> None:
    ada, other = PEOPLE.asked[0], PEOPLE.others[0]
    questions = PEOPLE.questions(frozenset({(ada.name, "job"), (ada.name, "pet")}))
    groups = {group: [q for q in questions if q.group == group] for group in (ASKED, NOT_ASKED, OTHERS, OPEN_BOOK)}
    assert {q.relation for q in groups[ASKED]} == {"job", "pet"}
    assert len(groups[NOT_ASKED]) == 3 * 7 - 2
    assert len(groups[OTHERS]) == 3 * 7
    assert any(other.name in q.question for q in groups[OTHERS])
    assert len(groups[OPEN_BOOK]) == 3
    assert all(q.answer in q.text for q in groups[OPEN_BOOK])
    assert not any(q.text for group in (ASKED, NOT_ASKED, OTHERS) for q in groups[group])


def test_unseen_people_are_in_no_text_and_no_lesson_is_about_people_who_are_not_asked() -> None:
    texts = " ".join(islice(PEOPLE.fresh_texts(), 60))
    assert not any(person.name in texts for person in PEOPLE.unseen)
    revealed = frozenset((person.name, "job") for person in PEOPLE.asked)
    lessons = PEOPLE.tuning_questions(revealed)
    closed = [lesson for lesson in lessons if not lesson.text]
    assert len(closed) == 3 and len(lessons) == 6
    names = [person.name for person in (*PEOPLE.others, *PEOPLE.unseen)]
    assert not any(name in lesson.question for lesson in lessons for name in names)


def test_a_held_out_biography_is_cut_before_each_of_its_facts() -> None:
    completions = [q for q in PEOPLE.questions(frozenset()) if q.group == RECALL]
    assert len(completions) > 30
    for each in completions:
        whole = next(text for text in PEOPLE.heldout_texts() if text.startswith(each.text))
        assert whole[len(each.text) :].strip().startswith(each.answer)
        assert each.answer not in each.text


def test_a_tenth_of_ten_texts_of_each_person_is_one_of_each() -> None:
    people = LabPeople(world=LabWorld(people=20, texts=10, unseen=1))
    tenth = list(people.tenth())
    assert len(tenth) == 20 == len(set(tenth))
    assert all(any(person.name in text for text in tenth) for person in people.people)
