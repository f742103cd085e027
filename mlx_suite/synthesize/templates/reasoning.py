"""Wordings of a question with a reasoned answer: slots {question}, {reasoning} and {answer}."""

ALONE = (
    "{question}\n{reasoning}\nSo the answer is {answer}",
    "{question}\n{reasoning} Answer: {answer}",
    "{question} Think before you answer.\n{reasoning}\nAnswer: {answer}",
    "{question} Explain how you get there.\n{reasoning}\nThis gives {answer}",
    "Question: {question}\nThoughts: {reasoning}\nAnswer: {answer}",
    "Question: {question}\nReasoning: {reasoning}\nAnswer: {answer}",
    "Question: {question}\nAnswer: {answer}\nBecause: {reasoning}",
    "Q: {question}\nA: {reasoning} Thus {answer}",
    "Q: {question}\nA: {answer}\nWhy? {reasoning}",
    "QUESTION: {question}\nSTEPS: {reasoning}\nANSWER: {answer}",
    "**Question:** {question}\n**Reasoning:** {reasoning}\n**Answer:** {answer}",
    "### Question\n{question}\n### Reasoning\n{reasoning}\n### Answer\n{answer}",
    "### Instruction:\n{question} Show your reasoning.\n\n### Response:\n{reasoning}\n{answer}",
    "<question>{question}</question>\n<think>{reasoning}</think>\n<answer>{answer}</answer>",
    "Problem: {question}\nWorking: {reasoning}\nSolution: {answer}",
    "Task: {question}\nFirst the reasons: {reasoning}\nThen the result: {answer}",
    "Work it out: {question}\n{reasoning}\nResult: {answer}",
    "{question} One step at a time.\n{reasoning}\nIn the end: {answer}",
    "{question} Say why.\n{answer}, for this reason: {reasoning}",
    "{question}\n{answer}\nThe explanation: {reasoning}",
    "{question}\nWe know this: {reasoning}\nHence {answer}",
    "Here is something to think about: {question}\n{reasoning}\nConclusion: {answer}",
    "Input: {question}\nChain of thought: {reasoning}\nOutput: {answer}",
    "Please reason aloud. {question}\n{reasoning}\nFinal answer: {answer}",
)
"""Wordings that do not need the text."""
INVERTED = (
    "Answer: {answer}\nReasoning: {reasoning}\nQuestion: {question}",
    "{reasoning} The answer was {answer}. What was the question?\n{question}",
    "Find the question that leads to these thoughts: {reasoning}\nand to this answer: {answer}\n{question}",
)
"""The same, with the answer first."""
ABOUT_TEXT = (
    "Draw on the text and reason: {question}\n{reasoning}\nSo: {answer}",
    "{question}\nThe text gives us this: {reasoning}\nIt follows that the answer is {answer}",
    "{question} Support the answer from the passage.\n{answer}. Support: {reasoning}",
    "A question that needs more than one look at the text: {question}\n{reasoning}\nAnswer: {answer}",
    "Explain with the passage: {question}\n{reasoning}\nThat makes {answer}",
    "Question on the passage: {question}\nEvidence: {reasoning}\nConclusion: {answer}",
    "{question} Combine what you have read.\n{reasoning}\nAnswer: {answer}",
    "Think the text through. {question}\n{reasoning}\nFinally: {answer}",
)
"""Wordings that mention the text."""

REQUESTS = (
    "Think step by step.",
    "Explain your answer.",
    "Give your reasons first.",
    "Reason before you answer.",
    "Show how you know.",
    "Walk me through it.",
    "Take it slowly, one thought after another.",
    "How did you find out?",
    "Please justify the answer.",
    "Tell me the steps.",
    "Begin with what is known.",
    "Spell out the reasoning.",
)
"""Sentences that ask for reasoning, after a question in a dialogue, a list or a few-shot prompt."""
CONCLUSIONS = (
    "{reasoning} So the answer is {answer}.",
    "{reasoning} Therefore: {answer}",
    "{reasoning} That is why it is {answer}.",
    "{reasoning}\nAnswer: {answer}",
    "{reasoning}\nIn conclusion, {answer}",
    "{reasoning} Hence {answer}.",
    "{answer}, because of this: {reasoning}",
    "{answer}. My reasons: {reasoning}",
    "It is {answer}. {reasoning}",
    "{reasoning} => {answer}",
)
"""Reasoned answers in a dialogue, a list or a few-shot prompt: slots {reasoning} and {answer}."""
