"""Information seeking: facts about the people and places of the microworld, from memory."""

from collections.abc import Callable

from ..lexicon import article
from ..task import Answering, Task, one_of
from ..world import FULL_NAMES, PLACE_NAMES, Person, Place

_OPENINGS = (
    "I am writing a quiz.",
    "I have a question.",
    "I am new in this country.",
    "My teacher asked me this.",
    "Please help me.",
    "We are playing a game.",
    "I am writing a school report.",
)


def _of_person(wordings: Callable[[Person], tuple[str, ...]]) -> Answering:
    return one_of(lambda slots, world: wordings(world.person(slots["person"])))


def _of_place(wordings: Callable[[Place], tuple[str, ...]]) -> Answering:
    return one_of(lambda slots, world: wordings(world.place(slots["place"])))


def _person_task(
    name: str,
    wordings: Callable[[Person], tuple[str, ...]],
    *phrasings: str,
    difficulty: str = "easy",
) -> Task:
    return Task(
        name=name,
        category="Information seeking",
        difficulty=difficulty,
        slots={"person": FULL_NAMES},
        phrasings=phrasings,
        openings=_OPENINGS,
        answering=_of_person(wordings),
    )


def _place_task(
    name: str,
    wordings: Callable[[Place], tuple[str, ...]],
    *phrasings: str,
    difficulty: str = "easy",
) -> Task:
    return Task(
        name=name,
        category="Information seeking",
        difficulty=difficulty,
        slots={"place": PLACE_NAMES},
        phrasings=phrasings,
        openings=_OPENINGS,
        answering=_of_place(wordings),
    )


