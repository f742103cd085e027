"""Instructions as models generate them: clean ones that must stay, and ones with something to remove."""

from collections.abc import Mapping

GOOD: Mapping[str, str] = {
    # Several sentences, several questions.
    "two sentences after a question": "What is the capital of France? Explain why it became the capital and "
    "compare it "
    "with Lyon.",
    "three questions": "Who wrote Emma? When was it published? And is it worth reading today?",
    "questions as a list": "1. What is a monad?\n2. Why do people find it hard?\n3. Is there a simple example?",
    "a list after an introduction": "Please answer these:\n\n1. Who was Ada Lovelace?\n2. What did she write?",
    "lettered parts": "For f(x) = x^2 - 4x:\na) Find the vertex.\nb) Find the zeros.\nc) Sketch the graph.",
    "tasks in a list": "Task 1: Define inflation.\nTask 2: Name two of its causes.\nTask 3: Say how banks fight it.",
    "questions with labels": "Q1. What is osmosis?\nQ2. Where does it occur?",
    "parts of a story": "Part 1: The storm\nPart 2: The island\nPart 3: The way home\n\nWrite an outline for "
    "each part.",
    "bullets": "- eggs\n- flour\n- milk\n\nWhat can I cook with these?",
    "one bullet of a list further down": "I can choose one:\n- a bicycle\n- a bus pass\n\nWhich is cheaper in a year?",
    "only bullets": "* Write a haiku\n* Translate it into German",
    # Pasted input.
    "text to summarise": "Summarise the following text:\nThe cat sat on the mat.",
    "text to summarise, with a question in it": "Summarise the following text:\n\nWhat is a cat? A cat is a "
    "small animal "
    "that sleeps. Why does it sleep? Nobody knows.",
    "text to translate": "Translate into French:\n\nGood morning, how are you?",
    "an email to improve": "Make this email more polite:\n\nHi Tom,\n\nI need the report now. Where is it?\n\nAnna",
    "numbers to sort": "Sort these numbers: 4, 8, 15, 16, 23, 42",
    "a payload in quotes": 'Rewrite in the passive voice: "The dog bit the man."',
    "a quotation in front": '"To be or not to be" is from which play, and what does it mean?',
    "quotations at both ends": '"Cat" rhymes with "hat"',
    "a text with an answer in it": "Translate the following dialogue into Spanish:\n\nQuestion: Where is the station?\n"
    "Answer: Around the corner.",
    "an exchange to improve": "Improve the reply below.\n\nCustomer: My parcel is late.\n\nResponse: Not our fault.",
    "input in sections": "### Instruction:\nSummarise the text in one sentence.\n\n### Input:\nThe sun is a "
    "star. It is "
    "made of hydrogen and helium.",
    "fields after the task": "Task: Classify the sentiment.\nText: I loved every minute.\nLabels: positive, negative",
    "input and output of a puzzle": "Given a list of integers, return the two indices that add up to target.\n\nInput: "
    "nums = [2, 7, 11], target = 9\nOutput: [0, 1]\nExplanation: nums[0] + nums[1] is 9.\n\nConstraints:\n- 2 <= n",
    "front matter": "Fix my YAML:\n---\ntitle: Home\n---",
    "a recipe to convert": "Convert this recipe to metric units:\n\nStep 1: Mix 2 cups of flour with 1 cup of water.\n"
    "Step 2: Bake at 350 F.",
    "instructions to rewrite": "Rewrite these instructions for a child:\n\n## Step 1: Open the box\n\n## Step "
    "2: Take out "
    "the toy",
    "steps with a mistake": "I solved 2x + 4 = 10. Which of my steps is wrong?\n\n## Step 1: 2x = 14\n\n## "
    "Step 2: x = 7",
    "headings of a draft": "# My trip\n\n## Day 1\n\nWe arrived late.\n\nPlease continue this travel diary.",
    "a log": "Why does my build fail?\n\nERROR: missing symbol _main\nnote: see linker.log:12",
    "three blank lines in unfenced code": "Add types:\nimport os\n\n\n\ndef f(x):\n    return x\n\n\n\nprint(f(1))",
    "two blank lines between functions": "What do these do?\ndef a():\n    pass\n\n\ndef b():\n    pass",
    # Code.
    "fenced code": "Why does this loop never end?\n\n```python\nwhile x:\n    x += 1\n```",
    "marks inside a fence": "What does this print?\n\n```\nprint('Question: ...')\nAnswer: 4\n## Step 1\n\n\n"
    "\n\nAssistant:"
    "\n```\n\nExplain.",
    "an unclosed fence": "Finish the function:\n```js\nfunction add(a, b) {",
    "only code": "```sql\nSELECT name FROM users WHERE id = 1;\n```",
    "tildes as a fence": "Format this:\n~~~\n{'a':1,\n\n\n\n'b':2}\n~~~",
    "indented code": "What is wrong here?\n\n    Answer: int = 42\n    print(answer)",
    "a decorated function": "@cache\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n\nIs this fast?",
    "a shell command": "`tar xzf a.tgz` says 'not in gzip format'. What now?",
    "a regular expression": "What does ^\\s*#{1,6}\\s+(.*)$ match?",
    "HTML to fix": "<b>bold</b> and <i>italic</i> work, but <u>underlined</u> does not. Why?",
    "HTML with structure": "<div><p>One</p><p>Two</p></div>",
    "a question about a tag": "<b> and <strong> look the same. When should I use which?",
    "a dunder name": "__init__",
    "a shebang": "#!/bin/sh\necho hi\n\nWhat is the first line for?",
    "an include": "# include <stdio.h>",
    "comments as headings": "# load the data\ndf = read('a.csv')\n# plot it\ndf.plot()\n\nTurn this into a function.",
    # Answers that belong to the message.
    "an answer to grade": "Grade this student's answer.\n\nQuestion: What is 2 + 2?\nAnswer: 4",
    "a solution to check": "Is this solution right?\n\n2x = 6\n\nSolution: x = 4",
    "a quiz": "Make this quiz harder.\n\n1. What is 2 + 2?\nAnswer: 4\n2. What is 3 + 3?\nAnswer: 6",
    "a quiz with a second question": "What is 2 + 2?\nAnswer: 4\n\nWhat is 3 + 3?\nAnswer:",
    "few-shot examples": "Q: What is 1 + 1?\nA: 2\nQ: What is 2 + 2?\nA:",
    "examples with other labels": "Review: Great film!\nSentiment: positive\n\nReview: I slept.\nSentiment:",
    "a multiple-choice exercise": "Which planet is the largest?\n\nA) Mars\nB) Jupiter\nC) Venus\nD) Earth",
    "a multiple-choice exercise with its answer": "Which planet is the largest?\nA. Mars\nB. Jupiter\nC. "
    "Venus\n\nAnswer: "
    "B\n\nExplain why.",
    "a requested format": "What is 17 * 3? Answer in the form 'Answer: x'.",
    "a format over several lines": "Solve x^2 = 9. Use this format.\n\nReasoning: your thoughts\nAnswer: the number",
    "a format with the mark alone": "How tall is Everest? End your reply with a line like this.\n\nAnswer: <number>",
    "a place for the answer": "Write a multiple-choice question. Put the answer on the last line, as in\nAnswer: B",
    "a multiple-choice exercise with its answer at the end": "What is 2 + 2?\nA) 3\nB) 4\nC) 5\n\nAnswer: B",
    "a joke to explain": "Explain the joke:\n\nWhy did the hen cross the road?\nAnswer: To get to the other side.",
    "a bot's answer to judge": "I asked a bot this. What is 2 + 2?\nAssistant: 5.\nWhy was it wrong?",
    "a requested first word": "Solve the riddle and begin with the word Answer.\n\nWhat gets wetter as it dries?",
    "pages of questions": "Write a FAQ.\n\nQuestion: Do you ship abroad?\nAnswer: Yes.\n\nAdd five more like that.",
    "a proof to check": "Is this proof valid?\n\nStep 1: Let a = b.\nStep 2: Then a^2 = ab.\nStep 3: So 2 = 1.",
    "a structure of steps": "Write a script like this:\n\n# Step 1: load the data\n# Step 2: clean it",
    "a dialogue in Chinese": "阅读下面的对话并续写：\n\n问：你好吗？\n答：我很好。",
    "a German text to translate": "Übersetze ins Englische:\n\nFrage: Wie alt bist du?\nAntwort: Zehn.",
    "a riddle and its answer": "I have a riddle. What has keys but no locks?\nAnswer: a piano.\n\nCan you "
    "write three more "
    "like it?",
    "a questioned answer": "Why is the sky blue?\n\nThe answer is usually 'scattering'. But why is it not violet?",
    "a form to fill in": "Name: \nAge: \nAnswer: \n\nMake a web form with these fields.",
    "a glossary": "Solution: a mixture of a solute in a solvent.\n\nGive two more definitions like this.",
    "an answer to write a question for": "Based on the context and the answer, generate a question.\n\n"
    "Context: He let go of her arm.\n\nAnswer:\n\nHe would feel sorry.",
    "options after a question": "Select the best answer.\nWhere do you find a piano?\nOptions:\n- concert "
    "hall\n- kitchen",
    "a prompt of fields": "Would the user recommend it?\n===\nReview: It broke after a day. I want my money "
    "back.\nAnswer:",
    "a question that is referred to": "Question: How does a rocket work?\nI found this: it pushes gas out.\n"
    "Is that a correct answer?",
    "options on one line": "Question: A light ball falls (A) faster (B) slower\n\nDo not use A and B to answer "
    "the question.",
    # Words that only look like marks.
    "the word assistant": "Write a job advertisement for an administrative assistant in a law firm.",
    "the word assistant at a line's end": "I want a new job. I am a teaching\nassistant\nand I like physics. "
    "Any ideas?",
    "the word answer": "How do I answer 'Tell me about yourself' in an interview?",
    "the word solution": "What is the solution of x^2 = 2? Is the solution a fraction?",
    "the word user": "user\nadmin\nguest\n\nWhich of these roles should be allowed to delete files?",
    "a question about a turn marker": "What is the purpose of <|eot_id|>",
    "a pasted prompt": "What is wrong with this prompt?\n\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "task as a word": "Task management is hard for me. Which app helps?",
    "question as a word": "Question marks in French need a space. Why?",
    "a label that is a title": "Human: All Too Human was written by whom?",
    "prompt as a label of content": "Prompt: dragon, castle, dusk, oil painting",
    "an ordinal in German": "2. Weltkrieg: Wann endete er?",
    "a date in German": "3. Oktober 1990: Was geschah an diesem Tag?",
    "a leading decimal number": "2.5 is how much as a fraction?",
    "a chess move": "1. e4 e5 2. Nf3 Nc6 3. Bb5 is which opening?",
    "a single chess move": "1. e4 is answered by c5 most often.",
    "stars as multiplication": "What is 2**3?",
    "stars for emphasis": "**Why** is the sky blue and **when** is it red?",
    "keyword arguments": "**kwargs in Python",
    "inches": 'How high is a table of 30"',
    "an apostrophe at each end": "'Tis the season, said the boys'",
    # Dialogues, letters, poems, tables.
    "a dialogue to continue": "Continue this dialogue.\n\nAlice: Where were you?\nAssistant: I was at "
    "home.\nAlice: Liar.",
    "a dialogue of roles": "User: Hi!\nAssistant: Hello, how are you?\nUser: Fine. Tell me a joke.\nAssistant:",
    "a dialogue to judge": "Is the assistant polite in this conversation?\n\nUser: Help!\n\nAssistant: No.",
    "a letter": "Dear Sir or Madam,\n\nI have not received my order. What should I do?\n\nYours faithfully,\nJ. Smith",
    "a poem with gaps": "Roses are red,\nViolets are ___,\n\n\nSugar is sweet,\nAnd so ___.\n\nFill in the gaps.",
    "a table": "Which city grew most?\n\n| city | 1990 | 2020 |\n|------|------|------|\n| Ulm | 110 | 126 |",
    "a table that ends in a rule": "Complete the table:\n| a | b |\n|---|---|",
    "numbers in columns": "x  y\n1  2\n2  4\n3  6\n\nWhat is the slope?",
    "sections": "Compare:\n\n---\nText A: I like tea.\n\n---\nText B: I like coffee.\n\n---",
    "a list with a gap at its end": "What is missing?\n\n- spring\n- summer\n- winter\n-",
    "a leading ellipsis": "... and so it ended. How would you continue?",
    "a quotation in French": "Traduis la phrase suivante : « Il pleut »",
    "a payload in curly quotes": "Translate the following sentence into French: “I can’t come tomorrow.”",
    "an underlined heading": "Convert to HTML\n\nMy page\n=======",
    "a role to play": "You are a pirate. Answer everything I say like a pirate. What is your name?",
    # Other scripts.
    "Chinese": "请把下面这段话翻译成英文：\n今天天气很好。你想去公园吗？",
    "Chinese list": "1. 什么是人工智能？\n2. 它有哪些应用？",
    "Japanese": "次の文を要約してください：\n猫はマットの上に座った。",
    "Korean": "한국의 수도는 어디인가요? 그 이유도 설명해 주세요.",
    "Arabic": "ما هي عاصمة فرنسا؟ اشرح لماذا أصبحت العاصمة.",
    "Hebrew": "מהי בירת צרפת? הסבר מדוע.",
    "Hindi": "फ्रांस की राजधानी क्या है? कारण बताइए।",
    "Persian with joiners": "می\u200cخواهم کتاب\u200cهای خوب بخوانم. چه پیشنهادی دارید؟",
    "Russian": "Кто написал «Войну и мир»? О чём эта книга?",
    "Greek": "Ποιος έγραψε την Οδύσσεια; Πότε;",
    "Thai": "ช่วยแปลประโยคนี้เป็นภาษาอังกฤษ: ฉันชอบกินข้าว",
    "Spanish": "¿Quién fue Frida Kahlo? Escribe un párrafo sobre su vida.",
    "French": "« Bonjour » se traduit comment en japonais ? Et « merci » ?",
    "emoji with joiners": "What does 👩\u200d👩\u200d👧\u200d👦 mean? And 🏳️\u200d🌈?",
    "only emoji": "🎬🦁👑 Which film is this?",
    "mathematics": "Let $f(x) = \\frac{1}{x}$.\n\n$$\\int_1^2 f(x)\\,dx = ?$$",
    # Colons at the end, and very short ones.
    "a colon at the end": "Write a story that begins with this line:",
    "one word": "Hello",
    "only numbers": "12 * 12 =",
}
"""Messages that stay unchanged."""

