"""Valid inputs, from which mutations are made."""

from typing import Any

ROWS: list[dict[str, Any]] = [
    {"instruction": "Name a colour.", "input": "", "output": "Red."},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}], "tools": []},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
    {"prompt": "Two plus two?", "completion": "Four."},
    {"text": "A plain text."},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
]
CSV = b'instruction,output\nName a colour.,"Red, or blue."\nName a day.,Monday\n'

READING: list[dict[str, Any]] = [
    {
        "title": "Ann",
        "paragraphs": [
            {
                "context": "Ann lives in Oslo.",
                "qas": [{"id": "1", "question": "Where does Ann live?", "answers": [{"text": "Oslo"}]}],
            }
        ],
    },
    {"context": "Ann lives in Oslo.", "question": "Where?", "answers": {"text": ["Oslo"], "answer_start": [13]}},
    {
        "question": "Who?",
        "answer": "Ann",
        "context": [["Oslo", ["Ann lives here.", "It rains."]], ["Rome", ["Bob lives here."]]],
        "supporting_facts": [["Oslo", 0]],
    },
    {
        "question": "Who?",
        "answer": "Ann",
        "context": {"title": ["Oslo"], "sentences": [["Ann lives here."]]},
        "supporting_facts": {"title": ["Oslo"], "sent_id": [0]},
    },
    {
        "question": "A shelf has 3 books. How many has it?",
        "options": ["A)3", "B)4"],
        "rationale": "It is stated. Answer: A",
        "correct": "A",
    },
    {"text": "A text.", "pairs": [{"question": "Q?", "answer": "a", "options": ["a", "b"], "reasoning": "So."}]},
    {"text": "A text.", "rewrite": {"form": "toddler", "text": "Simple."}},
]
"""Rows of SQuAD, HotpotQA, AQuA and our own form."""

QUESTIONS: dict[str, Any] = {
    "listening": "Yes?",
    "questions": [
        {"name": "category", "about": "instruction", "text": "Category?", "labels": ["Math", "Coding"]},
        {"name": "quality", "about": "answer", "text": "Is it good?", "labels": ["no", "yes"]},
    ],
}

RECIPE = (
    "model: tiny-llama3\ndata: rows.jsonl\nmethod: lora\nrank: 8\nlearning_rate: 1.0e-4\nsteps: 10\nbatch: 4\n"
    "layers: [0, 1]\nprompts: [Hi, Bye]\nsampling:\n  temperature: 0.7\n  stop: [END]\n"
)
PRETRAIN_RECIPE = (
    "data:\n  - path: a.txt\n    weight: 2\nconfig:\n  model_type: llama\n  hidden_size: 64\n"
    "tokenizer: tiny-llama3\nsteps: 10\nlength: 64\nlearning_rate: 1e-3\n"
)
