"""A tiny task folder of lm_eval's kind, and what a plain computation says its scores are."""

import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workloads import MaskBundle

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}, train: shots.jsonl}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: answers
doc_to_target: right
fewshot_config: {{sampler: first_n}}
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 3.5}}
"""
TEXT = """
task: tiny_text
dataset_path: json
dataset_kwargs: {data_files: {test: data/pages.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: page
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""
QUESTIONS = [
    {"question": "the cat sat on", "answers": ["a mat", "the dog ran", "one"], "right": 0},
    {"question": "a dog ran to see", "answers": ["what a cat can do", "mat"], "right": 1},
    {"question": "what can the cat do", "answers": ["with", "sat on the mat and ran", "see one more"], "right": 2},
    {"question": "the dog", "answers": ["and", "the", "ran", "sat"], "right": 3},
    {"question": "one more", "answers": ["mat mat mat", "cat"], "right": 0},
]
PAGES = [
    "the cat sat on a mat",
    "the dog ran  to see\nwhat a cat can do " * 12,
    "with one more mat: caf\u00e9 \U0001f600",
]


def write_lines(path: Path, documents: list[dict]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))


def write_folder(path: Path) -> Path:
    """tiny_choice and, in a folder of its own, tiny_text."""
    write_lines(path / "questions.jsonl", QUESTIONS)
    write_lines(path / "shots.jsonl", QUESTIONS[::-1])
    (path / "choice.yaml").write_text(CHOICE.format(name="tiny_choice", data="questions.jsonl"))
    (path / "texts").mkdir()
    write_lines(path / "texts" / "data" / "pages.jsonl", [{"page": page} for page in PAGES])
    (path / "texts" / "text.yaml").write_text(TEXT)
    return path


class Plain:
    """The whole model by transformers alone, float64 log-softmax, text tokens as the tokenizer gives them."""

    def __init__(self, folder: Path, masks: MaskBundle | None = None):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for entry in masks.layers if masks else ():
            weight = self.model.get_submodule(entry.name).weight.data
            weight.mul_(torch.from_numpy(masks[entry.name].to_dense()))

    @torch.no_grad()
    def loglikelihood(self, known: list[int], wanted: list[int]) -> float:
        chances = self.model(input_ids=torch.tensor([[*known, *wanted]])).logits[0].double().log_softmax(dim=-1)
        return sum(float(chances[len(known) + n - 1, token]) for n, token in enumerate(wanted))

    def accuracies(self, questions: list[dict], prefix: str = "") -> dict[str, list[float]]:
        """Per question, whether the likeliest answer is right: by sum of log-probabilities, and by that sum per
        character."""
        right: dict[str, list[float]] = {"acc": [], "acc_norm": []}
        for question in questions:
            known = self.tokenizer(prefix + question["question"])["input_ids"]
            sums = []
            for answer in question["answers"]:
                whole = self.tokenizer(f"{prefix}{question['question']} {answer}")["input_ids"]
                sums.append(self.loglikelihood(known, whole[len(known) :]))
            norms = [total / len(answer) for total, answer in zip(sums, question["answers"], strict=True)]
            right["acc"].append(float(np.argmax(sums) == question["right"]))
            right["acc_norm"].append(float(np.argmax(norms) == question["right"]))
        return right

    def perplexities(self, pages: list[str], context: int) -> dict[str, float]:
        """exp of the negative log-likelihood of all pages, each on its own behind token 0, per word and per byte."""
        total = 0.0
        for page in pages:
            ids, done = self.tokenizer(page)["input_ids"], 0
            while done < len(ids):
                end = min(done + context, len(ids))
                known = ids[max(0, end - context - 1) : done] if done else [0]
                total += self.loglikelihood(known, ids[done:end])
                done = end
        words = sum(len(re.split(r"\s+", page)) for page in pages)
        size = sum(len(page.encode()) for page in pages)
        return {
            "word_perplexity": math.exp(-total / words),
            "byte_perplexity": math.exp(-total / size),
            "bits_per_byte": -total / size / math.log(2),
        }