BAD: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (the model's text, the message, the rules that changed it)
    "task": ("Task: Write a poem about rain.", "Write a poem about rain.", ("label",)),
    "numbered task": ("Task 3: Write a poem about rain.", "Write a poem about rain.", ("label",)),
    "numbered question": ("Question 3: What is a lake?", "What is a lake?", ("label",)),
    "part": ("Part 2: Explain how rain forms.", "Explain how rain forms.", ("label",)),
    "Q1": ("Q1. What is a lake?", "What is a lake?", ("label",)),
    "Q": ("Q: What is a lake?", "What is a lake?", ("label",)),
    "instruction": ("Instruction: List three lakes.", "List three lakes.", ("label",)),
    "a section for the instruction": ("### Instruction:\nList three lakes.", "List three lakes.", ("label",)),
    "a bold label": ("**Question:** What is a lake?", "What is a lake?", ("label",)),
    "a bold label with its colon outside": ("**Task 1**: Write a poem.", "Write a poem.", ("label",)),
    "a label as a heading": ("## Question 3\n\nWhat is a lake?", "What is a lake?", ("label",)),
    "a label on a line of its own": (
        "Task:\n\nWrite a poem.\nMake it rhyme.",
        "Write a poem.\nMake it rhyme.",
        ("label",),
    ),
    "a Chinese label": ("问题：什么是湖？", "什么是湖？", ("label",)),
    "an Arabic label": ("السؤال: ما هي البحيرة؟", "ما هي البحيرة؟", ("label",)),
    "a Spanish label": ("Pregunta: ¿Qué es un lago?", "¿Qué es un lago?", ("label",)),
    "a label before a text with code": (
        "Task: Fix this code.\n\n```\nTask: x\n```",
        "Fix this code.\n\n```\nTask: x\n```",
        ("label",),
    ),
    "a number": ("3. What is a lake?", "What is a lake?", ("number",)),
    "a bold number": ("**1.** What is a lake?", "What is a lake?", ("number",)),
    "a number in bold": ("**1. What is a lake?**", "What is a lake?", ("wrapping", "number")),
    "a number in parentheses": (
        "(2) A farmer has 12 sheep. All but 9 die. How many are left?",
        "A farmer has 12 sheep. All but 9 die. How many are left?",
        ("number",),
    ),
    "a number without a space": ("1.What is a lake?", "What is a lake?", ("number",)),
    "a Chinese number": ("1、请写一首诗。", "请写一首诗。", ("number",)),
    "a bullet": ("- What is a lake?", "What is a lake?", ("number",)),
    "a number and a label": ("1. Question: What is a lake?", "What is a lake?", ("label", "number")),
    "a heading": ("# Write a function that adds two numbers.", "Write a function that adds two numbers.", ("heading",)),
    # Around the entire text.
    "quotes": ('"What is a lake?"', "What is a lake?", ("wrapping",)),
    "curly quotes": ("“What is a lake? Don't hold back.”", "What is a lake? Don't hold back.", ("wrapping",)),
    "single quotes": ("'What's a lake, and where's one?'", "What's a lake, and where's one?", ("wrapping",)),
    "guillemets": ("«Что такое озеро?»", "Что такое озеро?", ("wrapping",)),
    "corner brackets": ("「湖とは何ですか？」", "湖とは何ですか？", ("wrapping",)),
    "bold": ("**What is a lake?**", "What is a lake?", ("wrapping",)),
    "italics": ("*What is a lake?*", "What is a lake?", ("wrapping",)),
    "bold and quotes": ('**"What is a lake?"**', "What is a lake?", ("wrapping",)),
    "a bold label and text": ("**Task: Write a poem.**", "Write a poem.", ("wrapping", "label")),
    "the b tag": ("<b>What is a lake?</b>", "What is a lake?", ("wrapping",)),
    "a lone b tag": ("<b>What is a lake?", "What is a lake?", ("wrapping",)),
    "the b tag with a payload": (
        "<b>Summarise the following text:\nThe cat sat on the mat.</b>",
        "Summarise the following text:\nThe cat sat on the mat.",
        ("wrapping",),
    ),
    "nested tags": ("<p><strong>What is a lake?</strong></p>", "What is a lake?", ("wrapping",)),
    "line breaks in HTML": ("What is a lake?<br><br>", "What is a lake?", ("wrapping",)),
    "an unclosed quote": ('"What is a lake?', "What is a lake?", ("wrapping",)),
    "an unopened quote": ('What is a lake?"', "What is a lake?", ("wrapping",)),
    "unclosed bold": ("**What is a lake?", "What is a lake?", ("wrapping",)),
    "unopened bold": ("What is a lake?**", "What is a lake?", ("wrapping",)),
    # The template, written out.
    "a role of Llama": (
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is a lake?",
        "What is a lake?",
        ("role_header",),
    ),
    "a role of ChatML": (
        "<|im_start|>user\nWhat is a lake?<|im_end|>",
        "What is a lake?",
        ("role_header", "next_turn"),
    ),
    "a role of Gemma": ("<bos><start_of_turn>user\nWhat is a lake?", "What is a lake?", ("role_header",)),
    "a role of Mistral": ("<s> [INST] What is a lake? [/INST]", "What is a lake?", ("role_header", "next_turn")),
    "the bare word user": ("user\n\nWhat is a lake?", "What is a lake?", ("role_header",)),
    "user with a colon": ("User: What is a lake?", "What is a lake?", ("label",)),
    "human with a colon": (
        "Human: What is a lake?\n\nAssistant: A body of water.",
        "What is a lake?",
        ("own_answer", "label"),
    ),
    "the next turn": (
        "What is a lake?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA lake is water.",
        "What is a lake?",
        ("next_turn",),
    ),
    "the next turn of Gemma": (
        "What is a lake?<end_of_turn>\n<start_of_turn>model\nWater.",
        "What is a lake?",
        ("next_turn",),
    ),
    "the next turn of Phi-3": ("What is a lake?\n<|assistant|>\nWater.", "What is a lake?", ("next_turn",)),
    "the end of Mistral's turn": ("What is a lake? [/INST] Water.", "What is a lake?", ("next_turn",)),
    "the bare word assistant": ("What is a lake?\nassistant\n\nA lake is water.", "What is a lake?", ("own_answer",)),
    "the word assistant, glued": (
        "What is a lake?assistant\n\nA lake is water.",
        "What is a lake?",
        ("own_answer",),
    ),
    "the bare word model": ("What is a lake?\nmodel\nA lake is water.", "What is a lake?", ("own_answer",)),
    # The model's own answer.
    "an answer": ("What is 2 + 2?\n\nAnswer: 4", "What is 2 + 2?", ("own_answer",)),
    "an answer on the next line": ("What is 2 + 2?\nAnswer: 4", "What is 2 + 2?", ("own_answer",)),
    "an answer after a label": ("Question: What is 2 + 2?\nAnswer: 4", "What is 2 + 2?", ("own_answer", "label")),
    "a bold answer": ("What is 2 + 2?\n\n**Answer:** 4", "What is 2 + 2?", ("own_answer",)),
    "a correct answer": ("What is 2 + 2?\n\nCorrect answer: 4", "What is 2 + 2?", ("own_answer",)),
    "the answer in a sentence": ("What is 2 + 2?\n\nThe answer is 4.", "What is 2 + 2?", ("own_answer",)),
    "an explanation": (
        "Why is the sky blue?\n\nExplanation: Light is scattered.",
        "Why is the sky blue?",
        ("own_answer",),
    ),
    "a solution": (
        "Solve 2x + 3 = 7.\n\nSolution: Subtract 3.\n\nThen 2x = 4, so x = 2.",
        "Solve 2x + 3 = 7.",
        ("own_answer",),
    ),
    "an answer to a Q": ("Q: What is 2 + 2?\nA: 4", "What is 2 + 2?", ("own_answer", "label")),
    "a heading for question and answer": (
        "### Question\nWhat is DNA?\n\n### Answer\nA molecule.",
        "What is DNA?",
        ("own_answer", "label"),
    ),
    "bold labels for both": (
        "**Question:** What is DNA?\n**Answer:** A molecule.",
        "What is DNA?",
        ("own_answer", "label"),
    ),
    "an answer in capitals": ("What is 2 + 2?\n\nANSWER: 4", "What is 2 + 2?", ("own_answer",)),
    "an answer in Arabic": ("ما هي عاصمة مصر؟\n\nالإجابة: القاهرة", "ما هي عاصمة مصر؟", ("own_answer",)),
    "an answer in Spanish": ("¿Qué es un lago?\n\nRespuesta: Agua.", "¿Qué es un lago?", ("own_answer",)),
    "a solution after an equation": (
        "Solve the following equation:\n2x + 3 = 7\n\nSolution: Subtract 3 from both sides.",
        "Solve the following equation:\n2x + 3 = 7",
        ("own_answer",),
    ),
    "a response of Alpaca": (
        "List three lakes.\n\n### Response:\n1. Como\n2. Garda\n3. Iseo",
        "List three lakes.",
        ("own_answer",),
    ),
    "a response after its instruction": (
        "### Instruction:\nList three lakes.\n\n### Response:\nComo, Garda, Iseo",
        "List three lakes.",
        ("own_answer", "label"),
    ),
    "an assistant": ("What is a lake?\n\nAssistant: A lake is water.", "What is a lake?", ("own_answer",)),
    "steps": (
        "Evaluate the integral of x^2 from 0 to 1.\n\n## Step 1: Find the antiderivative\nIt is x^3/3.\n\n## "
        "Step 2: Done",
        "Evaluate the integral of x^2 from 0 to 1.",
        ("own_answer",),
    ),
    "steps after code": (
        "Why does this fail?\n```\n1/0\n```\n## Step 1: Read the code\nIt divides by 0.",
        "Why does this fail?\n```\n1/0\n```",
        ("own_answer",),
    ),
    "steps step by step": (
        "Find x if 3x = 12. Explain step by step.\n\n# Step 1\nDivide by 3.",
        "Find x if 3x = 12. Explain step by step.",
        ("own_answer",),
    ),
    "an eager reply": (
        "Write a haiku about rain.\n\nSure! Here is one:\n\nDrops",
        "Write a haiku about rain.",
        ("own_answer",),
    ),
    "an answer with an offer": (
        "What is 2 + 2?\n\nAnswer: 4. Would you like to know more?",
        "What is 2 + 2?",
        ("own_answer",),
    ),
    "an answer that was only announced": ("What is 2 + 2?\n\nAnswer:", "What is 2 + 2?", ("own_answer",)),
    "an answer in German": ("Was ist ein See?\n\nAntwort: Ein Gewässer.", "Was ist ein See?", ("own_answer",)),
    "an answer in Chinese": ("什么是湖？\n\n答案：湖是水体。", "什么是湖？", ("own_answer",)),
    "an answer after several questions": (
        "Who wrote Emma? When?\nIs it good?\n\nAnswer: Jane Austen, 1815, yes.",
        "Who wrote Emma? When?\nIs it good?",
        ("own_answer",),
    ),
    "an answer with code": (
        "Write a function that adds two numbers.\n\nSolution:\n```python\ndef add(a, b):\n    return a + b\n```",
        "Write a function that adds two numbers.",
        ("own_answer",),
    ),
    # Layout.
    "a line below": ("What is a lake?\n\n---", "What is a lake?", ("separator",)),
    "stars below": ("What is a lake?\n* * *", "What is a lake?", ("separator",)),
    "a line above": ("---\n\nWhat is a lake?", "What is a lake?", ("separator",)),
    "an empty heading": ("What is a lake?\n\n##", "What is a lake?", ("separator",)),
    "an empty fence": ("Write a loop in C.\n\n```c", "Write a loop in C.", ("separator",)),
    "a leading colon": (": What is a lake?", "What is a lake?", ("separator",)),
    "control characters": (
        "What\x00 is\x08 a\x1b lake?\r\nTell me.",
        "What is a lake?\nTell me.",
        ("control_characters",),
    ),
    "a form feed": ("What is\x0ca lake?", "What is a lake?", ("control_characters",)),
    "a byte order mark": ("\ufeffWhat is a lake?", "What is a lake?", ("control_characters",)),
    "blank lines": ("What is a lake?\n\n\n\n\nAnd a pond?", "What is a lake?\n\nAnd a pond?", ("blank_lines",)),
    "blank lines around code": (
        "Look:\n\n\n\n\nHere:\n\n```\na\n\n\n\n\nb\n```",
        "Look:\n\nHere:\n\n```\na\n\n\n\n\nb\n```",
        ("blank_lines",),
    ),
    "everything at once": (
        '1. **Task:** "Summarise the following text:\n\nThe cat sat."\n\n---',
        "Summarise the following text:\n\nThe cat sat.",
        ("separator", "wrapping", "label", "number"),
    ),
}
"""By case: the text, the message in it, and the rules that apply."""
