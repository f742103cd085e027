"""Wordings of a multiple-choice question with a reasoned answer: {question}, {options}, {reasoning} and {answer}."""

ALONE = (
    "{question}\n{options}\n{reasoning}\nSo the answer is {answer}",
    "{question}\n{options}\n{reasoning} Answer: {answer}",
    "{question} Think before you choose.\n{options}\n{reasoning}\nChoice: {answer}",
    "{question} Give reasons for your choice.\n{options}\nReasons: {reasoning}\nChoice: {answer}",
    "Question: {question}\n{options}\nThoughts: {reasoning}\nAnswer: {answer}",
    "Question: {question}\n{options}\nReasoning: {reasoning}\nAnswer: {answer}",
    "Question: {question}\n{options}\nAnswer: {answer}\nBecause: {reasoning}",
    "Q: {question}\n{options}\nA: {reasoning} Thus {answer}",
    "Q: {question}\n{options}\nA: {answer}\nWhy? {reasoning}",
    "QUESTION: {question}\n{options}\nSTEPS: {reasoning}\nANSWER: {answer}",
    "**Question:** {question}\n{options}\n**Reasoning:** {reasoning}\n**Answer:** {answer}",
    "### Question\n{question}\n{options}\n### Reasoning\n{reasoning}\n### Answer\n{answer}",
    "### Instruction:\n{question}\n{options}\nShow your reasoning.\n\n### Response:\n{reasoning}\n{answer}",
    "Problem: {question}\n{options}\nWorking: {reasoning}\nSolution: {answer}",
    "Test item: {question}\n{options}\nComment: {reasoning}\nKey: {answer}",
    "Multiple choice with an explanation: {question}\n{options}\n{reasoning}\nRight: {answer}",
    "{question}\n{options}\nFirst we consider this: {reasoning}\nWe choose {answer}",
    "{question}\n{options}\nThe right one is {answer}. Explanation: {reasoning}",
    "{question}\n{options}\nOne step after the other: {reasoning}\nIn the end: {answer}",
    "{options}\nOne of these answers the question. {question}\n{reasoning}\nIt is {answer}",
    "Input: {question}\n{options}\nChain of thought: {reasoning}\nOutput: {answer}",
    "Choose and explain. {question}\n{options}\nChosen: {answer}\nExplained: {reasoning}",
    "Rule the wrong options out. {question}\n{options}\n{reasoning}\nLeft: {answer}",
    "Please reason aloud. {question}\n{options}\n{reasoning}\nFinal answer: {answer}",
)
"""Wordings that do not need the text."""
INVERTED = (
    "Key: {answer}\nComment: {reasoning}\nTest item: {question}\n{options}",
    "{reasoning} So {answer} was right. The question was: {question}\n{options}",
    "Answer: {answer}\nReasoning: {reasoning}\nQuestion: {question}\n{options}",
)
"""The same, with the answer first."""
ABOUT_TEXT = (
    "Which option follows from the text? {question}\n{options}\n{reasoning}\nSo: {answer}",
    "{question}\n{options}\nThe text gives us this: {reasoning}\nThe option that fits is {answer}",
    "{question} Support your choice from the passage.\n{options}\n{answer}. Support: {reasoning}",
    "Reading test: {question}\n{options}\nWhat the text says: {reasoning}\nRight answer: {answer}",
    "Use the passage and reason. {question}\n{options}\n{reasoning}\nThat makes it {answer}",
    "Question on the passage: {question}\n{options}\nEvidence: {reasoning}\nConclusion: {answer}",
    "{question} Combine what you have read.\n{options}\n{reasoning}\nAnswer: {answer}",
    "Think the text through. {question}\n{options}\n{reasoning}\nFinally: {answer}",
)
"""Wordings that mention the text."""