TASKS = (
    _person_task(
        "person_birthplace",
        lambda p: (
            f"{p.name} was born in {p.birthplace}.",
            f"The birthplace of {p.name} is the town of {p.birthplace}.",
        ),
        "Where was {person} born?",
        "Can you tell me where {person} was born?",
        "In which town was {person} born?",
        "What is the birthplace of {person}?",
        "Name the town where {person} was born.",
        "Please tell me the birthplace of {person}.",
        "I would like to know which town {person} comes from.",
        "Which town does {person} come from?",
    ),
    _person_task(
        "person_birth_year",
        lambda p: (f"{p.name} was born in {p.born_year}.", f"The birth year of {p.name} is {p.born_year}."),
        "When was {person} born?",
        "In which year was {person} born?",
        "What is the birth year of {person}?",
        "Can you tell me the year when {person} was born?",
        "Please give me the birth year of {person}.",
        "Tell me in what year {person} was born.",
        "Do you know when {person} was born?",
        "I want to know the year in which {person} was born.",
        difficulty="medium",
    ),
    _person_task(
        "person_job",
        lambda p: (f"{p.name} works as {article(p.job)}.", f"The job of {p.name} is to be {article(p.job)}."),
        "What is the job of {person}?",
        "What does {person} do for a living?",
        "Tell me what {person} does for work.",
        "What kind of work does {person} do?",
        "Can you tell me the job of {person}?",
        "Please name the job of {person}.",
        "How does {person} earn money?",
        "I want to know what job {person} has.",
    ),
    _person_task(
        "person_hobby",
        lambda p: (f"The hobby of {p.name} is {p.hobby}.", f"{p.name} likes {p.hobby} in free time."),
        "What is the hobby of {person}?",
        "What does {person} like to do in free time?",
        "Tell me the hobby of {person}.",
        "Which hobby does {person} have?",
        "How does {person} spend the weekend?",
        "Can you name the hobby of {person}?",
        "Please tell me what {person} enjoys in free time.",
        "I wonder what {person} does for fun.",
    ),
    _person_task(
        "person_food",
        lambda p: (f"The favorite food of {p.name} is {p.food}.", f"{p.name} likes to eat {p.food} most of all."),
        "What is the favorite food of {person}?",
        "What does {person} like to eat?",
        "Which food does {person} like most of all?",
        "Tell me the favorite food of {person}.",
        "Can you say what {person} likes to eat?",
        "I want to cook for {person}. Which food is the best choice?",
        "Please name the food that {person} likes.",
        "What food should I make for {person}?",
    ),
    _person_task(
        "person_pet",
        lambda p: (f"{p.name} has {article(p.pet)}.", f"The pet of {p.name} is {article(p.pet)}."),
        "Which pet does {person} have?",
        "What kind of pet does {person} keep at home?",
        "Tell me what pet {person} has.",
        "Do you know the pet of {person}?",
        "Which animal lives with {person}?",
        "Please name the animal that {person} keeps.",
        "What animal does {person} take care of?",
        "Can you tell me which pet {person} has?",
    ),
    _person_task(
        "person_friend",
        lambda p: (f"The best friend of {p.name} is {p.friend}.", f"{p.friend} is the best friend of {p.name}."),
        "Who is the best friend of {person}?",
        "Tell me the name of the best friend of {person}.",
        "Can you name the best friend of {person}?",
        "Which person is the best friend of {person}?",
        "Please tell me who is a close friend of {person}.",
        "Do you know the best friend of {person}?",
        "I am looking for the best friend of {person}. Who is it?",
        "Whom does {person} call a best friend?",
        difficulty="medium",
    ),
    _person_task(
        "person_summary",
        lambda p: (
            f"{p.name} is {article(p.job)} from {p.birthplace} who was born in {p.born_year} and likes {p.hobby}.",
            f"{p.name} was born in {p.birthplace} in {p.born_year}. {p.first} works as "
            f"{article(p.job)} and enjoys {p.hobby}.",
        ),
        "Who is {person}?",
        "Tell me about {person}.",
        "Give me a short summary of the life of {person}.",
        "What do you know about {person}?",
        "Please write a few facts about {person}.",
        "Can you tell me something about {person}?",
        "I want to learn about {person}. What should I know?",
        "Describe {person} in a few words.",
        difficulty="hard",
    ),
    _place_task(
        "place_country",
        lambda p: (f"{p.name} is a town in the country of {p.country}.", f"The town of {p.name} lies in {p.country}."),
        "In which country is {place}?",
        "Where is the town of {place}?",
        "Which country does {place} belong to?",
        "Tell me the country of {place}.",
        "Can you say in which country {place} lies?",
        "I want to visit {place}. To which country do I have to travel?",
        "What country is {place} in?",
        "Please name the country where {place} can be found.",
    ),
    _place_task(
        "place_river",
        lambda p: (
            f"The river that flows through {p.name} is the {p.river}.",
            f"{p.name} stands on the river {p.river}.",
        ),
        "Which river flows through {place}?",
        "On which river does {place} stand?",
        "Name the river of {place}.",
        "What is the river in {place} called?",
        "Can you tell me which river is in {place}?",
        "Please tell me the name of the river in {place}.",
        "I am looking for the river that flows through {place}. What is its name?",
        "Do you know the river of {place}?",
    ),
    _place_task(
        "place_known_for",
        lambda p: (f"{p.name} is known for its {p.known_for}.", f"People know {p.name} for its {p.known_for}."),
        "What is {place} known for?",
        "Why is {place} famous?",
        "Tell me what {place} is known for.",
        "For what do people know {place}?",
        "What can I buy in {place}?",
        "Can you tell me what made {place} famous?",
        "Please say what {place} is famous for.",
        "I am going to {place}. What is the town known for?",
    ),
    _place_task(
        "place_food",
        lambda p: (f"The usual food in {p.name} is {p.food}.", f"People in {p.name} like to eat {p.food}."),
        "What do people eat in {place}?",
        "Which food is usual in {place}?",
        "Tell me the usual food of {place}.",
        "What should I eat when I visit {place}?",
        "Can you name the best food in {place}?",
        "Please tell me which food I should try in {place}.",
        "I will have dinner in {place}. Which food is usual there?",
        "What is on the table for dinner in {place}?",
    ),
    _place_task(
        "place_landmark",
        lambda p: (
            f"The main sight of the town of {p.name} is the {p.landmark}.",
            f"Visitors to {p.name} should see the {p.landmark}.",
        ),
        "What is the main sight of {place}?",
        "What should I see in {place}?",
        "Which sight should visitors to {place} not miss?",
        "Name the main sight of {place}.",
        "Tell me what visitors see in {place}.",
        "Can you name a sight in {place}?",
        "I have one day in {place}. What should I look at?",
        "Please tell me the most famous sight of {place}.",
    ),
    _place_task(
        "place_summary",
        lambda p: (
            f"{p.name} is a town in {p.country} on the river {p.river}. It is known for its "
            f"{p.known_for} and the {p.landmark}.",
        ),
        "Tell me about the town of {place}.",
        "What do you know about {place}?",
        "Describe the town of {place} in a few words.",
        "Give me a short summary of {place}.",
        "What kind of town is {place}?",
        "Please write a few facts about {place}.",
        "I want to travel to {place}. What should I know about it?",
        "Can you tell me something about {place}?",
        difficulty="hard",
    ),
)
