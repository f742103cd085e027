"""Handwritten pairs of instructions: near-duplicates, and pairs that only look similar."""

SAME = [
    ("Write a poem about the sea.", "Please write a poem about the sea"),
    ("Write a poem about the sea.", "write a poem about the sea!!"),
    ("What is the capital of France?", "What is the capital of France"),
    ("What is the capital city of France?", "So, what is the capital city of France?"),
    ("Explain how photosynthesis works in simple terms.", "Explain how photosynthesis works, in simple terms, please."),
    ("How do I reverse a list in Python?", "How do I reverse a list in Python 3?"),
    ("How can I improve my writing skills for work?", "How can I improve my writing skills for my work?"),
    (
        "Give me a recipe for a vegetarian lasagne that feeds six people.",
        "Give me a recipe for a vegetarian lasagne that feeds 6 people.",
    ),
    (
        "Can you explain the difference between a virus and a bacterium?",
        "Explain the difference between a virus and a bacterium",
    ),
    (
        "What are the main causes of the First World War? Discuss at least three of them in detail.",
        "What were the main causes of the First World War? Discuss at least three of them in detail.",
    ),
    (
        "def add(a, b):\n    return a + b\n\nWhat does this function do?",
        "def add(a, b):\n  return a + b\nWhat does this function do?",
    ),
    (
        "Fix the bug in this code:\n```python\nfor i in range(10)\n    print(i)\n```",
        "Fix the bug in this code:\n\nfor i in range(10)\n    print(i)",
    ),
    (
        "I am writing an essay about climate change and I need help with the introduction. Can you "
        "suggest an opening paragraph that would grab the reader's attention?",
        "I'm writing an essay about climate change and I need help with the introduction. Can you "
        "suggest an opening paragraph that will grab the reader's attention?",
    ),
    ("写一首关于大海的诗", "请写一首关于大海的诗。"),
    ("日本の首都はどこですか?", "日本の首都はどこですか"),
    ("請解釋光合作用是如何運作的,用簡單的語言。", "請解釋光合作用是如何運作的,用簡單的語言說明。"),
    ("เขียนบทกวีเกี่ยวกับทะเล", "ช่วยเขียนบทกวีเกี่ยวกับทะเล"),
    ("समुद्र के बारे में एक छोटी कविता लिखो", "समुद्र के बारे में एक छोटी कविता लिखो।"),
    (
        "Напиши короткое стихотворение о море и о кораблях.",
        "Напиши, пожалуйста, короткое стихотворение о море и о кораблях",
    ),
    (
        "Schreibe ein kurzes Gedicht über das Meer im Winter.",
        "Bitte schreibe ein kurzes Gedicht über das Meer im Winter.",
    ),
    (
        "Plan a three day trip to Rome for a family with two small children and a small budget.",
        "Plan a three day trip to Rome for a family with two young children and a small budget.",
    ),
    (
        "What are some good ways to save money as a college student living on your own for the first time?",
        "What are some ways to save money as a college student living on your own for the first time?",
    ),
    (
        "Summarise the following article in two sentences:\nThe city council voted on Monday to close "
        "the old bridge for repairs until spring.",
        "Summarize the following article in two sentences:\nThe city council voted on Monday to close "
        "the old bridge for repairs until spring.",
    ),
    ("Translate 'good morning' into Spanish.", 'Translate "Good morning" into Spanish'),
    (
        "SELECT name FROM users WHERE age > 30 ORDER BY name; explain this query",
        "Explain this query: SELECT name FROM users WHERE age > 30 ORDER BY name",
    ),
]
"""Near-duplicates: a run needs only one of the two."""
SIMILAR = [
    ("What is 12 plus 30?", "What is 12 plus 31?"),
    ("What is 3+4?", "What is 3-4?"),
    ("What is 3 + 4?", "What is 3 * 4?"),
    ("What is 12 plus 30?", "What is 12 minus 30?"),
    ("What is 12 plus 30?", "What is 30 plus 12?"),
    ("Write a poem about the sea.", "Write a poem about the sky."),
    ("Write a poem about the sea.", "Write a story about the sea."),
    ("Write a poem about the sea.", "Write a haiku about the sea."),
    ("Write a poem.", "Write a poem about the sea."),
    ("What is the capital of France?", "What is the capital of Spain?"),
    ("Who wrote Hamlet?", "Who wrote Macbeth?"),
    ("How do I reverse a list in Python?", "How do I sort a list in Python?"),
    ("How do I reverse a list in Python?", "How do I reverse a list in Java?"),
    ("How do I read a file in C?", "How do I read a file in C++?"),
    ("Sort these numbers: 3 1 2", "Sort these numbers: 1 3 2"),
    ("Sort these words: pear apple fig", "Sort these words: apple pear fig kiwi"),
    (
        "Tom has 5 apples and buys 3 more. How many apples does Tom have now?",
        "Tom has 7 apples and buys 2 more. How many apples does Tom have now?",
    ),
    (
        "Tom has 5 apples and buys 3 more. How many apples does Tom have now?",
        "Tom has 5 apples and eats 3 of them. How many apples does Tom have now?",
    ),
    (
        "Tom has 5 apples and buys 3 more. How many apples does Tom have now?",
        "Tom has 5 apples and buys 4 more. How many apples does Tom have now?",
    ),
    (
        "A train travels at 60 miles per hour. How long does it take to travel 180 miles?",
        "A train travels at 60 miles per hour. How long does it take to travel 240 miles?",
    ),
    (
        "Anna had 4 red pens and 6 blue pens. She gave 3 pens to her brother and bought 5 new ones. How "
        "many pens does she have?",
        "Anna had 9 red pens and 2 blue pens. She gave 4 pens to her brother and bought 7 new ones. How "
        "many pens does she have?",
    ),
    (
        "def add(a, b):\n    return a + b\n\nWhat does this function do?",
        "def add(a, b):\n    return a - b\n\nWhat does this function do?",
    ),
    ("What does x += 1 do in Python?", "What does x -= 1 do in Python?"),
    ("for i in range(10): print(i)", "for i in range(5): print(i * i)"),
    ("Give me three tips for a job interview.", "Give me three tips for a first date."),
    (
        "Give me five ideas for a birthday present for my mother.",
        "Give me five ideas for a birthday present for my brother.",
    ),
    (
        "Write a short story of at least two hundred words about a dragon.",
        "Write a short story of at least two hundred words about a knight.",
    ),
    ("Translate 'good morning' into Spanish.", "Translate 'good morning' into French."),
    ("Translate 'good morning' into Spanish.", "Translate 'good night' into Spanish."),
    ("写一首关于大海的诗", "写一首关于天空的诗"),
    ("写一首关于大海的诗", "写一首关于大山的诗"),
    ("日本の首都はどこですか?", "中国の首都はどこですか?"),
    ("12加30等于多少?", "12加31等于多少?"),
    ("เขียนบทกวีเกี่ยวกับทะเล", "เขียนบทกวีเกี่ยวกับภูเขา"),
    ("समुद्र के बारे में एक छोटी कविता लिखो", "पहाड़ के बारे में एक छोटी कविता लिखो"),
    ("Schreibe ein kurzes Gedicht über das Meer im Winter.", "Schreibe ein kurzes Gedicht über den Wald im Herbst."),
    ("Is it true that cats can see in the dark?", "Is it true that dogs can see in the dark?"),
    ("You are a pirate. Introduce yourself.", "You are a wizard. Introduce yourself."),
    ("Who is Anna Berg?", "Who is Anna Holm?"),
    ("Hello", "Hi"),
    ("dog bites man", "man bites dog"),
    ("Count the letter r in strawberry.", "Count the letter e in strawberry."),
    ("List the prime numbers between 10 and 50.", "List the prime numbers between 10 and 100."),
    (
        "Plan a three day trip to Rome for a family with two small children and a small budget.",
        "Plan a three day trip to Paris for a couple with a large budget and no children.",
    ),
    ("Convert 25 degrees Celsius to Fahrenheit.", "Convert 25 degrees Fahrenheit to Celsius."),
    ("Explain how photosynthesis works in simple terms.", "Explain how electricity works in simple terms."),
    ("What are the pros and cons of remote work?", "What are the pros and cons of nuclear power?"),
    ("Solve for x: 2x + 3 = 11", "Solve for x: 2x + 3 = 13"),
    ("Solve for x: 2x + 3 = 11", "Solve for x: 3x + 2 = 11"),
]
"""Instructions in similar words with different answers."""
