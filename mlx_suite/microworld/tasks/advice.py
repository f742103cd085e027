"""Advice seeking: good advice on situations, gifts, clothes for the weather, and tools."""

from collections.abc import Mapping

from ..lexicon import article
from ..task import Slots, Task, one_of
from ..world import World

_OPENINGS = (
    "I need some advice.",
    "You are a kind friend.",
    "Please be honest with me.",
    "I do not know what is best.",
    "My mother says I should ask you.",
    "Hello, I have a small problem.",
)
_SITUATIONS: Mapping[str, tuple[str, str]] = {
    "tired": ("go to bed early", "rest for an hour"),
    "hungry": ("eat some bread", "cook a warm soup"),
    "thirsty": ("drink some water", "have a cup of tea"),
    "bored": ("read a good book", "play a game"),
    "sad": ("talk to a friend", "listen to music"),
    "cold": ("put on a warm coat", "drink hot tea"),
    "hot": ("sit under a tree", "drink cold water"),
    "sick": ("see a doctor", "stay in bed"),
    "late": ("take the bus", "call and say sorry"),
    "lost": ("look at a map", "ask someone for the way"),
    "lonely": ("visit a friend", "join a club"),
    "angry": ("take a deep breath", "go for a walk"),
    "dirty": ("take a bath", "wash with soap"),
    "nervous": ("take a deep breath", "talk to a friend"),
    "busy": ("make a list", "ask for help"),
    "bad at math": ("practice every day", "ask the teacher"),
}
_RELATIONS = tuple("mother father sister brother aunt uncle friend neighbor teacher".split())
_GIFTS: Mapping[str, str] = {
    "painting": "a box of colors",
    "swimming": "a new towel",
    "reading": "a good book",
    "fishing": "a new rod",
    "dancing": "a pair of shoes",
    "cooking": "a big pan",
    "singing": "a book of songs",
    "cycling": "a bicycle bell",
    "running": "a pair of shoes",
    "sailing": "a strong rope",
    "knitting": "some soft wool",
    "drawing": "a set of pens",
    "gardening": "a small spade",
    "hiking": "a good map",
    "skating": "a warm scarf",
}
_WEATHERS: Mapping[str, str] = {
    "rainy": "a raincoat and boots",
    "cold": "a warm coat and a scarf",
    "sunny": "a light shirt and a hat",
    "snowy": "thick gloves and boots",
    "windy": "a jacket and a hat",
    "hot": "a light shirt and shorts",
}
_TRIPS = (
    "in the park",
    "at the market",
    "at school",
    "at the lake",
    "in town",
    "in the forest",
    "on the farm",
)
_TOOLS: Mapping[str, str] = {
    "cut bread": "knife",
    "dig a hole": "spade",
    "cut wood": "saw",
    "sweep the floor": "broom",
    "write a letter": "pen",
    "open the door": "key",
    "boil water": "pot",
    "eat soup": "spoon",
    "drive in a nail": "hammer",
    "paint a wall": "brush",
    "cut paper": "pair of scissors",
    "dry my hands": "towel",
    "see in the dark": "lamp",
    "tell the time": "clock",
    "find the way": "map",
    "catch a fish": "net",
    "make a hole in wood": "drill",
    "fry an egg": "pan",
    "carry water": "bucket",
    "brush my hair": "comb",
}


def _advice(slots: Slots, world: World) -> tuple[str, ...]:
    one, other = _SITUATIONS[slots["state"]]
    return tuple(
        text
        for first, second in ((one, other), (other, one))
        for text in (
            f"If you are {slots['state']}, you should {first} or {second}.",
            f"I think it would be best to {first} or to {second}.",
        )
    )


def _present(slots: Slots, world: World) -> tuple[str, ...]:
    gift, hobby = _GIFTS[slots["hobby"]], slots["hobby"]
    return (
        f"You could give your {slots['relation']} {gift}, because it is useful for {hobby}.",
        f"A good gift for someone who likes {hobby} is {gift}.",
    )


def _clothes(slots: Slots, world: World) -> tuple[str, ...]:
    clothes = _WEATHERS[slots["weather"]]
    return (
        f"On a {slots['weather']} day {slots['trip']} you should wear {clothes}.",
        f"You should wear {clothes}, because the day is {slots['weather']}.",
    )


def _tool(slots: Slots, world: World) -> tuple[str, ...]:
    tool = article(_TOOLS[slots["job"]])
    job = slots["job"].replace(" my ", " your ")
    return (
        f"The right thing to use is {tool}, because it helps you to {job}.",
        f"If you want to {job}, you need {tool}.",
    )


TASKS = (
    Task(
        name="advice_for_feeling",
        category="Advice seeking",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"state": tuple(_SITUATIONS)},
        phrasings=(
            "I am {state}. What should I do?",
            "What can I do when I am {state}?",
            "Give me some advice, because I am {state}.",
            "My friend is {state}. What would you do?",
            "Today I feel that I am {state}. Do you have any advice?",
            "What is the best thing to do for someone who is {state}?",
            "Please tell me what helps a person who is {state}.",
        ),
        answering=one_of(_advice),
    ),
    Task(
        name="gift_advice",
        category="Advice seeking",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"relation": _RELATIONS, "hobby": tuple(_GIFTS)},
        phrasings=(
            "My {relation} likes {hobby}. What gift should I buy?",
            "What should I give my {relation} who likes {hobby}?",
            "I am looking for a gift for my {relation}, who enjoys {hobby}.",
            "It is the birthday of my {relation} and {hobby} is the favorite hobby. What is a good gift?",
            "Which gift is good for my {relation}? The hobby is {hobby}.",
            "Please help me find something nice for my {relation}, who spends the weekend {hobby}.",
        ),
        answering=one_of(_present),
    ),
    Task(
        name="clothes_advice",
        category="Advice seeking",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"weather": tuple(_WEATHERS), "trip": _TRIPS},
        phrasings=(
            "It is a {weather} day. What should I wear {trip}?",
            "What do I wear {trip} on a {weather} day?",
            "I will be {trip} and the day is {weather}. Which clothes are best?",
            "We meet {trip} on a {weather} day. Tell me what to wear.",
            "Please say which clothes I need for a {weather} day {trip}.",
            "Which clothes should I wear {trip} if the weather is {weather}?",
        ),
        answering=one_of(_clothes),
    ),
    Task(
        name="tool_advice",
        category="Advice seeking",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"job": tuple(_TOOLS)},
        phrasings=(
            "What do I need to {job}?",
            "I want to {job}. What should I use?",
            "Which thing helps me to {job}?",
            "How can I best {job}? Tell me what to take.",
            "What is the right thing to use when I {job}?",
            "Please tell me what I should buy to {job}.",
            "I have never tried to {job}. What do you think I need?",
        ),
        answering=one_of(_tool),
    ),
)
